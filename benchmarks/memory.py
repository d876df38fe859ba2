"""Does the memory of preparing and of training grow with the number of images?

The same commands on a small and on a large number of drawn images of 16 x 16, each in a process of
its own:

- prepare: ``diffgen prepare`` through a tiny autoencoder, files of 500 images;
- train_latents, train_shapes: a tiny model on what was prepared, or on images drawn as they are
  needed; "small" and "large" take the same number of steps, from either number of images, and
  "all" as many as show every one of the large number.

    python -m benchmarks.memory [--small 1000 --large 50000]

What counts is anonymous memory, ``RssAnon`` of /proc/PID/status, looked at every 5 ms: what a
process has made for itself. Its other resident pages are those of files mapped into it, libraries
and prepared latents; the system takes those back when it needs them, and they are as many as it
has room for. ``peak_resident``, VmHWM, counts both. Needs Linux.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL

from benchmarks.harness import RESULTS
from benchmarks.machine import environment, load_average

SCHEMA = "diffgen-memory/1"
DIFFGEN = [sys.executable, "-c", "import sys; from diffgen.cli import main; sys.exit(main())"]
EVERY = 0.005
BATCH, SIZE = 64, "16x16"


@dataclass(frozen=True)
class Peak:
    """The most memory of one process [bytes]."""

    peak_anonymous: int
    peak_resident: int
    seconds: float
    looks: int
    """How often it was looked at."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", type=int, default=1_000, help="[images]")
    parser.add_argument("--large", type=int, default=50_000, help="[images]")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result")
    options = parser.parse_args(arguments)
    if not Path("/proc/self/status").exists():
        parser.error("it reads /proc, which only Linux has")
    load = load_average()
    with tempfile.TemporaryDirectory() as place:
        peaks = measure(Path(place), options.small, options.large)
    found = {
        "schema": SCHEMA,
        "name": "memory",
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "environment": environment(torch.device("cpu")),
        "load_average": [load, load_average()],
        "small": options.small,
        "large": options.large,
        "runs": {
            name: {side: asdict(peak) for side, peak in runs.items()}
            for name, runs in peaks.items()
        },
        "growth": {
            name: growth(runs, options.large - options.small) for name, runs in peaks.items()
        },
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "memory.json").write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))


def measure(place: Path, small: int, large: int) -> dict[str, dict[str, Peak]]:
    """The peaks of every command, by its name and "small", "large" or "all"."""
    save_vae(place / "vae")
    sides = {"small": small, "large": large}
    found: dict[str, dict[str, Peak]] = {"prepare": {}, "train_latents": {}, "train_shapes": {}}
    for side, count in sides.items():
        argv = ["prepare", *shapes(count), "--vae.path", "vae", "--vae.batch-size", str(BATCH)]
        found["prepare"][side] = run([*argv, "--shard-images", "500", "--out", side], place)
    for name in ("train_latents", "train_shapes"):
        for side, shown in (("small", small), ("large", small), ("all", large)):
            base = "small" if side == "small" else "large"
            there = shapes(sides[base])
            if name == "train_latents":
                there = ["--data.kind", "latents", "--data.path", base]
            argv = ["train", *there, *training(shown), "--out", f"{name}-{side}"]
            found[name][side] = run(argv, place)
    return found


def shapes(count: int) -> list[str]:
    """So many drawn images."""
    return ["--data.kind", "shapes", "--data.size", SIZE, "--data.subset", f":{count}"]


def training(images: int) -> list[str]:
    """A tiny model that sees ``images`` of them, draws next to nothing and scores nothing."""
    flags = {
        "model.depth": 1,
        "model.hidden-size": 32,
        "model.num-heads": 2,
        "model.patch-size": 4,
        "train.images": images,
        "train.batch-size": BATCH,
        "train.sample-images": 0,
        "report.num-images": 0,
        "report.sizes": SIZE,
        "sampling.steps": 1,
    }
    return [part for name, value in flags.items() for part in (f"--{name}", str(value))]


def save_vae(folder: Path) -> None:
    """A tiny autoencoder of random weights: factor 2, 4 channels."""
    torch.manual_seed(0)
    AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=16,
    ).save_pretrained(folder)


def run(argv: list[str], folder: Path) -> Peak:
    """``diffgen ARGV`` on the CPU in ``folder``. Raises SystemExit: it failed."""
    return watched([*DIFFGEN, argv[0], "--device", "cpu", *argv[1:]], folder)


def watched(command: Sequence[str], folder: Path) -> Peak:
    """The peak of a process of its own, from its start to its end; SystemExit: it failed."""
    anonymous = resident = looks = 0
    with (folder / "said").open("w+") as said:
        begun = time.monotonic()
        process = subprocess.Popen(command, cwd=folder, stdout=said, stderr=said)
        while process.poll() is None:
            now = status(process.pid)
            anonymous = max(anonymous, now.get("RssAnon", 0))
            resident = max(resident, now.get("VmHWM", 0))
            looks += 1
            time.sleep(EVERY)
        seconds = time.monotonic() - begun
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"{' '.join(command)}\n{said.read()}")
    return Peak(anonymous, resident, seconds, looks)


def status(pid: int) -> dict[str, int]:
    """What /proc says of a process [bytes]; nothing, if it has just ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    fields = (line.split() for line in lines)
    return {one[0].rstrip(":"): int(one[1]) * 1024 for one in fields if one[-1] == "kB"}


def growth(runs: dict[str, Peak], more: int) -> dict[str, dict[str, float]]:
    """Of every other run over the small one: the ratio of anonymous peaks, and [bytes/image]."""
    small = runs["small"].peak_anonymous
    return {
        side: {
            "ratio": peak.peak_anonymous / small,
            "bytes_per_image": (peak.peak_anonymous - small) / more,
        }
        for side, peak in runs.items()
        if side != "small"
    }


def table(found: dict[str, Any]) -> str:
    """The figures as they are printed."""
    head = f"{'command':<16}{'images':>8}{'anonymous':>12}{'resident MB':>13}{'ratio':>8}"
    lines = [f"{head}{'bytes an image':>16}{'seconds':>9}"]
    for name, runs in found["runs"].items():
        for side, peak in runs.items():
            grown = found["growth"][name].get(side)
            more = f"{grown['ratio']:>8.3f}{grown['bytes_per_image']:>16.0f}" if grown else " " * 24
            count = found["small"] if side == "small" else found["large"]
            lines.append(
                f"{name + ('-all' if side == 'all' else ''):<18}{count:>6}"
                f"{peak['peak_anonymous'] / 1e6:>12.1f}{peak['peak_resident'] / 1e6:>13.1f}"
                f"{more}{peak['seconds']:>9.1f}"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
