"""What a checkpoint holds: everything a run needs to go on as if nothing had happened.

That is the weights and averages as safetensors and the optimisers' state; of a sharded model all
of it in ``shards/``, as torch.distributed.checkpoint writes it. Randomness and data order are
functions of the images seen, so no generator is saved.
"""

import json
import os
import pickle
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from diffgen.errors import UserError
from diffgen.group import Group
from diffgen.models.fit import misfit, shapes
from diffgen.training.checkpoints import Checkpoints
from diffgen.training.ema import EMA
from diffgen.training.sharding import load_shards, put_tensors, save_shards, tensors_of

SHARDS = "shards"
# What json, safetensors, torch and pickle raise over a damaged or foreign file.
UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    RuntimeError,
    pickle.UnpicklingError,
    SafetensorError,
)


@dataclass
class Window:
    """Sum and count of the losses since the last line of metrics.jsonl, in double precision."""

    total: float = 0.0
    steps: int = 0
    parts: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Sum and count of parts of the losses, by name."""

    def add(self, parts: Mapping[str, tuple[float, float]]) -> None:
        """Add sums and counts."""
        for name, (total, count) in parts.items():
            before, steps = self.parts.get(name, (0.0, 0.0))
            self.parts[name] = (before + total, steps + count)


@dataclass
class TrainingState:
    """What is saved and restored."""

    model: nn.Module
    ema: EMA
    optimizers: list[torch.optim.Optimizer]
    schedules: list[torch.optim.lr_scheduler.LambdaLR]
    others: Mapping[str, nn.Module] = field(default_factory=dict)
    """Whatever else is trained, whole in its state dict, by the name of its file."""
    class_names: tuple[str, ...] = ()
    """Classes of the data in label order; a run is not resumed on others."""
    num_images: int | None = None
    """Images of the data, which order them; a run is not resumed on others. None: a stream."""
    seen: int = 0
    """Images seen."""
    window: Window = field(default_factory=Window)
    """Losses not logged yet, kept so that the loss curve too goes on bit for bit."""
    sharded: bool = False
    """Every process holds a share of the model, its averages and its optimisers."""

    def whole(self, keep: bool = True, every: bool = True) -> "TrainingState":
        """The same with averages that are not split among the processes; see ``EMA.whole``."""
        return replace(self, ema=self.ema.whole(keep, every)) if self.sharded else self

    def save_together(
        self, checkpoints: Checkpoints, group: Group, milestone: bool = False
    ) -> None:
        """Add a checkpoint to ``checkpoints``; all processes must call it.

        Raises:
            UserError: it cannot be written; those before it stay.
        """
        if not self.sharded:
            with group.together():
                if group.main:
                    checkpoints.save(self.seen, self.save, milestone)
            return
        shares = checkpoints.folder / f".{SHARDS}.new"
        try:
            with group.together():
                parts = self._split()
                if group.main:
                    _empty(shares)
            save_shards(shares, group.channel, **parts)
            with group.together():
                if group.main:
                    gather = partial(self._gather, shares)
                    checkpoints.save(self.seen, gather, milestone)
        finally:
            if group.main:
                shutil.rmtree(shares, ignore_errors=True)

    def _split(self) -> dict[str, Any]:
        averages = {average.name: average.weights for average in self.ema.averages}
        return {**tensors_of(self.model, self.optimizers), "averages": averages}

    def _gather(self, shares: Path, folder: Path) -> None:
        os.rename(shares, folder / SHARDS)
        schedules = [schedule.state_dict() for schedule in self.schedules]
        self._save_progress(folder, schedules=schedules)

    def save(self, folder: Path) -> None:
        """Write everything into ``folder``, from one process that holds all of it."""
        for name, module in self._modules():
            save_file(_contiguous(module.state_dict()), folder / f"{name}.safetensors")
        for average in self.ema.averages:
            save_file(_contiguous(average.weights), folder / f"ema-{average.name}.safetensors")
        state = {
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "schedules": [schedule.state_dict() for schedule in self.schedules],
        }
        torch.save(state, folder / "optimizer.pt")
        self._save_progress(folder)

    def _save_progress(self, folder: Path, **more: Any) -> None:
        progress = {
            "images_seen": self.seen,
            "window": asdict(self.window),
            "class_names": list(self.class_names),
            "num_images": self.num_images,
            **more,
        }
        (folder / "state.json").write_text(json.dumps(progress))

    def _modules(self) -> Iterator[tuple[str, nn.Module]]:
        yield "model", self.model
        yield from self.others.items()

    def _same_classes(self, saved: list[str], folder: Path) -> None:
        if list(self.class_names) != saved:
            raise UserError(
                f"data: {folder} was trained on the classes {', '.join(saved)}, but the data now "
                f"has {', '.join(self.class_names)}; bring the old ones back, or choose another "
                "--out"
            )

    def _same_count(self, saved: int | None, folder: Path) -> None:
        if self.num_images != saved:
            raise UserError(
                f"data: {folder} was trained on {saved} images, but the data now has "
                f"{self.num_images}, so the run could not go on in its order; bring the old ones "
                "back, or choose another --out"
            )

    def load(self, folder: Path) -> None:
        """Restore everything from ``folder``, in a process that holds all of it.

        Raises:
            UserError: a file is missing, damaged or of another model. Nothing is deleted.
        """
        with _explained(folder):
            progress = self._progress(folder)
            self._go_on(progress, self._load_whole(folder))

    def load_together(self, folder: Path, group: Group) -> None:
        """``load``, also of a state that is split; all processes must call it."""
        if not self.sharded:
            with group.together():
                self.load(folder)
            return
        with group.together(), _explained(folder):
            progress, parts = self._progress(folder), self._split()
        load_shards(folder / SHARDS, group.channel, **parts)  # the averages in place
        with group.together(), _explained(folder):
            put_tensors(self.model, self.optimizers, parts)
            self._go_on(progress, progress["schedules"])

    def _progress(self, folder: Path) -> dict[str, Any]:
        """What state.json says, if it is of the same images."""
        progress: dict[str, Any] = json.loads((folder / "state.json").read_text())
        self._same_classes(progress["class_names"], folder)
        self._same_count(progress.get("num_images", self.num_images), folder)
        return progress

    def _go_on(self, progress: dict[str, Any], schedules: list[dict[str, Any]]) -> None:
        for schedule, saved in zip(self.schedules, schedules, strict=True):
            schedule.load_state_dict(saved)
        self.seen, self.window = progress["images_seen"], Window(**progress["window"])

    def _load_whole(self, folder: Path) -> list[dict[str, Any]]:
        """Restore all but the schedules, which are returned."""
        for name, module in self._modules():
            stored = _fitting(folder / f"{name}.safetensors", module.state_dict())
            module.load_state_dict(stored)
        for average in self.ema.averages:
            stored = _fitting(folder / f"ema-{average.name}.safetensors", average.weights)
            for name, tensor in average.weights.items():
                tensor.copy_(stored[name])
        state = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        schedules: list[dict[str, Any]] = state["schedules"]
        return schedules


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except UNREADABLE as error:
        raise UserError(f"checkpoint {folder} cannot be read ({error})") from error


def _empty(folder: Path) -> None:
    """Make ``folder`` anew. Raises UserError: no space or no permission."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made: {error}") from None


def _fitting(file: Path, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of ``file``. Raises UserError: one is not as ``wanted``."""
    stored = load_file(file)
    wrong = misfit(shapes(wanted), shapes(stored))
    if wrong:
        raise UserError(f"{file} is of another model: {wrong}; choose another --out")
    return stored


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
