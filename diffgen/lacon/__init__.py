"""LaCon (Liu et al. 2023): late constraints that steer a trained model by its own features."""

from diffgen.lacon.aligner import Aligner
from diffgen.lacon.conditions import Condition
from diffgen.lacon.load import load_aligner
from diffgen.lacon.losses import Aligned, Inpaint, LowResolution
from diffgen.lacon.named import condition_named

__all__ = [
    "Aligned",
    "Aligner",
    "Condition",
    "Inpaint",
    "LowResolution",
    "condition_named",
    "load_aligner",
]
