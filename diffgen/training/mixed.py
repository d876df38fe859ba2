"""The loss of images of mixed sizes, as one sequence of tokens or padded to the longest image."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffgen.models.tokens import pack, pad
from diffgen.processes.process import Model, Process


def mixed_losses(
    process: Process,
    model: Model,
    x0: Sequence[Tensor],
    eps: Sequence[Tensor],
    t: Tensor,
    y: Tensor,
    patch: int,
    padded: bool = False,
    **cond: Any,
) -> Tensor:
    """The loss of each image, averaged over its own elements; equal to that of the image alone.

    Every token is a sample of the process, at the time of its image; only the model sees which
    tokens belong together.

    Args:
        process, model: as for ``Process.loss``; the model takes tokens (``DiT.forward``).
        x0, eps: B images (C, h, w) and their noise.
        t, y: (B,).
        patch: side of a token.
        padded: pad to the longest image and mask, the reference; no: packed, without padding.
        cond: what else the model is told, a value for each image.

    Returns:
        (B,) fp32.
    """
    # Images of one length side by side are computed together.
    order = sorted(range(len(x0)), key=lambda i: x0[i].shape[-2:].numel())
    x0, eps, t, y = (_taken(values, order) for values in (x0, eps, t, y))
    cond = {name: _taken(values, order) for name, values in cond.items()}
    batch, noise = pack(x0, patch), pack(eps, patch).tokens
    lengths = batch.lengths
    owner = torch.arange(len(lengths), device=t.device).repeat_interleave(lengths)
    first = lengths.cumsum(0) - lengths

    def packed_model(x: Tensor, time: Tensor, labels: Tensor, **told: Any) -> Tensor:
        return model(
            x, time[first], labels[first], batch.coords, sizes=batch.sizes, lengths=lengths, **told
        )

    def padded_model(x: Tensor, time: Tensor, labels: Tensor, **told: Any) -> Tensor:
        tokens, mask = pad(x, lengths)
        coords, _ = pad(batch.coords, lengths)
        out = model(
            tokens, time[first], labels[first], coords, sizes=batch.sizes, mask=mask, **told
        )
        return out[mask]

    predict = padded_model if padded else packed_model
    each = process.loss(predict, batch.tokens, noise, t[owner], y[owner], **cond)
    losses = [piece.mean() for piece in each.split(lengths.tolist())]
    places = sorted(range(len(order)), key=order.__getitem__)
    return torch.stack([losses[place] for place in places])


def _taken(values: Any, order: list[int]) -> Any:
    """One value for each image, in another order."""
    return values[order] if isinstance(values, Tensor) else [values[i] for i in order]
