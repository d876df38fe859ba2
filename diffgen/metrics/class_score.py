"""Inception score (Salimans et al. 2016): exp of the mean divergence of p(y|x) from p(y).

    IS = exp( mean_x sum_y p(y|x) (log p(y|x) - log p(y)) ),    p(y) = mean_x p(y|x)

It is taken over chunks of the images, each with its own p(y), and averaged over the chunks. It
grows with the size of a chunk: compare only at equal numbers of images and equal chunks.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffgen.metrics.intervals import Estimate, students
from diffgen.metrics.moments import check_features


@dataclass(frozen=True)
class InceptionScore:
    """Mean over the chunks, in [1, C], and their population standard deviation.

    The deviation says how chunks differ; it is not the standard error of the mean, which
    `estimate` has.
    """

    mean: float
    std: float
    chunks: int

    def estimate(self) -> Estimate:
        """The mean by Student's t over chunks, which are disjoint; no interval of one chunk."""
        error = self.std / math.sqrt(self.chunks - 1) if self.chunks > 1 else math.nan
        return students(self.mean, error, self.chunks - 1)


@torch.no_grad()
def inception_score(
    logits: Tensor,
    *,
    splits: int = 10,
    split_size: int | None = None,
    shuffle_seed: int | None = None,
) -> InceptionScore:
    """Inception score of class logits.

    Args:
        logits: (N, C) floating, one row an image. The published figures take Inception's 1008
            logits without the last layer's bias.
        splits: number of chunks, at most N, as torch-fidelity cuts them. Chunk i holds rows
            floor(i N / splits) up to, not including, floor((i + 1) N / splits): sizes differ by
            at most one and no row is left out.
        split_size: rows of a chunk, whatever `splits` says, as guided-diffusion's evaluator cuts
            them (5000); the last chunk holds what is left, and counts as much as the others.
        shuffle_seed: None leaves the rows in order, as guided-diffusion's evaluator does; chunks
            of a file sorted by class then hold few classes each, which lowers the score. A number
            reorders the rows by `numpy.random.RandomState(shuffle_seed).permutation(N)`, as
            torch-fidelity does (its default is 2020).

    Raises:
        ValueError: splits below 1 or above N, split_size below 1, a shape or dtype other than
            above, NaN.

    Probabilities stay logarithms, in float64, so one that underflows to 0 adds 0, not NaN.
    """
    for name, value in (("splits", splits), ("split_size", split_size)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    check_features("logits", logits, least=1 if split_size else splits)
    count = len(logits)
    if shuffle_seed is not None:
        order = np.random.RandomState(shuffle_seed).permutation(count)
        logits = logits[torch.from_numpy(order).to(logits.device)]
    if split_size:
        edges = [*range(0, count, split_size), count]
    else:
        edges = [i * count // splits for i in range(splits + 1)]
    scores = [_score(logits[start:stop]) for start, stop in itertools.pairwise(edges)]
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)), len(scores))


def _score(logits: Tensor) -> float:
    """Inception score of one chunk, (N, C)."""
    log_p = logits.double().log_softmax(1)
    log_marginal = log_p.logsumexp(0) - math.log(len(log_p))
    divergence = (log_p.exp() * (log_p - log_marginal)).sum(1)
    return divergence.mean().exp().item()
