"""The walk from noise to images over a diffusers scheduler."""
