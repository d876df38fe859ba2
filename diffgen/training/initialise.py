"""Starting from the weights of another model, whose classes or size may differ."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from diffgen.config.base import token_grid
from diffgen.config.positions import Positions, RPE2DConfig
from diffgen.config.source import resolve
from diffgen.errors import UserError
from diffgen.models.released import load_released

COUNTED = {"trained_grid", "range_rows", "range_columns"}  # what they come to is compared
OUTPUT = ("final_layer.linear.weight", "final_layer.linear.bias")


@dataclass(frozen=True)
class Adopted:
    """What happened to the weights."""

    taken: int
    """Tensors copied."""
    reinitialised: list[str]
    """Tensors of the new model that the source lacks or has in another shape."""
    unused: list[str]
    """Tensors of the source the new model has no place for."""


@torch.no_grad()
def adopt_weights(model: nn.Module, source: str) -> Adopted:
    """Copy every tensor of ``source`` that fits by name and shape into ``model``.

    Of an output that has a second half beside the prediction (a learned variance, or what released
    SiTs leave untrained) the first half is taken where ``model`` has none.

    Raises:
        UserError: the source is none, or less than half of it fits.
    """
    stored, own = stored_weights(source), model.state_dict()
    for name in OUTPUT:
        if name in stored and name in own and len(stored[name]) == 2 * len(own[name]):
            stored[name] = stored[name][: len(own[name])]  # channels come first
    fits = [name for name in own if name in stored and stored[name].shape == own[name].shape]
    if 2 * len(fits) < min(len(own), len(stored)):  # another depth is no reason
        raise UserError(
            f"init: only {len(fits)} of {len(stored)} tensors of {source} fit this model; give the "
            "model settings it was trained with, which stand in the config.yaml of its run, or in "
            "the finetune.yaml of a converted model"
        )
    for name in fits:
        own[name].copy_(stored[name])
    missing = [name for name in own if name not in fits]
    return Adopted(len(fits), missing, [name for name in stored if name not in own])


def moved_positions(position: Positions, grid: tuple[int, int], source: str) -> Iterator[str]:
    """How the tokens of images of ``grid`` tokens are placed otherwise than ``source`` places them.

    Raises:
        UserError: the source is none.
    """
    found = resolve(source, "init")
    before, token = found.position, found.factor * found.patch_size
    if position.kind != before.kind:
        yield f"its positional encoding was {before.kind}, now it is {position.kind}"
        return
    stated = before.model_dump()
    for name, value in position.model_dump(exclude=COUNTED).items():
        if value != stated[name]:
            yield f"its position.{name} was {stated[name]}, now it is {value}"
    if position.kind == "none":
        return
    first = before.trained(token_grid(found.sample_size, token))
    now = position.trained(grid)
    if first != now:
        yield (
            "its positional encoding counts from {0}x{1} tokens, now from {2}x{3}; as before: "
            "--model.position.trained-grid {0}x{1}"
        ).format(*first, *now)
    if isinstance(position, RPE2DConfig) and isinstance(before, RPE2DConfig):
        kept = position.model_copy(update={"trained_grid": None}).ranges(first)
        drawn = before.ranges(first)
        if drawn != kept:
            yield (
                "its positions are drawn from {0}x{1}, now from {2}x{3}; as before: "
                "--model.position.range-rows {0} --model.position.range-columns {1}"
            ).format(*drawn, *kept)


def stored_weights(source: str) -> dict[str, Tensor]:
    """The transformer's weights of a run folder, a pipeline folder or a hub id.

    Raises:
        UserError: it is none, or its weights cannot be read.
    """
    found = resolve(source, "init")
    folder = found.pipeline / "transformer"
    if found.diffusers:
        return dict(load_released(folder).state_dict())
    stored: dict[str, Tensor] = {}
    try:
        for file in sorted(folder.glob("*.safetensors")):
            stored.update(load_file(file))
    except (OSError, SafetensorError) as error:
        raise UserError(f"init: the weights in {folder} cannot be read: {error}") from None
    return stored
