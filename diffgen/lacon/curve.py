"""How much of a condition an aligner reads at each time, and where constraints may end."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from diffgen.lacon.aligner import Aligner
from diffgen.lacon.conditions import Condition, correlation
from diffgen.sampling.guided import Denoiser

TIMES = tuple(k / 20 for k in range(1, 21))
ENOUGH = 0.9
"""Share of the best R^2."""


@torch.no_grad()
def read_maps(
    denoiser: Denoiser,
    aligner: Aligner,
    condition: Condition,
    x_t: Tensor,
    t: float,
    labels: Tensor,
    batch_size: int = 64,
) -> Tensor:
    """The maps (N, channels, h, w) that the aligner reads from ``x_t`` (N, C, h, w) at time ``t``.

    Args:
        denoiser: the model the aligner belongs to; its position seeds, if any, are those of the N.
        labels: (N,).
    """
    read = []
    for first in range(0, len(x_t), batch_size):
        part = slice(first, first + batch_size)
        seeds = denoiser.position_seeds
        some = denoiser._replace(position_seeds=seeds if seeds is None else seeds[part])
        seen = some.observed(x_t[part], t, labels[part], None, aligner.blocks)[1]
        read.append(condition.shown(aligner(seen)))
    return torch.cat(read)


def r2_curve(
    denoiser: Denoiser,
    aligner: Aligner,
    condition: Condition,
    x0: Tensor,
    maps: Tensor,
    labels: Tensor,
    noise: Tensor,
    on_time: Callable[[], object] = lambda: None,
    times: Iterable[float] = TIMES,
    batch_size: int = 64,
) -> dict[str, float]:
    """R^2 of what the aligner reads, at each time, written as text for JSON.

    Args:
        denoiser: as in ``read_maps``.
        x0, noise: (N, C, h, w) pictures as the model sees them, and unit normal noise.
        maps: (N, channels, h, w) their maps at that size.
        labels: (N,).
        on_time: called after each time.
    """
    curve = {}
    for t in times:
        alpha, sigma = denoiser.levels(t)
        x_t = alpha * x0 + sigma * noise
        found = read_maps(denoiser, aligner, condition, x_t, t, labels, batch_size)
        curve[f"{t:g}"] = correlation(found, maps)
        on_time()
    return curve


def cut_off(r2: Mapping[str, float]) -> float:
    """The greatest time at which R^2 has reached 0.9 of its best; 1, so never, if none is above 0.

    Down to there the picture's layout is still being decided, and the aligner reads ever more of
    it; below, the features only repeat what the picture already shows.
    """
    best = max(r2.values())
    if best <= 0:
        return 1.0
    return max(float(t) for t, value in r2.items() if value >= ENOUGH * best)
