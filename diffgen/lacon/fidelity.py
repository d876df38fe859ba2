"""How well drawn pictures meet a condition: measures between maps, each picture's by itself.

The maps are those found in the drawn pictures and those that were asked for.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

TOLERANCE = 0.0075
"""How far an edge may be off, as a share of the picture's diagonal, as in Berkeley's benchmark."""


def edge_f1(found: Tensor, wanted: Tensor) -> Tensor:
    """F1 of edges: precision of those found, recall of those wanted, within the tolerance.

    Whole pixels: none at 32 x 32, 5 at 512 x 512. Without edges on both sides 1, on one side 0.

    Args:
        found, wanted: (B, 1, H, W), an edge above 0.5.

    Returns:
        (B,) fp32 in [0, 1].
    """
    found, wanted = (found > 0.5).float(), (wanted > 0.5).float()
    reach = round(TOLERANCE * (found.shape[-2] ** 2 + found.shape[-1] ** 2) ** 0.5)
    near_found, near_wanted = _grown(found, reach), _grown(wanted, reach)
    many, due = _total(found), _total(wanted)
    precision = _total(found * near_wanted) / many.clamp(min=1)
    recall = _total(wanted * near_found) / due.clamp(min=1)
    f1 = 2 * precision * recall / (precision + recall).clamp(min=1e-12)
    return f1.masked_fill((many == 0) & (due == 0), 1.0)


def iou(found: Tensor, wanted: Tensor) -> Tensor:
    """Intersection over union of two masks (B, 1, H, W), inside above 0.5: (B,) in [0, 1].

    Two empty masks have 1.
    """
    found, wanted = found > 0.5, wanted > 0.5
    both, either = _total((found & wanted).float()), _total((found | wanted).float())
    return (both / either.clamp(min=1)).masked_fill(either == 0, 1.0)


def colour_error(found: Tensor, wanted: Tensor) -> Tensor:
    """Root mean square error of colours (B, 3, H, W) in [-1, 1]: (B,), of the range [0 to 1]."""
    return (found - wanted).square().mean(dim=(1, 2, 3)).sqrt() / 2


def mean_error(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute error of maps (B, C, H, W) in [-1, 1]: (B,), of the range [0 to 1]."""
    return (found - wanted).abs().mean(dim=(1, 2, 3)) / 2


def _grown(edges: Tensor, reach: int) -> Tensor:
    """True wherever an edge lies within a disc of ``reach`` pixels."""
    if reach == 0:
        return edges
    offset = torch.arange(-reach, reach + 1, device=edges.device)
    disc = (offset[:, None] ** 2 + offset**2 <= reach**2).to(edges)
    return (F.conv2d(edges, disc[None, None], padding=reach) > 0).float()


def _total(x: Tensor) -> Tensor:
    return x.sum(dim=(1, 2, 3))


@dataclass(frozen=True)
class Fidelity:
    """A measure of fidelity."""

    name: str
    """As figures are called: "edge_f1"."""
    higher: bool
    """Whether more is better."""
    measure: Callable[[Tensor, Tensor], Tensor]
    """(found, wanted), maps (B, C, H, W) -> (B,)."""
