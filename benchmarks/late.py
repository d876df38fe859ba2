"""What does a late constraint cost over classifier-free guidance alone?

Whole drawings of 20 steps by the demo's model, of the same noise and labels; only the constraints
differ. Those on features act at 12 of the 20 steps. ``--model XL`` takes DiT-XL/2 on latents.

    python -m benchmarks.late
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.harness import compare
from diffgen import CFG, DiffGenPipeline, DiT
from diffgen.config.model import DiTConfig
from diffgen.guidance import Constraint
from diffgen.lacon.aligner import Aligner
from diffgen.lacon.conditions import EDGE, MASK
from diffgen.lacon.losses import Aligned, LowResolution
from diffgen.sampling.schedulers import build_scheduler

STEPS, BATCH, ROUNDS, UNTIL = 20, 16, 16, 0.4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=("demo", "XL"), default="demo", help="the backbone")
    parser.add_argument("--batch", type=int, default=BATCH, help="images a drawing [count]")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of every variant [count]")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    patch, channels = (4, 3) if options.model == "demo" else (2, 4)
    config = DiTConfig(size=options.model, patch_size=patch)
    model = DiT.build(config, num_classes=8, in_channels=channels, sample_size=(32, 32))
    model.to(device)
    if device == "cuda":
        model.bfloat16()
    pipe = DiffGenPipeline(model, build_scheduler("dpmpp"))
    pipe.set_progress_bar_config(disable=True)
    edge, mask = (aligned(model, condition) for condition in (EDGE, MASK))
    coarse = LowResolution(torch.zeros(1, channels, 8, 8, device=device))
    draw = partial(
        pipe,
        [k % 8 for k in range(options.batch)],
        num_inference_steps=STEPS,
        guidance=CFG(2.0),
        seed=0,
        output_type="latent",
    )
    compare(
        f"late-{options.model.lower()}-{device}",
        {
            "cfg": draw,
            "late": partial(draw, constraints=[edge]),
            "late_checkpointed": partial(recomputing, model, partial(draw, constraints=[edge])),
            "late_two": partial(draw, constraints=[edge, mask]),
            "on_x0": partial(draw, constraints=[Constraint(coarse, form="none")]),
        },
        rounds=options.rounds,
        items_per_call=options.batch,
        device=device,
    )


def aligned(model: DiT, condition: Any) -> Constraint:
    """A constraint by an aligner of random weights."""
    aligner = Aligner.of(model, condition.name, condition.channels).requires_grad_(False)
    wanted = torch.zeros(1, condition.channels, 32, 32, device=model.device)
    return Constraint(Aligned(aligner.to(model.device), condition, wanted), until=UNTIL)


def recomputing(model: DiT, draw: Callable[[], object]) -> None:
    """``draw`` with gradient checkpointing."""
    model.enable_gradient_checkpointing()
    try:
        draw()
    finally:
        model.disable_gradient_checkpointing()


if __name__ == "__main__":
    main()
