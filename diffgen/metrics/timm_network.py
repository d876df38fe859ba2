"""A timm model with its weights, from a file or the hub."""

import difflib
from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers import PatchEmbed
from torch import Tensor

from diffgen.errors import UserError
from diffgen.metrics.dinov2 import dinov2_positions
from diffgen.metrics.weights import mismatch, read_weights


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


def build(name: str, settings: Any, path: Path, image_size: int | None) -> Any:
    """The model with the weights of ``path``, all of them; frozen, in evaluation mode.

    It is an nn.Module with timm's ``forward_features`` and ``forward_head``.

    Raises:
        UserError: the weights are of another model or cannot be brought to this image size, or
            its patches do not divide it.
    """
    state = read_weights(path)
    # With as many classes as the checkpoint has timm loads strictly; it passes over what is
    # missing otherwise.
    heads = [settings.classifier] if isinstance(settings.classifier, str) else settings.classifier
    head = state.get(f"{heads[0]}.weight") if heads else None
    num_classes = 0 if head is None else len(head)
    overlay = {"state_dict": state, "num_classes": num_classes, "label_offset": 0}
    side = image_size if settings.fixed_input_size else None  # others take any
    try:
        model = timm.create_model(
            name,
            pretrained=True,
            pretrained_cfg_overlay=overlay,
            num_classes=num_classes,
            **({} if side is None else {"img_size": side}),
        )
    except (RuntimeError, ValueError, KeyError, AttributeError, AssertionError) as error:
        where = name if side is None else f"{name} at image_size {side}"
        raise mismatch(path, where, error) from None
    if side is not None and isinstance(getattr(model, "patch_embed", None), PatchEmbed):
        fit_patches(name, model, state, side)
    return model.requires_grad_(False).eval()


def fit_patches(name: str, model: Any, state: dict[str, Tensor], image_size: int) -> None:
    """Check that patches fill the image, and give DINOv2 the positions of its own code.

    Raises:
        UserError: they do not.
    """
    patch = max(model.patch_embed.patch_size)
    if image_size % patch:
        raise UserError(
            f"image_size: {name} sees patches of {patch} pixels a side, which do not divide "
            f"{image_size}"
        )
    if name.partition(".")[0].endswith("patch14_dinov2"):  # those with registers do as timm does
        with torch.no_grad():
            model.pos_embed.copy_(dinov2_positions(state["pos_embed"], image_size // patch))
