"""The frozen teacher as the discriminator's backbone: features of re-noised images.

NitroFusion taps the encoder of a U-Net at ten places. A DiT has none: here the taps are spread
evenly over what each block's attention finds and what each block hands on.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from diffgen.config.nitro_stages import MOST_TAPS
from diffgen.models.dit import DiT
from diffgen.models.taps import tapped
from diffgen.models.tokens import grid_coords, patchify
from diffgen.processes import Process


class Place(NamedTuple):
    """Where a feature map comes from."""

    block: int
    attention: bool
    """What the block's attention found; no: what the block hands on."""


@dataclass(frozen=True)
class Box:
    """A crop [tokens]."""

    top: int
    left: int
    rows: int
    columns: int


def spread_taps(depth: int) -> list[Place]:
    """min(10, 2 depth) places of a DiT of ``depth`` blocks, the last one among them."""
    places = [Place(block, attention) for block in range(depth) for attention in (True, False)]
    count = min(MOST_TAPS, len(places))
    return [places[(k + 1) * len(places) // count - 1] for k in range(count)]


def crop_side(side: int, share: float) -> int:
    """``share`` of a side of an image, in whole tokens."""
    return max(1, round(share * side))


def box_of(rows: int, columns: int, share: float, generator: torch.Generator) -> Box:
    """A crop of ``share`` of each side, rounded, anywhere in rows x columns tokens."""
    height, width = crop_side(rows, share), crop_side(columns, share)
    top, left = (
        int(torch.randint(most + 1, (), generator=generator))
        for most in (rows - height, columns - width)
    )
    return Box(top, left, height, width)


@dataclass(frozen=True)
class Backbone:
    """The teacher, its weights frozen; gradients flow through it to its input."""

    model: DiT
    process: Process
    places: list[Place]

    def __call__(
        self, x_t: Tensor, t: Tensor, y: Tensor, box: Box | None, seeds: list[int] | None
    ) -> Tensor:
        """Features of ``x_t`` (B, C, H, W) at times ``t`` (B,), classes ``y`` (B,).

        A crop keeps the coordinates its tokens have in the whole. ``seeds`` (B,): of positions
        that the encoding draws; None: it draws none.

        Returns:
            (taps, B, h, w, width), each token normalised to mean 0 and variance 1: the residual
            stream grows from block to block.
        """
        model, side = self.model, self.model.patch_size
        rows, columns = x_t.shape[-2] // side, x_t.shape[-1] // side
        shown = box or Box(0, 0, rows, columns)
        inside = (slice(None), slice(None), *_pixels(shown, side))
        coords = grid_coords(rows, columns, x_t.device).view(rows, columns, 2)
        coords = coords[
            shown.top : shown.top + shown.rows, shown.left : shown.left + shown.columns
        ].reshape(1, -1, 2)
        told: dict[str, Any] = {}
        if seeds is not None:
            told["generator"] = [torch.Generator().manual_seed(seed) for seed in seeds]
        blocks, attentions = (
            [place.block for place in self.places if place.attention is wanted]
            for wanted in (False, True)
        )
        with tapped(model, blocks, attentions) as taps:
            model.forward_tokens(
                patchify(x_t[inside], side),
                coords.expand(len(x_t), -1, -1),
                self.process.own_time(t),
                y,
                sizes=coords.new_tensor([rows, columns]).expand(len(x_t), 2),
                **told,
            )
        found = torch.stack(
            [(taps.attended if p.attention else taps.features)[p.block] for p in self.places]
        )
        normed = F.layer_norm(found.float(), found.shape[-1:])
        return normed.unflatten(2, (shown.rows, shown.columns))


def _pixels(box: Box, side: int) -> tuple[slice, slice]:
    return (
        slice(box.top * side, (box.top + box.rows) * side),
        slice(box.left * side, (box.left + box.columns) * side),
    )
