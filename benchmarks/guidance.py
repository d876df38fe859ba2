"""What does a guidance rule cost over classifier-free guidance?

Whole drawings of 50 steps by the demo's model, of the same noise and labels; only the rule differs.

    python -m benchmarks.guidance
"""

from __future__ import annotations

import argparse
from functools import partial

import torch

from benchmarks.harness import compare
from diffgen import APG, CFG, DiffGenPipeline, DiT
from diffgen.config.model import DiTConfig
from diffgen.guidance import CFGZeroStar, Interval, Rescale
from diffgen.sampling.schedulers import build_scheduler

SCALE, STEPS, BATCH, ROUNDS = 4.0, 50, 16, 16
RULES = {
    "cfg": CFG(SCALE),
    "apg": APG(SCALE, eta=0.0, threshold=0.01, threshold_mode="rms", momentum=-0.75),
    "cfg_zero_star": CFGZeroStar(SCALE),
    "cfg_rescaled": Rescale(CFG(SCALE), 0.7),
    "cfg_interval": Interval(CFG(SCALE), 0.3, 2.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=BATCH, help="images a drawing [count]")
    batch = parser.parse_args().batch
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    model = DiT.build(DiTConfig(), num_classes=8, in_channels=3, sample_size=(32, 32))
    pipe = DiffGenPipeline(model, build_scheduler("dpmpp")).to(device)
    pipe.set_progress_bar_config(disable=True)
    draw = partial(
        pipe,
        [k % 8 for k in range(batch)],
        num_inference_steps=STEPS,
        seed=0,
        output_type="latent",
    )
    compare(
        f"guidance-demo-{device}",
        {name: partial(draw, guidance=rule) for name, rule in RULES.items()},
        rounds=ROUNDS,
        items_per_call=batch,
        device=device,
    )


if __name__ == "__main__":
    main()
