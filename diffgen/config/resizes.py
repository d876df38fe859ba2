"""Names of the ways to bring a picture to a network's size; diffgen/metrics/resizes.py does it."""

from typing import Literal

Resize = Literal[
    "tf1_bilinear",
    "torch_bilinear",
    "torch_bilinear_antialias",
    "torch_bicubic_antialias",
    "pil_bicubic",
]
"""tf1_bilinear: TensorFlow 1's, as ADM's evaluator and torch-fidelity; torch_bilinear: torch's, as
pytorch-fid; torch_bilinear_antialias: as torchmetrics by default; torch_bicubic_antialias: as EDM2
for DINOv2; pil_bicubic: as clean-fid."""
