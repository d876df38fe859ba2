"""Conventions that published figures follow, each under one name.

A figure means something only beside the resize, the network, the counts and the rules it was
taken by; a profile fixes them all. Sources: ``adm``, guided-diffusion's ``evaluator.py``;
``clean``, clean-fid (Parmar et al. 2022); ``edm2``, EDM2's ``calculate_metrics.py`` (Karras et
al. 2024); ``dgm``, dgm-eval (Stein et al. 2023), which differs for pictures that are not square:
it stretches them, here they are cropped as timm does. Both of the last two see pictures through
DINOv2 at 224 pixels.
"""

from typing import Any, Literal

ProfileName = Literal["adm", "clean", "edm2", "dgm", "embedded"]
DINOV2 = "vit_large_patch14_dinov2.lvd142m"
EMBEDDED: dict[str, Any] = {
    "extractor": "reader",
    "resize": None,
    "image_size": None,
    "further": [],
    "num_images": 512,
    "floor": True,
    "k": 3,
    "density_k": 5,
    "rule": "adm",
    "manifold_images": None,
    "splits": "shuffled",
    "labels": "auto",
}
PUBLISHED: dict[str, Any] = {**EMBEDDED, "num_images": 50_000, "labels": "random", "floor": False}
INCEPTION = {"extractor": "inception", "resize": "tf1_bilinear"}


def profile_settings(name: ProfileName) -> dict[str, Any]:
    """The fields of an evaluation that a profile fixes, with their values."""
    match name:
        case "adm":
            return {**PUBLISHED, **INCEPTION, "splits": "in_order"}
        case "clean":
            return {**PUBLISHED, "extractor": "inception", "resize": "pil_bicubic"}
        case "edm2":
            dino = {"name": DINOV2, "resize": "torch_bicubic_antialias", "image_size": 224}
            return {**PUBLISHED, **INCEPTION, "further": [dino]}
        case "dgm":
            dino = {"extractor": DINOV2, "resize": None, "image_size": 224}
            strict = {"k": 5, "density_k": 5, "rule": "strict", "manifold_images": 10_000}
            return {**PUBLISHED, **dino, **strict}
        case "embedded":
            return EMBEDDED


FREE = ("num_images", "floor")
"""Fields of a profile that may differ, because every figure states them."""
