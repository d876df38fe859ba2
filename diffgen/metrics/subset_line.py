"""Fréchet distances of nested subsets over one over their size, and the line through them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean, linear_regression

import torch
from torch import Tensor

from diffgen.metrics.gaussian import Gaussian
from diffgen.metrics.moments import MomentsAccumulator

NUM_SIZES = 15
LEAST_SIZE = 5000


@dataclass(frozen=True)
class Line:
    """Least squares through the distances of nested subsets.

    Attributes:
        intercept, slope: of the line through `values` over 1 / `sizes`.
        r2: share of the variance of `values` that the line explains; 1 where they are equal.
        residual_sd: standard deviation of `values` about the line.
        sizes: numbers of generated images, ascending; the last is all of them.
        values: the distance at each size.
    """

    intercept: float
    slope: float
    r2: float
    residual_sd: float
    sizes: list[int]
    values: list[float]


def subset_sizes(count: int) -> list[int]:
    """15 sizes, evenly from 5000 or count // 2, whichever is less, to `count`; fewer below 30."""
    least = min(LEAST_SIZE, count // 2)
    steps = (round(least + (count - least) * i / (NUM_SIZES - 1)) for i in range(NUM_SIZES))
    return list(dict.fromkeys(steps))


def nested(features: Tensor, sizes: Sequence[int], seed: int) -> Iterator[Gaussian]:
    """The first n rows of `features`, (N, D), in one random order, for each n of ascending `sizes`.

    A size below 2 is taken as 2.
    """
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))
    order = order.to(features.device)
    running = MomentsAccumulator(features.shape[1], features.device)
    for size in sizes:
        first = order[: max(size, 2)]
        if len(first) > running.count:
            running.update(features[first[running.count :]])
        yield Gaussian(running.compute(), partial(features.__getitem__, first))


def fit_line(sizes: Sequence[int], values: Sequence[float]) -> Line:
    """Least squares of `values` in 1 / `sizes`; at least 3 different sizes, of any order."""
    inverse = [1 / size for size in sizes]
    slope, intercept = linear_regression(inverse, values)
    mean = fmean(values)
    total = math.fsum((value - mean) ** 2 for value in values)
    left = math.fsum(
        (value - intercept - slope * x) ** 2 for x, value in zip(inverse, values, strict=True)
    )
    return Line(
        intercept,
        slope,
        r2=1 - left / total if total > 0 else 1.0,
        residual_sd=math.sqrt(left / (len(values) - 2)),
        sizes=list(sizes),
        values=list(values),
    )
