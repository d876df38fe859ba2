"""Images and labels: every source gives ``(image (3, H, W) float in [-1, 1], label int)``."""
