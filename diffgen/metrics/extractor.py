"""A network whose features are compared, and the facts that must stand beside its figures."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffgen.config.resizes import Resize
from diffgen.data.pixels import from_uint8
from diffgen.errors import UserError
from diffgen.metrics.reader import MIN_SIDE, NUM_FEATURES, READER_CLASSES, load_reader


@dataclass(frozen=True, eq=False)
class Extractor:
    """Pictures (B, 3, H, W) uint8 -> features (B, num_features) float32, both on ``device``.

    One pass may give other layers of the network too, (B, width) float32 each: see ``layers``.
    """

    name: str
    num_features: int
    weights_sha256: str
    """Of the file the weights came from."""
    preprocessing: str
    network: Callable[[Tensor], Tensor | Mapping[str, Tensor]]
    """Gives the features alone, or all ``layers`` by name."""
    device: torch.device
    class_names: tuple[str, ...] = ()
    """Of its ``logits``; none: it counts classes as the images do."""
    min_side: int = 1
    """Smallest height and width it can read [pixels]."""
    layers: Mapping[str, int] = field(default_factory=dict)
    """Name -> width of all that one pass gives. ``features`` need not be stated. Names that
    metrics know: ``spatial``, the layer of sFID; ``logits``, over classes, for the Inception
    score and class accuracy; ``embedding``, of a CLIP model, not normalised, for CMMD."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", {"features": self.num_features, **self.layers})

    def __call__(self, images: Tensor) -> Tensor:
        """Features of ``images`` (B, 3, H, W) uint8, on any device; raises as ``outputs``."""
        return self.outputs(images)["features"]

    @torch.no_grad()
    def outputs(self, images: Tensor) -> Mapping[str, Tensor]:
        """Every layer of ``images`` (B, 3, H, W) uint8, on any device, from one pass.

        Raises:
            ValueError: another dtype or shape, or a network that does not give ``layers``.
            UserError: a layer is not finite.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(
                f"images must be (B, 3, H, W) uint8, got {images.dtype} {tuple(images.shape)}"
            )
        # Figures must not depend on a GPU's short-cut for convolutions.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            found = self.network(images.to(self.device))
        if isinstance(found, Tensor):
            found = {"features": found}
        shapes = {name: tuple(layer.shape) for name, layer in found.items()}
        stated = {name: (len(images), width) for name, width in self.layers.items()}
        if shapes != stated:
            raise ValueError(f"extractor: {self.name} should give {stated}, but gave {shapes}")
        for name, layer in found.items():
            if not bool(layer.isfinite().all()):
                raise UserError(
                    f"extractor: {self.name} gave NaN or infinity as {name}; its weights are "
                    "damaged"
                )
        return found

    def facts(self) -> dict[str, Any]:
        """What to print and save beside every figure."""
        return {
            "name": self.name,
            "weights_sha256": self.weights_sha256,
            "num_features": self.num_features,
            "preprocessing": self.preprocessing,
            "layers": dict(self.layers),
        }


def load_extractor(
    name: str = "reader",
    weights: Path | None = None,
    device: torch.device | str = "cpu",
    resize: Resize | None = None,
    image_size: int | None = None,
) -> Extractor:
    """An extractor by name: ``reader``, ``inception`` or a timm model.

    Args:
        name: which.
        weights: its weights' file; None: shipped (reader), or downloaded by name.
        device: where to compute.
        resize: how pictures are brought to its size; None: as its own code does (inception:
            tf1_bilinear).
        image_size: side of the square a timm model sees [pixels]; None: its own.

    Raises:
        UserError: no such extractor, weights that do not fit it, no connection for them, or an
            option it has no use for.
    """
    place = torch.device(device)
    if name == "reader" and resize is not None:
        raise UserError(f"resize: the reader sees pictures at their own size, got {resize}")
    if name in ("reader", "inception") and image_size is not None:
        raise UserError(f"image_size: only timm models can be given one, not {name}")
    match name:
        case "reader":
            return embedded_reader(place)
        case "inception":
            from diffgen.metrics.inception import inception

            return inception(weights, place, resize or "tf1_bilinear")
        case _:
            from diffgen.metrics.timm_model import timm_model

            return timm_model(name, weights, place, image_size, resize)


def embedded_reader(device: torch.device) -> Extractor:
    """diffgen's own reader, which alone knows the classes of shapes and digits."""
    reader = load_reader(device)
    stored = resources.files("diffgen.metrics").joinpath("reader.safetensors").read_bytes()

    def network(images: Tensor) -> dict[str, Tensor]:
        seen = reader(from_uint8(images))
        return {"features": seen.features, "logits": seen.logits}

    return Extractor(
        name="reader",
        num_features=NUM_FEATURES,
        weights_sha256=sha256(stored).hexdigest(),
        preprocessing="x / 127.5 - 1 at the picture's own size",
        network=network,
        device=device,
        class_names=READER_CLASSES,
        min_side=MIN_SIDE,
        layers={"logits": len(READER_CLASSES)},
    )
