"""Joint generation of an image and its condition by one frozen model with adapters (UniCon)."""
