"""A network whose features are compared, and the facts that must stand beside its figures."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffgen.data.pixels import from_uint8
from diffgen.errors import UserError
from diffgen.metrics.reader import MIN_SIDE, NUM_FEATURES, load_reader


@dataclass(frozen=True, eq=False)
class Extractor:
    """Pictures (B, 3, H, W) uint8 -> features (B, num_features) float32, both on ``device``."""

    name: str
    num_features: int
    weights_sha256: str
    """Of the file the weights came from."""
    preprocessing: str
    network: Callable[[Tensor], Tensor]
    device: torch.device
    classify: Callable[[Tensor], Tensor] | None = None
    """Features (N, num_features) -> the reader's classes (N,) int64; None: it names none."""
    min_side: int = 1
    """Smallest height and width it can read [pixels]."""

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Features of ``images`` (B, 3, H, W) uint8, on any device.

        Raises:
            ValueError: another dtype or shape.
            UserError: the features are not finite.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(
                f"images must be (B, 3, H, W) uint8, got {images.dtype} {tuple(images.shape)}"
            )
        # Figures must not depend on a GPU's short-cut for convolutions.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            features = self.network(images.to(self.device))
        if not bool(features.isfinite().all()):
            raise UserError(f"extractor: {self.name} gave NaN or infinity; its weights are damaged")
        return features

    def facts(self) -> dict[str, Any]:
        """What to print and save beside every figure."""
        return {
            "name": self.name,
            "weights_sha256": self.weights_sha256,
            "num_features": self.num_features,
            "preprocessing": self.preprocessing,
        }


def load_extractor(
    name: str = "reader", weights: Path | None = None, device: torch.device | str = "cpu"
) -> Extractor:
    """An extractor by name: ``reader``, ``inception`` or a timm model.

    Args:
        name: which.
        weights: its weights' file; None: shipped (reader), or downloaded by name.
        device: where to compute.

    Raises:
        UserError: no such extractor, weights that do not fit it, or no connection for them.
    """
    place = torch.device(device)
    match name:
        case "reader":
            return embedded_reader(place)
        case "inception":
            from diffgen.metrics.inception import inception

            return inception(weights, place)
        case _:
            from diffgen.metrics.timm_model import timm_model

            return timm_model(name, weights, place)


def embedded_reader(device: torch.device) -> Extractor:
    """diffgen's own reader, which alone knows the classes of shapes and digits."""
    reader = load_reader(device)
    stored = resources.files("diffgen.metrics").joinpath("reader.safetensors").read_bytes()

    def features(images: Tensor) -> Tensor:
        return reader(from_uint8(images)).features

    @torch.no_grad()
    def classify(features: Tensor) -> Tensor:
        return reader.classify(features.to(device)).argmax(dim=1).cpu()

    return Extractor(
        name="reader",
        num_features=NUM_FEATURES,
        weights_sha256=sha256(stored).hexdigest(),
        preprocessing="x / 127.5 - 1 at the picture's own size",
        network=features,
        device=device,
        classify=classify,
        min_side=MIN_SIDE,
    )
