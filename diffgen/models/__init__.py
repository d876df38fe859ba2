"""Things with weights."""

from diffgen.models.dit import DiT
from diffgen.models.released import load_released, released_weights

__all__ = ["DiT", "load_released", "released_weights"]
