"""Optimisers as the configuration asks, and their learning rate over the images seen."""

import math

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from diffgen.config.optimizer import AdamWConfig, MuonConfig, OptimizerConfig, ScheduleConfig
from diffgen.training.muon import Muon


def build_optimizers(config: OptimizerConfig, model: nn.Module) -> list[torch.optim.Optimizer]:
    """One optimiser, or with Muon two: the blocks' matrices, and all else that is trained."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    match config:
        case AdamWConfig():
            return [_adamw(list(trained.values()), config)]
        case MuonConfig():
            matrices = [
                p for name, p in trained.items() if ".blocks." in f".{name}" and p.ndim == 2
            ]
            chosen = {id(p) for p in matrices}
            rest = [p for p in trained.values() if id(p) not in chosen]
            found: list[torch.optim.Optimizer] = []
            if matrices:  # of some models only other parameters are trained
                decay = config.weight_decay
                found.append(Muon(matrices, config.muon_lr, config.momentum, decay))
            return [*found, _adamw(rest, config)] if rest else found


def _adamw(params: list[nn.Parameter], config: AdamWConfig | MuonConfig) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        params, config.lr, config.betas, weight_decay=config.weight_decay, fused=True
    )


def rate(config: ScheduleConfig, seen: int, total: int) -> float:
    """Factor in [0, 1] on the learning rate after ``seen`` of ``total`` images."""
    warmup = min(1.0, seen / config.warmup_images) if config.warmup_images else 1.0
    start = (1 - config.decay_share) * total
    progress = min(1.0, max(0.0, (seen - start) / (total - start)))
    match config.decay:
        case "constant":
            decay = 1.0
        case "linear":
            decay = 1 - progress
        case "cosine":
            decay = (1 + math.cos(math.pi * progress)) / 2
    return warmup * decay


def build_schedules(
    config: ScheduleConfig, optimizers: list[torch.optim.Optimizer], total: int, batch_size: int
) -> list[LambdaLR]:
    """Schedules to step once an optimiser step, each of ``batch_size`` images.

    They are not given to accelerate, which would step them once a process.
    """

    def factor(step: int) -> float:  # the step about to be taken ends at step + 1 batches
        return rate(config, (step + 1) * batch_size, total)

    return [LambdaLR(optimizer, factor) for optimizer in optimizers]
