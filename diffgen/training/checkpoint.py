"""Checkpoints: everything a run needs to go on as if nothing had happened.

``checkpoints/images-000012800/`` holds the weights and averages as safetensors and the optimisers'
state. Randomness and data order are functions of the images seen, so no generator is saved.
"""

import json
import pickle
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from diffgen.errors import UserError
from diffgen.files import write_folder
from diffgen.models.fit import misfit, shapes
from diffgen.training.ema import EMA

NAME = re.compile(r"images-(\d+)")
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

    def save(self, folder: Path) -> None:
        """Write everything into ``folder``."""
        for name, module in self._modules():
            save_file(_contiguous(module.state_dict()), folder / f"{name}.safetensors")
        for average in self.ema.averages:
            save_file(_contiguous(average.weights), folder / f"ema-{average.name}.safetensors")
        state = {
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "schedules": [schedule.state_dict() for schedule in self.schedules],
        }
        torch.save(state, folder / "optimizer.pt")
        progress = {
            "images_seen": self.seen,
            "window": asdict(self.window),
            "class_names": list(self.class_names),
            "num_images": self.num_images,
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
        """Restore everything from ``folder``.

        Raises:
            UserError: a file is missing, damaged or of another model. Nothing is deleted.
        """
        try:
            progress = json.loads((folder / "state.json").read_text())
            self._same_classes(progress["class_names"], folder)
            self._same_count(progress.get("num_images", self.num_images), folder)
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
            for schedule, saved in zip(self.schedules, state["schedules"], strict=True):
                schedule.load_state_dict(saved)
            self.seen, self.window = progress["images_seen"], Window(**progress["window"])
        except UNREADABLE as error:
            raise UserError(
                f"checkpoint {folder} cannot be read ({error}); "
                "remove or mend it, an older one beside it will then be used"
            ) from error


def _fitting(file: Path, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of ``file``. Raises UserError: one is not as ``wanted``."""
    stored = load_file(file)
    wrong = misfit(shapes(wanted), shapes(stored))
    if wrong:
        raise UserError(f"{file} is of another model: {wrong}; choose another --out")
    return stored


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}


class Checkpoints:
    """The checkpoints of one run, newest last."""

    def __init__(self, run: Path, keep: int) -> None:
        self.folder = run / "checkpoints"
        self.keep = keep

    def all(self) -> list[Path]:
        """Finished checkpoints, oldest first."""
        if not self.folder.is_dir():
            return []
        found = [path for path in self.folder.iterdir() if NAME.fullmatch(path.name)]
        return sorted(found, key=seen_of)

    def newest(self) -> Path | None:
        """The checkpoint to resume from, if there is one."""
        found = self.all()
        return found[-1] if found else None

    def save(self, seen: int, write: Callable[[Path], Any]) -> Path:
        """Write a checkpoint whole, then drop the oldest beyond ``keep``."""
        target = self.folder / f"images-{seen:09d}"
        if self.folder.is_dir():
            for left in self.folder.glob(".images-*"):  # by a save that was killed
                shutil.rmtree(left, ignore_errors=True)
        write_folder(target, write)
        for old in self.all()[: -self.keep]:
            shutil.rmtree(old)
        return target


def seen_of(checkpoint: Path) -> int:
    """Images seen at a checkpoint, from its name."""
    match = NAME.fullmatch(checkpoint.name)
    if match is None:
        raise ValueError(f"{checkpoint} is no checkpoint")
    return int(match[1])
