"""Which route to the trace of the Fréchet distance is fastest?

Cholesky with symmetric eigenvalues (diffgen), scipy's matrix square root (pytorch-fid,
guided-diffusion) and eigenvalues of the unsymmetric product (torch-fidelity, torchmetrics), from
the same moments of full rank. All three must give the same distance before any is timed.

    OMP_NUM_THREADS=1 python -m benchmarks.frechet [D ...]

for D of 64, 512 and 2048, Inception's; all of them without an argument. 2048 takes minutes. One
thread, for torch and for scipy's BLAS alike: with more, the small sizes measure how long
threads wait for one another on a shared machine.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.harness import compare
from diffgen.metrics.frechet import Moments, frechet_from_moments, moments

try:
    from scipy.linalg import sqrtm
except ImportError:
    sys.exit("benchmarks.frechet compares with scipy: pip install scipy")

ROUNDS = {64: 300, 512: 12, 2048: 5}  # by number of features
AGREEMENT = 1e-8  # relative difference of the distances


def features(count: int, size: int, seed: int) -> Tensor:
    """(count, size) float64 correlated normal features."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(size, size, generator=generator, dtype=torch.float64) / size**0.5
    return torch.randn(count, size, generator=generator, dtype=torch.float64) @ mixing


def distance(first: Moments, second: Moments, root_trace: Callable[[Tensor], float]) -> float:
    """The distance, with tr (S_1 S_2)^{1/2} from the product as the peers take it."""
    gap = (first.mean - second.mean).square().sum()
    traces = first.cov.trace() + second.cov.trace()
    return float(gap + traces) - 2 * root_trace(first.cov @ second.cov)


def by_sqrtm(product: Tensor) -> float:
    return float(sqrtm(product.numpy()).trace().real)


def by_eigvals(product: Tensor) -> float:
    return float(torch.linalg.eigvals(product).sqrt().real.sum())


def main(sizes: list[int]) -> None:
    for size in sizes:
        real, fake = (moments(features(4 * size, size, seed)) for seed in (0, 1))
        variants = {
            "cholesky": partial(frechet_from_moments, real, fake),
            "sqrtm": partial(distance, real, fake, by_sqrtm),
            "eigvals": partial(distance, real, fake, by_eigvals),
        }
        values = {name: call() for name, call in variants.items()}
        print(f"D = {size}: {values}")
        spread = max(values.values()) - min(values.values())
        if spread > AGREEMENT * max(values.values()):
            sys.exit(f"the routes disagree at D = {size}: {values}")
        compare(f"frechet-{size}", variants, rounds=ROUNDS[size])


if __name__ == "__main__":
    known = {str(size): size for size in ROUNDS}
    if unknown := set(sys.argv[1:]) - set(known):
        sys.exit(f"D must be of {', '.join(known)}, got {', '.join(sorted(unknown))}")
    main([known[size] for size in sys.argv[1:] or known])
