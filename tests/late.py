"""Tiny models under late constraints, of every solver."""

import torch
from torch import Tensor

from diffgen import APG, CFG, DiffGenPipeline
from diffgen.config.process import DDPMConfig
from diffgen.guidance import Constraint
from diffgen.sampling.guided import GuidedDenoiser
from diffgen.sampling.late import LateDenoiser
from diffgen.sampling.noise import position_seeds
from diffgen.sampling.schedulers import build_scheduler
from tests.tiny import build

LEARNED = DDPMConfig(learned_variance=True)
SOLVERS = ["euler", "heun", "dpmpp", "ddim", "ddpm"]
RULES = [CFG(3.0), APG(5.0, 0.2, 0.1, -0.5, "rms")]
RANDOM = {"kind": "rpe2d", "inference": "random", "range_rows": 12, "range_columns": 12}
LABELS = torch.tensor([0, 1, 2])
X_T = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def chain(solver: str = "ddpm") -> DiffGenPipeline:
    """A tiny DDPM model that predicts v and variances."""
    pipe = build(prediction="v", out_channels=6)
    pipe.scheduler = build_scheduler(solver, process=LEARNED)
    return pipe


def pipe_of(solver: str) -> DiffGenPipeline:
    return chain(solver) if solver in ("ddim", "ddpm") else build(solver)


def late(pipe: DiffGenPipeline, *constraints: Constraint, rule=RULES[0], labels=LABELS):
    """(its guided denoiser, the same under constraints)."""
    denoiser = pipe.denoiser(position_seeds(list(range(len(labels))), 3))

    def guided() -> GuidedDenoiser:
        run = rule.begin(denoiser.process.prediction)
        return GuidedDenoiser(denoiser, run, labels, pipe.transformer.num_classes)

    with torch.no_grad():
        return guided(), LateDenoiser(guided(), constraints)


def moved(pipe: DiffGenPipeline, *constraints: Constraint, t=0.7, x_t=X_T) -> Tensor:
    """What constraints take from the guided x0."""
    base, constrained = late(pipe, *constraints)
    with torch.no_grad():
        return base(x_t, t, True).x0 - constrained(x_t, t, True).x0
