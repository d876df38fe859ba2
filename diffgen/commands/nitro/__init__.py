"""``nitro``: from a trained model to one that draws in one step."""
