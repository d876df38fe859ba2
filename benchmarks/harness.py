"""Compare callables fairly, in one process: `compare("name", {"ours": f, "theirs": g})`.

The variants take turns (A B C, B C A, ...), so drift of the machine meets all of them. A ratio
comes with an interval from its own rounds, and the fastest matrix product measured right before
and right after says what the machine could do meanwhile: where the two differ by more than 5 %
the run is marked unreliable. Everything goes into one JSON file, schema "diffgen-benchmark/1":

    schema, name, created (UTC), seed, rounds, warmup, items_per_call, flops_per_call,
    environment {device, threads, packages, commit, ...}, load_average [before, after],
    ceiling {before, after: [{shape, dtype, threads, gflops}], drift, reliable},
    order [[variant, ...] per round, the first rounds; it repeats],
    variants {NAME: {seconds, median, quartiles, items_per_second, gflops, ceiling_share, memory}},
    ratios {NAME: {to, ratio, low, high, verdict}}

Seconds are per call; `ratio` is NAME's median time over that of the first variant.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from itertools import chain
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch

from benchmarks.machine import (
    Gemm,
    Memory,
    environment,
    gemm_ceiling,
    load_average,
    peak_memory,
    synchronize,
)

SCHEMA = "diffgen-benchmark/1"
RESULTS = Path(__file__).parent / "results"
DRIFT_ALLOWED = 0.05
RESAMPLES = 2000

Call = Callable[[], object]


@dataclass(frozen=True)
class Ratio:
    """Median time of a variant over that of `to`, with a 95 % interval."""

    to: str
    ratio: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        if self.low > 1:
            return "slower"
        return "faster" if self.high < 1 else "inconclusive"


@dataclass(frozen=True)
class Variant:
    """One variant's seconds per call, a value a round, and what follows from them."""

    seconds: list[float]
    items_per_call: float
    flops_per_call: float | None
    memory: Memory | None

    @property
    def median(self) -> float:
        return median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        low, _, high = quantiles(self.seconds, n=4, method="inclusive")
        return low, high

    @property
    def gflops(self) -> float | None:
        return None if self.flops_per_call is None else self.flops_per_call / self.median / 1e9


@dataclass(frozen=True)
class Report:
    """All that was measured; `data()` is the JSON, `table()` the printed form."""

    name: str
    variants: dict[str, Variant]
    ratios: dict[str, Ratio]
    order: list[list[str]]
    before: list[Gemm]
    after: list[Gemm]
    record: dict[str, Any]

    @property
    def ceilings(self) -> tuple[float, float]:
        """The fastest matrix product before and after, GFLOP/s."""
        before, after = (max(one.gflops for one in side) for side in (self.before, self.after))
        return before, after

    @property
    def drift(self) -> float:
        """How far the two ceilings lie apart, as a share of the larger."""
        return 1 - min(self.ceilings) / max(self.ceilings)

    @property
    def reliable(self) -> bool:
        return self.drift <= DRIFT_ALLOWED

    def data(self) -> dict[str, Any]:
        """The JSON document of the module's docstring."""
        return {
            "schema": SCHEMA,
            "name": self.name,
            **self.record,
            "ceiling": {
                "before": [asdict(one) for one in self.before],
                "after": [asdict(one) for one in self.after],
                "drift": self.drift,
                "reliable": self.reliable,
            },
            "order": self.order[: len(self.variants)],
            "variants": {name: self._variant(one) for name, one in self.variants.items()},
            "ratios": {
                name: {**asdict(one), "verdict": one.verdict} for name, one in self.ratios.items()
            },
        }

    def _variant(self, one: Variant) -> dict[str, Any]:
        return {
            "seconds": one.seconds,
            "median": one.median,
            "quartiles": list(one.quartiles),
            "items_per_second": one.items_per_call / one.median,
            "gflops": one.gflops,
            "ceiling_share": None if one.gflops is None else one.gflops / max(self.ceilings),
            "memory": None if one.memory is None else asdict(one.memory),
        }

    def table(self) -> str:
        head = f"{'variant':<16}{'median ms':>11}{'quartiles':>20}{'items/s':>11}"
        lines = [self.name, f"{head}{'+MB':>8}  ratio [95 %]"]
        for name, one in self.variants.items():
            low, high = (1e3 * q for q in one.quartiles)
            spread = f"{low:.3f}..{high:.3f}"
            memory = "-" if one.memory is None else f"{one.memory.growth / 1e6:.1f}"
            speed = one.items_per_call / one.median
            line = f"{name:<16}{1e3 * one.median:>11.3f}{spread:>20}{speed:>11.1f}{memory:>8}"
            if name in self.ratios:
                r = self.ratios[name]
                line += f"  {r.ratio:.3g} [{r.low:.3g}, {r.high:.3g}] {r.verdict}"
            lines.append(line)
        before, after = self.ceilings
        state = "reliable" if self.reliable else f"UNRELIABLE, drift {self.drift:.0%}"
        lines.append(f"GEMM ceiling {before:.1f} before, {after:.1f} after, GFLOP/s: {state}")
        return "\n".join(lines)


def compare(
    name: str,
    variants: Mapping[str, Call],
    *,
    rounds: int = 20,
    warmup: int = 2,
    items_per_call: float = 1,
    flops_per_call: float | None = None,
    device: torch.device | str = "cpu",
    gemm_shapes: Sequence[tuple[int, int, int]] = ((1024, 1024, 1024),),
    gemm_dtype: torch.dtype = torch.float32,
    seed: int = 0,
    out: Path | str | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Report:
    """Time `variants` against the first of them, print a table and write the JSON file.

    Args:
        name: of the question; also of the file.
        variants: two or more functions without arguments that do the same work. torch's random
            state is `seed` at the start of every call.
        rounds: calls of each variant that count, at least 5; `warmup` more do not.
        items_per_call: what items/s counts, such as images.
        flops_per_call: FLOP (2 a multiply-add) of the work, the same for all; None if unknown.
        device: waited for around each call if it is CUDA.
        gemm_shapes, gemm_dtype: (M, N, K) of the products that give the ceiling; take the
            work's own.
        out: the file; benchmarks/results/NAME.json by default.
        clock: seconds; tests put a false one here.

    Raises ValueError for fewer than 2 variants, fewer than 5 rounds or no gemm_shapes.
    """
    if len(variants) < 2 or rounds < 5 or not gemm_shapes:
        raise ValueError(
            "a comparison needs at least 2 variants, 5 rounds and 1 GEMM shape, got "
            f"{len(variants)}, {rounds} and {len(gemm_shapes)}"
        )
    device = torch.device(device)
    record = {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seed": seed,
        "rounds": rounds,
        "warmup": warmup,
        "items_per_call": items_per_call,
        "flops_per_call": flops_per_call,
        "environment": environment(device),
    }
    for call in variants.values():
        for _ in range(warmup):
            timed(call, device, seed, clock)
    memory = {key: peak_memory(call, device) for key, call in variants.items()}

    order = turns(list(variants), rounds)
    load = load_average()
    before = gemm_ceiling(gemm_shapes, device, gemm_dtype)
    seconds: dict[str, list[float]] = {key: [] for key in variants}
    for key in chain(*order):
        seconds[key].append(timed(variants[key], device, seed, clock))
    after = gemm_ceiling(gemm_shapes, device, gemm_dtype)
    record["load_average"] = [load, load_average()]

    results = {
        key: Variant(values, items_per_call, flops_per_call, memory[key])
        for key, values in seconds.items()
    }
    report = Report(name, results, ratios(seconds, seed), order, before, after, record)
    write(report, RESULTS / f"{name}.json" if out is None else Path(out))
    print(report.table())
    return report


def turns(names: list[str], rounds: int) -> list[list[str]]:
    """Each round runs every variant once; the next round starts with the next variant."""
    shifts = [i % len(names) for i in range(rounds)]
    return [names[shift:] + names[:shift] for shift in shifts]


def timed(call: Call, device: torch.device, seed: int, clock: Callable[[], float]) -> float:
    """Seconds of one call, with torch's random state set before."""
    torch.manual_seed(seed)
    synchronize(device)
    start = clock()
    call()
    synchronize(device)
    return clock() - start


def ratios(seconds: Mapping[str, list[float]], seed: int) -> dict[str, Ratio]:
    """Every further variant against the first.

    The interval is a bootstrap over rounds, resampled jointly: both times of a round stay
    together, so what slows a whole round down cancels.
    """
    baseline, *others = seconds
    found = {}
    for name in others:
        pairs = list(zip(seconds[name], seconds[baseline], strict=True))
        source = random.Random(seed)
        draws = sorted(
            _ratio_of_medians(source.choices(pairs, k=len(pairs))) for _ in range(RESAMPLES)
        )
        low, high = draws[int(0.025 * RESAMPLES)], draws[int(0.975 * RESAMPLES)]
        found[name] = Ratio(baseline, _ratio_of_medians(pairs), low, high)
    return found


def _ratio_of_medians(pairs: Sequence[tuple[float, float]]) -> float:
    return median(a for a, _ in pairs) / median(b for _, b in pairs)


def write(report: Report, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report.data(), indent=1) + "\n")
