"""What do the figures of an evaluation cost, from features on, in diffgen and elsewhere?

Synthetic features, correlated normal with a decaying spectrum, and three questions:

    fid      moments and Fréchet distance: diffgen, torchmetrics (its metric, fed with features),
             torch-fidelity, and scipy's matrix square root of numpy's covariances (pytorch-fid)
    overlap  precision and recall at a size where every way fits into memory: diffgen, diffgen's
             four figures with intervals, torch-fidelity, and prdc (four figures, no intervals)
    large    the same with 10,000 references and all samples: diffgen, diffgen's four figures with
             intervals, and torch-fidelity row block by row block (its save_cpu_ram)

The ways of a question must agree before any is timed; `large` is checked at overlap's size. The
memory in the results is the peak of a call; `peak` counts the features and the libraries as well.

    OMP_NUM_THREADS=1 python -m benchmarks.metrics --question fid
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_prc import (
    calculate_precision_recall_full,
    calculate_precision_recall_part,
)
from torchmetrics.image.fid import FrechetInceptionDistance

from benchmarks.harness import RESULTS, compare
from diffgen.metrics.frechet import ROWS_AT_ONCE, frechet_distance
from diffgen.metrics.manifold import precision_recall
from diffgen.metrics.manifold_jackknife import manifold_figures

try:
    from prdc import compute_prdc
    from scipy.linalg import sqrtm
except ImportError:
    sys.exit("benchmarks.metrics compares with prdc and scipy: pip install prdc scipy")

K = 3
BLOCK = 2048  # points per side of diffgen's distance blocks
FID_AGREEMENT = 1e-3  # relative: torch-fidelity and pytorch-fid take the mean in float32
SHARE_AGREEMENT = 2e-3  # torch-fidelity's distances are float32

Variants = dict[str, Callable[[], Sequence[float]]]


def features(count: int, size: int, seed: int, *, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    """(count, size) float32 normal features; the i-th principal variance is scale² / i."""
    axes = torch.randn(size, size, generator=torch.Generator().manual_seed(0))
    deviations = scale / torch.arange(1, size + 1).sqrt()
    mixing = deviations[:, None] * torch.linalg.qr(axes).Q
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, size, generator=generator) @ mixing + shift / size**0.5


def sets(reals: int, fakes: int, size: int) -> tuple[Tensor, Tensor]:
    """Fakes a little narrower than the reals and off their centre."""
    return features(reals, size, 1), features(fakes, size, 2, scale=0.95, shift=0.2)


def fid_by_torchmetrics(real: Tensor, fake: Tensor) -> Sequence[float]:
    as_given = nn.Identity()
    as_given.num_features = real.shape[1]
    metric = FrechetInceptionDistance(as_given)
    for rows, is_real in ((real, True), (fake, False)):
        for batch in rows.split(ROWS_AT_ONCE):
            metric.update(batch, real=is_real)
    return [metric.compute().item()]


def fid_by_torch_fidelity(real: Tensor, fake: Tensor) -> Sequence[float]:
    first, second = fid_features_to_statistics(real), fid_features_to_statistics(fake)
    return list(fid_statistics_to_metric(first, second, verbose=False).values())


def fid_by_sqrtm(real: Tensor, fake: Tensor) -> Sequence[float]:
    (mean, cov), (other_mean, other_cov) = (
        (rows.mean(axis=0), np.cov(rows, rowvar=False)) for rows in (real.numpy(), fake.numpy())
    )
    root_trace = sqrtm(cov @ other_cov).trace().real
    gap = np.square(mean - other_mean).sum()
    return [float(gap + cov.trace() + other_cov.trace() - 2 * root_trace)]


def fid_variants(real: Tensor, fake: Tensor) -> Variants:
    return {
        "diffgen": lambda: [frechet_distance(real, fake)],
        "torchmetrics": partial(fid_by_torchmetrics, real, fake),
        "torch-fidelity": partial(fid_by_torch_fidelity, real, fake),
        "scipy": partial(fid_by_sqrtm, real, fake),
    }


def overlap(real: Tensor, fake: Tensor) -> Sequence[float]:
    found = precision_recall(real, fake, K)
    return found.precision, found.recall


def figures(real: Tensor, fake: Tensor) -> Sequence[float]:
    found = manifold_figures(real, fake, K, density_k=K)
    return found.precision.value, found.recall.value


def overlap_by_prdc(real: Tensor, fake: Tensor) -> Sequence[float]:
    with contextlib.redirect_stdout(io.StringIO()):  # it prints the counts
        found = compute_prdc(real.numpy(), fake.numpy(), nearest_k=K)
    return float(found["precision"]), float(found["recall"])


def overlap_variants(real: Tensor, fake: Tensor) -> Variants:
    return {
        "diffgen": partial(overlap, real, fake),
        "diffgen-all": partial(figures, real, fake),
        "torch-fidelity": partial(calculate_precision_recall_full, fake, real, K),
        "prdc": partial(overlap_by_prdc, real, fake),
    }


def large_variants(real: Tensor, fake: Tensor) -> Variants:
    return {
        "diffgen": partial(overlap, real, fake),
        "diffgen-all": partial(figures, real, fake),
        "torch-fidelity": partial(calculate_precision_recall_part, fake, real, K),
    }


def agree(variants: Mapping[str, Callable[[], Sequence[float]]], rel: float, abs_: float) -> None:
    """Print every variant's figures; leave the program where they differ from the first's."""
    found = {name: list(call()) for name, call in variants.items()}
    print(found)
    first, *others = found.values()
    if not all(np.allclose(other, first, rtol=rel, atol=abs_) for other in others):
        sys.exit(f"the ways disagree: {found}")


def ask_fid(args: argparse.Namespace) -> None:
    variants = fid_variants(*sets(args.count, args.count, args.size))
    agree(variants, FID_AGREEMENT, 0.0)
    ask(
        f"fid-{args.count}x{args.size}",
        variants,
        args,
        items_per_call=2 * args.count,
        flops_per_call=4.0 * args.count * args.size**2,  # of the two scatter matrices
        gemm_shapes=[(args.size, args.size, min(args.count, ROWS_AT_ONCE))],
    )


def ask_overlap(args: argparse.Namespace) -> None:
    variants = overlap_variants(*sets(args.shared, args.shared, args.size))
    agree(variants, 0.0, SHARE_AGREEMENT)
    side = min(args.shared, BLOCK)
    ask(
        f"overlap-{args.shared}x{args.size}",
        variants,
        args,
        items_per_call=args.shared,
        gemm_shapes=[(side, side, args.size)],
    )


def ask_large(args: argparse.Namespace) -> None:
    real, fake = sets(args.references, args.count, args.size)
    agree(large_variants(real[: args.shared], fake[: args.shared]), 0.0, SHARE_AGREEMENT)
    side = min(args.references, BLOCK)
    ask(
        f"overlap-{args.references}-{args.count}x{args.size}",
        large_variants(real, fake),
        args,
        items_per_call=args.count,
        gemm_shapes=[(side, side, args.size)],
    )


def ask(name: str, variants: Variants, args: argparse.Namespace, **options: Any) -> None:
    compare(
        f"metrics-{name}",
        variants,
        rounds=args.rounds,
        warmup=0,  # the call that measures memory comes first
        gemm_dtype=torch.float64,
        out=args.out / f"metrics-{name}.json",
        **options,
    )


QUESTIONS = {"fid": ask_fid, "overlap": ask_overlap, "large": ask_large}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--question", choices=[*QUESTIONS, "all"], default="all")
    parser.add_argument("--count", type=int, default=50_000, help="samples [count]")
    parser.add_argument("--references", type=int, default=10_000, help="reals in large [count]")
    parser.add_argument("--shared", type=int, default=5_000, help="of each in overlap [count]")
    parser.add_argument("--size", type=int, default=2048, help="features of a sample [count]")
    parser.add_argument("--rounds", type=int, default=5, help="timed calls of each way [count]")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    args = parser.parse_args(argv)
    for name, question in QUESTIONS.items():
        if args.question in (name, "all"):
            question(args)


if __name__ == "__main__":
    main()
