"""``nitro-eval``: what a distillation is worth, and what every part of it is for."""
