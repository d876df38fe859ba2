"""One model, its optimisers and averages, and the rows in which its training steps are taken.

All rows share the weights and the averages, so that DiT-XL/2 fits with all of them on one GPU.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import default_collate

from diffgen import DiT
from diffgen.commands.begin_training import open_accelerator
from diffgen.commands.train import build_draws, build_objective
from diffgen.config.command_line import parse
from diffgen.config.optimizer import MuonConfig
from diffgen.config.route import RouteConfig
from diffgen.config.train import TrainConfig
from diffgen.config.vae import LatentFormat, VAEConfig
from diffgen.data.order import Drawn, Sample
from diffgen.group import ALONE
from diffgen.models.compiled import compile_blocks
from diffgen.models.flops import Skipped, forward_macs, training_flops
from diffgen.models.route import kept_count
from diffgen.models.vae import LatentSpace
from diffgen.training.checkpoint import TrainingState
from diffgen.training.draws import Draws
from diffgen.training.ema import EMA
from diffgen.training.latents import Encoder
from diffgen.training.loop import Loop
from diffgen.training.optimizers import build_optimizers, build_schedules
from diffgen.training.step import Objective

RECIPE = Path(__file__).parents[1] / "configs/dit.yaml"
SIDE, CHANNELS = 32, 4
MUON = MuonConfig(muon_lr=1e-3)
Stepping = Literal["fused", "unfused", "muon"]


@dataclass(frozen=True)
class Row:
    """How a step is taken; the defaults are the first row's."""

    compiled: bool | None = None
    """None: as in the first row."""
    checkpointed: bool = False
    routed: bool = False
    ema_every: int = 1
    optimizer: Stepping = "fused"


ROWS = {
    "compiled": Row(compiled=True),
    "eager": Row(compiled=False),
    "checkpointed": Row(checkpointed=True),
    "routed": Row(routed=True),
    "ema_8": Row(ema_every=8),
    "unfused": Row(optimizer="unfused"),
    "muon": Row(optimizer="muon"),
}


def open_training(size: str, device: torch.device, batch: int, compiled: bool) -> Training:
    """A model of random weights, and a batch that lies ready as a loader leaves it."""
    config = recipe(size, device, batch)
    pixels = size == "demo"
    classes = 8 if pixels else 1000
    torch.manual_seed(0)
    model = DiT.build(
        config.model,
        num_classes=classes,
        in_channels=3 if pixels else CHANNELS,
        sample_size=(SIDE, SIDE),
        learned_variance=config.process.learned_variance,
    )
    model.to(device).train()
    if compiled:
        compile_blocks(model)
    images = torch.randn(batch, 3 if pixels else 2 * CHANNELS, SIDE, SIDE)
    found: Sample = {
        "image": images if pixels else images.abs(),  # of posteriors half are deviations
        "crop": torch.zeros(batch, 4),
        "label": torch.arange(batch) % classes,
        "number": torch.arange(batch),
    }
    encode = None if pixels else latents_of_posteriors()
    objective = build_objective(config, classes, device, encode)
    found |= drawn(build_draws(objective, encode), found)
    if device.type == "cuda":
        found = {name: part.pin_memory() for name, part in found.items()}
    accelerator = open_accelerator(config.train, config.device, config.out)
    return Training(config, accelerator, model, found, objective, compiled)


def recipe(size: str, device: torch.device, batch: int) -> TrainConfig:
    """The configuration of a training on what ``open_training`` makes up."""
    argv = ["--device", device.type, "--train.batch-size", str(batch), "--data.size", "32x32"]
    argv += ["--out", str(Path(tempfile.gettempdir()) / "diffgen-benchmark")]  # stays empty
    argv += ["--train.precision", "bf16" if device.type == "cuda" else "fp32"]
    if size == "demo":
        return parse(TrainConfig, [*argv, "--optimizer.kind", "adamw"], "benchmark")
    return parse(TrainConfig, [*argv, "--config", str(RECIPE), "--model.size", size], "benchmark")


def drawn(draws: Draws, batch: Sample) -> Drawn:
    """What is drawn for a batch, as a loader's workers leave it."""
    samples = [Sample(image=image, number=number) for number, image in enumerate(batch["image"])]
    return default_collate([draws(sample) for sample in samples])


def latents_of_posteriors() -> Encoder:
    """As for prepared latents, which no VAE is needed for."""
    form = LatentFormat(factor=8, mean=(0.0,) * CHANNELS, std=(1.0,) * CHANNELS)
    return Encoder(LatentSpace(None, form), VAEConfig(path="none"), seed=0)


@dataclass
class Training:
    """What all rows share."""

    config: TrainConfig
    accelerator: Accelerator
    model: DiT
    batch: Sample
    objective: Objective
    compiled: bool
    """In the first row."""
    _optimizers: dict[Stepping, tuple[list, list]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.prepared: nn.Module = self.accelerator.prepare(self.model)
        self.ema = EMA(self.config.ema, self.model)
        self.images = self.config.train.batch_size
        self.tokens = (SIDE // self.model.patch_size) ** 2
        low = self.config.train.precision == "bf16"
        self.dtype = torch.bfloat16 if low else torch.float32

    def call(self, row: Row, steps: int) -> Callable[[], None]:
        """So many steps in a row."""
        loop = self.loop(row)

        def take() -> None:
            with self.switched(row):
                for _ in range(steps):
                    self.step(loop)

        return take

    def step(self, loop: Loop, between: Callable[[], Any] = lambda: None) -> None:
        """One, as the training loop takes it; ``between`` it and the averages."""
        loop._step([self.batch])
        between()
        loop.state.seen += self.images
        loop.state.ema.update(self.model, loop.state.seen, self.images)

    def loop(self, row: Row) -> Loop:
        """The training loop of a row; it steps, but has no data and no folder."""
        ema = copy.copy(self.ema)
        ema.config = ema.config.model_copy(update={"every": row.ema_every})
        optimizers, schedules = self.optimizers(row.optimizer)
        return Loop(
            settings=self.config.train,
            accelerator=self.accelerator,
            group=ALONE,
            data=None,
            model=self.prepared,
            objective=self.routed(row),
            state=TrainingState(self.model, ema, optimizers, schedules),
            folder=None,
            hooks=None,
        )

    @contextmanager
    def switched(self, row: Row) -> Iterator[None]:
        """The shared model as ``row`` has it."""
        compiled = self.compiled if row.compiled is None else row.compiled
        if row.checkpointed:
            self.model.enable_gradient_checkpointing()
        try:
            with torch.compiler.set_stance("default" if compiled else "force_eager"):
                yield
        finally:
            self.model.disable_gradient_checkpointing()

    def optimizers(self, kind: Stepping) -> tuple[list, list]:
        """Optimisers and schedules, each kind's with a state of its own."""
        if kind not in self._optimizers:
            settings = self.config.optimizer
            match kind:
                case "fused":
                    found = build_optimizers(settings, self.model)
                case "muon":
                    found = build_optimizers(MUON, self.model)
                case "unfused":
                    rates = {"betas": settings.betas, "weight_decay": settings.weight_decay}
                    found = [torch.optim.AdamW(self.model.parameters(), settings.lr, **rates)]
            loop = self.config.train
            schedules = build_schedules(self.config.schedule, found, loop.images, loop.batch_size)
            self._optimizers[kind] = (found, schedules)
        return self._optimizers[kind]

    def routed(self, row: Row) -> Objective:
        """The objective, with the row's way of the tokens."""
        depth = len(self.model.blocks)
        return replace(self.objective, route=self.route if row.routed else None, depth=depth)

    @property
    def route(self) -> RouteConfig:
        """The default one, or what is left of it in a model of few blocks."""
        depth = len(self.model.blocks)
        return RouteConfig() if depth > 6 else RouteConfig(first=1, last=depth - 1)

    def flops(self, row: Row) -> float:
        """Of a step for one image."""
        skipped = None
        if row.routed:
            bounds = self.route.bounds(len(self.model.blocks))
            skipped = Skipped(kept_count(self.tokens, self.route.share), *bounds)
        return training_flops(forward_macs(self.model.config, (SIDE, SIDE), skipped))

    def state_bytes(self, row: Row) -> int:
        """Weights, averages and the state of the row's optimisers, once it has taken a step."""
        averages = [w for average in self.ema.averages for w in average.weights.values()]
        held = [*self.model.parameters(), *averages]
        for optimizer in self.optimizers(row.optimizer)[0]:
            for state in optimizer.state.values():
                held += [part for part in state.values() if isinstance(part, Tensor)]
        return sum(part.numel() * part.element_size() for part in held)
