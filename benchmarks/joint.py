"""What does it cost to draw an image and its condition together?

Whole drawings of 20 steps by the demo's model under classifier-free guidance, of the same noise
and labels. ``--model XL`` takes DiT-XL/2 on latents.

    python -m benchmarks.joint
"""

from __future__ import annotations

import argparse
from functools import partial

import torch

from benchmarks.harness import compare
from diffgen import CFG, DiffGenPipeline, DiT
from diffgen.config.model import DiTConfig
from diffgen.joint.adapter import JointAdapter
from diffgen.joint.pipeline import Given, JointPipeline
from diffgen.lacon.conditions import DEPTH, MASK, Condition
from diffgen.sampling.schedulers import build_scheduler

STEPS, BATCH, ROUNDS = 20, 16, 16


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
    depth, mask = (fresh(model, condition) for condition in (DEPTH, MASK))
    one, two = JointPipeline(pipe, [depth]), JointPipeline(pipe, [depth, mask])
    labels = [k % 8 for k in range(options.batch)]
    shared = {"num_inference_steps": STEPS, "guidance": CFG(2.0), "seed": 0}
    drawn = partial(one, labels, latent=True, **shared)
    variants = {
        "cfg": partial(pipe, labels, output_type="latent", **shared),
        "twice_as_many": partial(
            pipe,
            labels * 2,
            output_type="latent",
            image_numbers=[*range(len(labels))] * 2,
            **shared,
        ),
        "joint": drawn,
        "joint_separate": partial(drawn, condition_scale=1.0),
        "joint_two": partial(two, labels, latent=True, **shared),
    }
    if channels == 3:
        maps = Given(torch.zeros(1, 1, 32, 32))
        variants["image_from_depth"] = partial(drawn, given={"depth": maps})
    compare(
        f"joint-{options.model.lower()}-{device}",
        variants,
        rounds=options.rounds,
        items_per_call=options.batch,
        device=device,
    )


def fresh(model: DiT, condition: Condition) -> tuple[JointAdapter, Condition]:
    """An adapter of fresh weights; they cost what trained ones do."""
    adapter = JointAdapter.of(model, condition.name, condition.channels, condition.binary)
    return adapter.requires_grad_(False), condition


if __name__ == "__main__":
    main()
