"""The training loop. It counts images, saves whole checkpoints, and stops on a bad loss."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.distributed.tensor import DTensor
from tqdm import tqdm

from diffgen.config.loop import LoopConfig
from diffgen.data.loader import load_batches
from diffgen.data.order import BatchNumbers, Sample, TrainingData
from diffgen.errors import DivergedError
from diffgen.group import Group
from diffgen.signals import Interrupted, deferred
from diffgen.training.checkpoint import TrainingState, Window
from diffgen.training.checkpoints import Checkpoints
from diffgen.training.run_folder import RunFolder
from diffgen.training.trackers import log_measures, log_scalars


@dataclass(frozen=True)
class Measure:
    """What is measured on the way, by all processes together."""

    every: int
    """[images seen]"""
    take: Callable[[TrainingState], Mapping[str, Any] | None]
    """Every process calls it; what the main one gets goes into validation.jsonl."""


@dataclass(frozen=True)
class Hooks:
    """What happens beside the training, on the main process only, but for the measures.

    The averages in the state they get are whole, also those of a sharded model.
    """

    sample: Callable[[TrainingState], object]
    """Draw a preview."""
    checkpoint: Callable[[TrainingState], object] = lambda state: None
    """A checkpoint has been saved."""
    measures: Sequence[Measure] = ()
    facts: Callable[[float], Mapping[str, Any]] = lambda speed: {}
    """Images a second -> what else a line of the log says."""


@dataclass
class Loop:
    """Everything the loop works with."""

    settings: LoopConfig
    accelerator: Accelerator
    group: Group
    data: TrainingData
    model: nn.Module
    """As accelerate prepared it; ``state.model`` is the same one unwrapped."""
    objective: Callable[[nn.Module, Sample], torch.Tensor]
    """(``model``, a batch) -> the mean of its losses, 0-d fp32."""
    state: TrainingState
    folder: RunFolder
    hooks: Hooks
    cut: Callable[[Sample], Iterable[Sample]] = lambda batch: (batch,)
    """A process's batch -> the pieces it computes at once."""
    parts: Callable[[], Mapping[str, tuple[float, float]]] = dict
    """Sums and counts of parts of this process's losses, by name, since it was last called."""
    stepped: Callable[[], object] = lambda: None
    """What else takes a step when the model has; every process calls it."""
    remedy: str = "lower --optimizer rates in a new --out may help"
    """What to try after a bad loss."""

    def run(self) -> None:
        """Train from ``state.seen`` to the configured number of images.

        Raises:
            DivergedError: the loss, or what is trained beside the model, became NaN or infinite;
                the last good checkpoint is named.
            UserError: an image is damaged.
            Interrupted: a signal came; the running step was finished and a checkpoint saved.
        """
        settings = self.settings
        stop = settings.batch_size * math.ceil(settings.images / settings.batch_size)
        if self.state.seen >= stop:
            return
        self.checkpoints = Checkpoints(self.folder.path, settings.keep_checkpoints)
        self.model.train()
        with self.group.connected(), self._bar(stop) as bar, deferred() as request:
            for saved in self._train(stop, bar):
                signum = self.group.largest(request.signum)
                if signum:
                    raise Interrupted(signum, self._stopped(saved))

    def _train(self, stop: int, bar: tqdm) -> Iterator[bool]:
        """Train to ``stop`` images; after every step, tell whether a checkpoint was saved."""
        settings, state = self.settings, self.state
        batch = settings.batch_size
        micro_batches = self._micro_batches(stop)
        clock, logged, self.paused = time.perf_counter(), state.seen, 0.0
        self.pending = torch.zeros((), dtype=torch.float64, device=self.accelerator.device)
        while state.seen < stop:
            loss, self.norm = self._step(self._next(micro_batches))
            self.pending += loss
            state.window.steps += 1
            state.seen += batch
            state.ema.update(state.model, state.seen, batch)
            bar.update(batch)
            done = state.seen == stop
            regular = crossed(state.seen, batch, settings.checkpoint_images)
            saving = done or regular or self._milestone(state.seen)
            logging = done or crossed(state.seen, batch, settings.log_images)
            if logging or saving:
                self._collect()
            if logging:
                elapsed = time.perf_counter() - clock - self.paused
                self._log(bar, (state.seen - logged) / elapsed)
                clock, logged, self.paused = time.perf_counter(), state.seen, 0.0
            # A checkpoint comes last: it says that all the rest is there.
            self._measure(done)
            if settings.sample_images and crossed(state.seen, batch, settings.sample_images):
                self._beside(self.hooks.sample)
            if saving:
                self._save()
                self._beside(self.hooks.checkpoint, every=True)
            yield saving

    @contextmanager
    def _pause(self) -> Iterator[None]:
        """What is no training, and no part of its speed."""
        if self.accelerator.device.type == "cuda":
            torch.cuda.synchronize()  # steps still under way are training
        start = time.perf_counter()
        yield
        self.paused += time.perf_counter() - start
        self.model.train()

    def _milestone(self, seen: int) -> bool:
        """True where a checkpoint is kept for good."""
        every = self.settings.milestone_images
        return bool(every) and crossed(seen, self.settings.batch_size, every)

    def _measure(self, done: bool) -> None:
        """Take the measures that are due, each once more at the end."""
        seen, batch = self.state.seen, self.settings.batch_size
        due = [one for one in self.hooks.measures if done or crossed(seen, batch, one.every)]
        if not due:
            return
        with self._pause():
            state = self.state.whole(every=False)
            found = [line for one in due if (line := one.take(state))]
            with self.group.together():
                if self.group.main and found:
                    line = {"images": seen} | {k: v for each in found for k, v in each.items()}
                    self.folder.log_validation(line)
                    log_measures(self.accelerator, line)

    def _micro_batches(self, stop: int) -> Iterator[Sample]:
        numbers = BatchNumbers(
            start=self.state.seen,
            stop=stop,
            batch_size=self.settings.batch_size,
            accumulation=self.settings.accumulation,
            rank=self.group.rank,
            world=self.group.world,
        )
        pin_memory = self.accelerator.device.type == "cuda"
        return load_batches(self.data, numbers, self.settings.workers, pin_memory)

    def _next(self, micro_batches: Iterator[Sample]) -> list[Sample]:
        """This process's part of the next batch, in micro-batches."""
        with self.group.together():
            return [next(micro_batches) for _ in range(self.settings.accumulation)]

    def _step(self, micro_batches: list[Sample]) -> tuple[torch.Tensor, torch.Tensor]:
        """One optimiser step: (loss, gradient norm), both 0-d and still on the device."""
        pieces = [piece for batch in micro_batches for piece in self.cut(batch)]
        count = sum(len(piece["image"]) for piece in pieces)
        total = torch.zeros((), device=self.accelerator.device)
        for i, piece in enumerate(pieces):
            last, share = i == len(pieces) - 1, len(piece["image"]) / count
            context = nullcontext() if last else self.accelerator.no_sync(self.model)
            with context, self.accelerator.autocast():
                loss = self.objective(self.model, piece) * share
                self.accelerator.backward(loss)
            total += loss.detach()
        norm = self._gradient_norm()
        for optimizer, schedule in zip(self.state.optimizers, self.state.schedules, strict=True):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
        self.stepped()
        return self.accelerator.reduce(total, "mean"), norm

    def _gradient_norm(self) -> torch.Tensor:
        """0-d, of all gradients before they are clipped, which is done here if it is asked for."""
        trained = list(self.model.parameters())
        norm = torch.nn.utils.get_total_norm([p.grad for p in trained if p.grad is not None])
        if self.settings.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(trained, self.settings.clip_norm, norm)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def _collect(self) -> None:
        """Move the losses summed on the device into the window; refuse bad ones, or gradients."""
        self.state.window.total += self.pending.item()
        self.pending.zero_()
        for parts in self.group.everyones(self.parts()):
            self.state.window.add(parts)
        with self.group.together():
            wrong = self._not_finite()
            if wrong is None:
                return
            newest = self.checkpoints.newest()
            kept = f"the last good checkpoint is {newest}" if newest else "none was saved yet"
            raise DivergedError(
                f"{wrong} became NaN or infinite before {self.state.seen} images; {kept}; "
                f"{self.remedy}"
            )

    def _not_finite(self) -> str | None:
        """What has become NaN or infinite."""
        window = self.state.window
        if not (math.isfinite(window.total) and math.isfinite(self.norm.item())):
            return "the loss"
        for name, (total, _) in window.parts.items():
            if not math.isfinite(total):
                return f"the loss of {name}"
        for name, module in self.state.others.items():  # their last step shows in no loss yet
            if not all(bool(tensor.isfinite().all()) for tensor in module.state_dict().values()):
                return name
        return None

    def _log(self, bar: tqdm, speed: float) -> None:
        window = self.state.window
        loss = window.total / window.steps
        self.state.window = Window()
        bar.set_postfix_str(f"loss {loss:.4f}")
        rates = [schedule.get_last_lr()[0] for schedule in self.state.schedules]
        line: dict[str, Any] = {
            "images": self.state.seen,
            "loss": loss,
            "grad_norm": self.norm.item(),
            "learning_rates": rates,
            "images_per_second": round(speed, 2),
            "processes": self.group.world,
            **self.hooks.facts(speed),
        }
        if window.parts:
            line["losses"] = {n: total / k if k else None for n, (total, k) in window.parts.items()}
        with self.group.together():
            if self.group.main:
                self.folder.log(line)
                log_scalars(self.accelerator, line)

    def _save(self) -> None:
        with self._pause():
            milestone = self._milestone(self.state.seen)
            self.state.save_together(self.checkpoints, self.group, milestone)

    def _stopped(self, saved: bool) -> str:
        """Save, if it is not done yet, and say what is kept."""
        if not saved:
            self._collect()
            self._save()
        return (
            f"saved {self.checkpoints.newest()} at {self.state.seen:,} images, "
            "the same command goes on from it"
        )

    def _beside(self, hook: Callable[[TrainingState], object], every: bool = False) -> None:
        """``every``: it wants all averages, not only the one that is previewed."""
        with self._pause():
            state = self.state.whole(self.group.main, every)
            with self.group.together():
                if self.group.main:
                    hook(state)

    def _bar(self, stop: int) -> tqdm:
        return tqdm(
            total=stop,
            initial=self.state.seen,
            unit="img",
            desc="training",
            disable=not self.group.main,
            dynamic_ncols=True,
        )


def crossed(seen: int, batch: int, every: int) -> bool:
    """True when the last ``batch`` images passed a multiple of ``every``."""
    return seen // every > (seen - batch) // every
