"""Published checkpoints of DiT, SiT, FiT and FiTv2, and diffusers' DiT, in and out."""

from diffgen.models.released.load import load_released
from diffgen.models.released.save import released_weights

__all__ = ["load_released", "released_weights"]
