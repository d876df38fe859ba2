"""Any timm model as an extractor: its pooled features, preprocessed as its data config says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from timm.data import create_transform, resolve_data_config, resolve_model_data_config
from torch import Tensor

from diffgen.config.resizes import Resize
from diffgen.data.pixels import to_pil
from diffgen.errors import UserError
from diffgen.metrics.extractor import Extractor
from diffgen.metrics.resizes import resize as resized
from diffgen.metrics.timm_network import build, downloaded, pretrained_settings
from diffgen.metrics.weights import digest, reason


def timm_model(
    name: str,
    weights: Path | None,
    device: torch.device,
    image_size: int | None = None,
    resize: Resize | None = None,
) -> Extractor:
    """A timm model in float32, and what its head makes of the features where it has one.

    That is ``logits``, or of a CLIP image tower ``embedding``, the projected one (``clip_tower``).

    Args:
        name: as timm knows it, with a tag or without (``resnet50.a1_in1k``).
        weights: checkpoint of this model, with a classifier of any width or without; None:
            timm's own, from the hub.
        device: where to compute.
        image_size: side of the square it sees [pixels]; None: the data config's.
        resize: stretches the whole picture to that square; None: the data config's
            transform of 8-bit pictures, which keeps their shape and crops.

    Raises:
        UserError: no such model, no connection to download by, weights of another model, or an
            image size it cannot have.
    """
    settings = pretrained_settings(name)
    path = weights or downloaded(name, settings)
    model = build(name, settings, path, image_size).to(device)
    data = resolve_model_data_config(model, args={"img_size": image_size})
    if data["input_size"][0] != 3:
        raise UserError(f"extractor: {name} takes {data['input_size'][0]} channels, not 3")
    pixels = preprocessing(data, resize, device)
    head = "embedding" if clip_tower(settings, model.num_classes) else "logits"

    def network(images: Tensor) -> dict[str, Tensor]:
        maps = model.forward_features(pixels(images))
        found = {"features": model.forward_head(maps, pre_logits=True).float()}
        if model.num_classes:
            found[head] = model.forward_head(maps).float()
        return found

    layers = widths(name, network, data["input_size"][1:])
    return Extractor(
        name=name,
        num_features=layers["features"],
        weights_sha256=digest(path),
        preprocessing=describe(data, resize),
        network=network,
        device=device,
        layers=layers,
    )


def clip_tower(settings: Any, num_classes: int) -> bool:
    """Whether the head is CLIP's projection to the space of images and texts, no classifier.

    timm names them alike, ``vit_base_patch16_clip_224.openai``, ``convnext_base.clip_laion2b``,
    and marks those fine-tuned to classify by their data, ``..._ft_in1k``; a head of another width
    than the released one is a classifier too.
    """
    name = f"{settings.architecture}.{settings.tag}"
    return "clip" in name and "_ft_in" not in name and num_classes == settings.num_classes


def preprocessing(
    data: dict[str, Any], resize: Resize | None, device: torch.device
) -> Callable[[Tensor], Tensor]:
    """From images (B, 3, H, W) uint8 to what a model with this data config takes, float32."""
    if resize is None:
        transform = create_transform(**data, is_training=False)
        return lambda images: torch.stack([transform(x) for x in to_pil(images)]).to(device)
    mean, std = (torch.tensor(data[name], device=device).view(-1, 1, 1) for name in ("mean", "std"))
    size = tuple(data["input_size"][1:])
    return lambda images: (resized(images.to(device), size, resize) / 255 - mean) / std


def widths(
    name: str, network: Callable[[Tensor], dict[str, Tensor]], size: tuple[int, ...]
) -> dict[str, int]:
    """Of each layer the numbers a picture gives, found out on a black one.

    Raises:
        UserError: its features are not one vector a picture, or it does not work at this size.
    """
    try:
        with torch.no_grad():
            found = network(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    except (AssertionError, IndexError, RuntimeError, ValueError) as error:
        shape = "x".join(map(str, size))
        raise UserError(f"image_size: {name} cannot see {shape}: {reason(error)}") from None
    features = found["features"]
    if features.ndim != 2:
        raise UserError(f"extractor: {name} has no pooled features, but {tuple(features.shape)}")
    return {layer: values.shape[1] for layer, values in found.items()}


def described(name: str, image_size: int | None, resize: Resize | None) -> str:
    """The preprocessing of a model in words, without its weights; UserError: no such model."""
    settings = pretrained_settings(name).to_dict()
    return describe(resolve_data_config({"img_size": image_size}, settings), resize)


def describe(data: dict[str, Any], resize: Resize | None) -> str:
    """The preprocessing in words."""
    size = "x".join(map(str, data["input_size"][1:]))
    if resize is None:
        way = (
            f"{data['interpolation']} resize (PIL) and {data['crop_mode']} crop to {size} "
            f"with crop_pct {data['crop_pct']}"
        )
    else:
        way = f"{resize} to {size}"
    return f"{way}, / 255, mean {tuple(data['mean'])}, std {tuple(data['std'])}"
