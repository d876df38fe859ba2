"""Any timm model as an extractor: its pooled features, preprocessed as its data config says."""

import difflib
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import create_transform, resolve_model_data_config
from torch import Tensor

from diffgen.data.pixels import to_pil
from diffgen.errors import UserError
from diffgen.metrics.extractor import Extractor
from diffgen.metrics.weights import digest, mismatch, read_weights


def timm_model(name: str, weights: Path | None, device: torch.device) -> Extractor:
    """A timm model in float32.

    Args:
        name: as timm knows it, with a tag or without (``resnet50.a1_in1k``).
        weights: checkpoint of this model, with a classifier of any width or without; None:
            timm's own, from the hub.
        device: where to compute.

    Raises:
        UserError: no such model, no connection to download by, or weights of another model.
    """
    settings = pretrained_settings(name)
    path = weights or downloaded(name, settings)
    model = build(name, settings, path).to(device)
    data = resolve_model_data_config(model)
    if data["input_size"][0] != 3:
        raise UserError(f"extractor: {name} takes {data['input_size'][0]} channels, not 3")
    transform = create_transform(**data, is_training=False)

    def features(images: Tensor) -> Tensor:
        pixels = torch.stack([transform(picture) for picture in to_pil(images)]).to(device)
        return model.forward_head(model.forward_features(pixels), pre_logits=True).float()

    return Extractor(
        name=name,
        num_features=width(name, features),
        weights_sha256=digest(path),
        preprocessing=describe(data),
        network=features,
        device=device,
    )


def pretrained_settings(name: str) -> Any:
    """timm's settings of a model and its tag.

    Raises:
        UserError: timm knows no such model or tag.
    """
    model, _, tag = name.partition(".")
    if not timm.is_model(model):
        near = difflib.get_close_matches(model, timm.list_models(), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"extractor: {name} is neither reader, inception nor a timm model{hint}")
    known = timm.list_pretrained(f"{model}.*")
    if tag and name not in known:
        listed = ", ".join(known) or "none"
        raise UserError(f"extractor: timm has no weights {name}; of {model} it has {listed}")
    return timm.get_pretrained_cfg(name)


def downloaded(name: str, settings: Any) -> Path:
    """The hub's file of the weights.

    Raises:
        UserError: there are none, or they cannot be downloaded.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    repository = settings.hf_hub_id
    if not repository:
        place = f"; fetch {settings.url}, and give it" if settings.url else "; give a file of them"
        raise UserError(f"extractor: the hub has no weights of {name}{place} by --weights")
    file = settings.hf_hub_filename or "model.safetensors"
    try:
        return Path(hf_hub_download(repository, file))
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"extractor: the weights of {name} could not be downloaded ({reason}); fetch "
            f"https://huggingface.co/{repository}/resolve/main/{file} elsewhere, "
            "and give it by --weights"
        ) from None


def build(name: str, settings: Any, path: Path) -> Any:
    """The model with the weights of ``path``, all of them; frozen, in evaluation mode.

    It is an nn.Module with timm's ``forward_features`` and ``forward_head``.

    Raises:
        UserError: the weights are of another model.
    """
    state = read_weights(path)
    # With as many classes as the checkpoint has timm loads strictly; it passes over what is
    # missing otherwise.
    heads = [settings.classifier] if isinstance(settings.classifier, str) else settings.classifier
    head = state.get(f"{heads[0]}.weight") if heads else None
    num_classes = 0 if head is None else len(head)
    overlay = {"state_dict": state, "num_classes": num_classes, "label_offset": 0}
    try:
        model = timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=num_classes
        )
    except (RuntimeError, ValueError, KeyError, AttributeError, AssertionError) as error:
        raise mismatch(path, name, error) from None
    return model.requires_grad_(False).eval()


def width(name: str, features: Any) -> int:
    """Features a picture gives, found out on a black one.

    Raises:
        UserError: they are not one vector a picture.
    """
    with torch.no_grad():
        found = features(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    if found.ndim != 2:
        raise UserError(f"extractor: {name} has no pooled features, but {tuple(found.shape)}")
    return found.shape[1]


def describe(data: dict[str, Any]) -> str:
    """timm's data config in words."""
    height, wide = data["input_size"][1:]
    return (
        f"{data['interpolation']} resize (PIL) and {data['crop_mode']} crop to {height}x{wide} "
        f"with crop_pct {data['crop_pct']}, / 255, mean {tuple(data['mean'])}, "
        f"std {tuple(data['std'])}"
    )
