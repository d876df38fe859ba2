"""How many times more pictures a second does a distilled student draw than its teacher?

Whole drawings of the same labels: the student in 1, 2 and 4 steps, which need no guidance; the
teacher in 50 and 25 steps under classifier-free guidance. Without --teacher and --student both are
the demo's model with random weights, which cost what trained ones do; ``--model XL`` takes
DiT-XL/2 on latents, which are not decoded. Those of runs are, if there is a VAE.

    python -m benchmarks.nitro [--teacher RUN --student STUDENT]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from benchmarks.harness import RESULTS, compare
from diffgen import CFG, DiffGenPipeline, DiT
from diffgen.config.distilled import Distilled
from diffgen.config.model import DiTConfig
from diffgen.sampling.output import OutputType
from diffgen.sampling.schedulers import build_scheduler

BATCH, ROUNDS, SCALE = 16, 8, 2.0
TEACHER_STEPS = (50, 25)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", help="run or pipeline folder of the teacher")
    parser.add_argument("--student", help="run or pipeline folder of its student")
    parser.add_argument("--model", choices=("demo", "XL"), default="demo", help="without runs")
    parser.add_argument("--batch", type=int, default=BATCH, help="images a drawing [count]")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of every variant [count]")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result")
    options = parser.parse_args(arguments)
    if (options.teacher is None) != (options.student is None):
        parser.error("give both --teacher and --student, or neither")
    output: OutputType = "latent" if options.model == "XL" else "pt"
    if options.teacher is None:
        name, pair = options.model.lower(), random_pair(options.model)
    else:
        name, output = "runs", "pt"
        pair = [DiffGenPipeline.from_pretrained(one) for one in (options.teacher, options.student)]
        if pair[1].distilled is None:
            parser.error(f"--student {options.student} is not distilled")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for pipe in pair:
        pipe.to(device)
        pipe.set_progress_bar_config(disable=True)
        if device == "cuda":
            pipe.transformer.bfloat16()
    name = f"nitro-{name}-{device}"
    compare(
        name,
        drawings(*pair, options.batch, output),
        rounds=options.rounds,
        items_per_call=options.batch,
        device=device,
        out=options.out / f"{name}.json",
    )


def random_pair(size: str) -> list[DiffGenPipeline]:
    """Teacher and student of one model of random weights."""
    torch.manual_seed(0)
    patch, channels = (4, 3) if size == "demo" else (2, 4)
    config = DiTConfig(size=size, patch_size=patch)
    model = DiT.build(config, num_classes=8, in_channels=channels, sample_size=(32, 32))
    distilled = Distilled().model_dump(mode="json")
    return [
        DiffGenPipeline(model, build_scheduler("dpmpp")),
        DiffGenPipeline(model, build_scheduler("lcm"), distilled=distilled),
    ]


def drawings(
    teacher: DiffGenPipeline, student: DiffGenPipeline, batch: int, output: OutputType
) -> dict[str, Callable[[], object]]:
    """What is timed, by name; the student's single step first, which the others are held against.

    The teacher is walked by the solver it was saved with.
    """
    labels = [k % max(1, teacher.transformer.num_classes) for k in range(batch)]
    shared = {"seed": 0, "output_type": output}
    students = {
        f"student_{n}": partial(student, labels, num_inference_steps=n, **shared)
        for n in student.distilled.steps
    }
    teachers = {
        f"teacher_{n}": partial(
            teacher, labels, num_inference_steps=n, guidance=CFG(SCALE), **shared
        )
        for n in TEACHER_STEPS
    }
    return {**students, **teachers}


if __name__ == "__main__":
    main()
