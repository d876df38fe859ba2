"""What does a training step cost, and what limits it?

Steps of the training loop itself (forward, backward, clip, optimiser, averages) on batches that lie
ready in memory, times and noise drawn, as a loader's workers leave them; rows differ in one switch:

- compiled, eager: every block through torch.compile, or not. The first row is what the others are
  held against and add their switch to: compiled on a GPU, eager on a CPU (``--compile``);
- checkpointed: gradient checkpointing; routed: half of the tokens skip the blocks in the middle;
- ema_8: averages every 8th step instead of every step;
- unfused: AdamW as torch runs it by default, instead of fused; muon: Muon on the matrices.

``demo`` is the demo's model on 32 x 32 pixels with AdamW. Others are configs/dit.yaml's on prepared
latents, 32 x 32 x 4 with their posteriors, in bf16 on a GPU.

    python -m benchmarks.training [--device cuda --sizes B,XL --batch 128]

Beside the harness's JSON, ``training`` holds: images/s, TFLOP/s and MFU of every row (FLOPs of what
it computes, over the matrix products of this run), memory, where the time of a step goes, and the
operations it goes to.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import RESULTS, Report, compare, write
from benchmarks.training_rows import ROWS, Row, Training, open_training
from benchmarks.training_time import operations, phases
from diffgen.training.throughput import product_shapes

STEPS, ROUNDS, REPEATS = 8, 8, 20
BATCH = {"cpu": 16, "cuda": 128}


def main(arguments: Sequence[str] | None = None) -> None:
    options = read(arguments)
    for size in options.sizes.split(","):
        measure(size, options)
        if options.device == "cuda":
            torch.cuda.empty_cache()


def read(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; ``rows`` in their order, the one that others are held against first."""
    found = "cuda" if torch.cuda.is_available() else "cpu"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--device", choices=("cpu", "cuda"), default=found)
    add("--sizes", default="demo", help="of the model, with commas: demo, S, B, L, XL")
    add("--batch", type=int, help="images a step; 16 on a CPU, 128 on a GPU [count]")
    add("--steps", type=int, default=STEPS, help="in a call; ema_8 wants multiples of 8 [count]")
    add("--rounds", type=int, default=ROUNDS, help="calls of every row, 5 or more [count]")
    add("--rows", help="some of them, with commas, beside the first and eager; default: all")
    add("--compile", action=argparse.BooleanOptionalAction, help="default: on a GPU")
    add("--quick", action="store_true", help="only to see that it runs: its times mean nothing")
    add("--out", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args(arguments)
    if options.compile is None:
        options.compile = options.device == "cuda"
    if options.quick:
        options.batch, options.steps, options.rounds = options.batch or 2, 1, 5
    options.batch = options.batch or BATCH[options.device]
    rows = list(ROWS) if options.rows is None else options.rows.split(",")
    if wrong := set(rows) - set(ROWS):
        parser.error(f"--rows {', '.join(sorted(wrong))}: there are {', '.join(ROWS)}")
    first = ["compiled", "eager"] if options.compile else ["eager"]
    options.rows = first + [row for row in rows if row not in ("compiled", "eager")]
    return options


def measure(size: str, options: argparse.Namespace) -> None:
    """Compare the rows of one model, write what was found and print it."""
    device, images = torch.device(options.device), options.batch * options.steps
    training = open_training(size, device, options.batch, options.compile)
    name = f"training-{size}-{options.device}"
    config = training.model.config
    shapes = product_shapes(config.hidden_size, config.mlp_ratio, options.batch * training.tokens)
    report = compare(
        name,
        {row: training.call(ROWS[row], options.steps) for row in options.rows},
        rounds=options.rounds,
        warmup=1 if options.quick else 2,
        items_per_call=images,
        flops_per_call=images * training.flops(Row()),
        device=device,
        gemm_shapes=[(tokens, out, into) for tokens, into, out in shapes],
        gemm_dtype=training.dtype,
        out=options.out / f"{name}.json",
    )
    report.record["training"] = facts(training, report, options)
    write(report, options.out / f"{name}.json")
    print(table(report.record["training"]))


def facts(training: Training, report: Report, options: argparse.Namespace) -> dict[str, Any]:
    """What the harness does not know: of a training step."""
    repeats = 1 if options.quick else REPEATS
    first = ROWS[options.rows[0]]
    told = [row for row in ("compiled", "eager") if row in options.rows]
    return {
        "parameters": sum(p.numel() for p in training.model.parameters()),
        "forward_macs": training.flops(Row()) / 6,
        "tokens": training.tokens,
        "batch": options.batch,
        "steps_per_call": options.steps,
        "precision": training.config.train.precision,
        "ceiling_tflops": [ceiling / 1e3 for ceiling in report.ceilings],
        "rows": {row: speed(training, row, report) for row in options.rows},
        "phases": {row: phases(training, ROWS[row], repeats) for row in told},
        "operations": operations(training, first),
    }


def speed(training: Training, name: str, report: Report) -> dict[str, Any]:
    """Of a row: images/s, model TFLOP/s, MFU, and what it holds beside what a step adds [GiB]."""
    measured = report.variants[name]
    rate = measured.items_per_call / measured.median
    flops = rate * training.flops(ROWS[name])
    return {
        "images_per_second": rate,
        "tflops": flops / 1e12,
        "mfu": flops / (1e9 * max(report.ceilings)),
        "state_gib": training.state_bytes(ROWS[name]) / 2**30,
        "step_gib": measured.memory and measured.memory.growth / 2**30,
    }


def table(found: dict[str, Any]) -> str:
    """The facts as they are printed."""
    ceilings = " and ".join(f"{ceiling:.4g}" for ceiling in found["ceiling_tflops"])
    lines = [f"{'row':<14}{'images/s':>10}{'TFLOP/s':>10}{'MFU':>8}{'state':>8}{'step GiB':>10}"]
    for name, row in found["rows"].items():
        step = "-" if row["step_gib"] is None else f"{row['step_gib']:.2f}"
        lines.append(
            f"{name:<14}{row['images_per_second']:>10.1f}{row['tflops']:>10.4g}"
            f"{row['mfu']:>8.1%}{row['state_gib']:>8.2f}{step:>10}"
        )
    lines.append(f"products of this model: {ceilings} TFLOP/s before and after")
    for name, spent in found["phases"].items():
        total = sum(spent.values())
        shares = ", ".join(f"{phase} {seconds / total:.1%}" for phase, seconds in spent.items())
        lines.append(f"{name}: {1e3 * total:.1f} ms a step when waited for: {shares}")
    busy = found["operations"]
    largest = ", ".join(f"{name} {share:.1%}" for name, share in busy["largest"].items())
    lines.append(f"busy for {1e3 * busy['busy']:.1f} ms: {largest}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
