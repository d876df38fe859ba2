"""The training loop. It counts images, saves whole checkpoints, and stops on a bad loss."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import nn
from tqdm import tqdm

from diffgen.config.train import TrainConfig
from diffgen.data.loader import load_batches
from diffgen.data.order import BatchNumbers, Sample, TrainingData
from diffgen.errors import UserError
from diffgen.processes import Process
from diffgen.training.checkpoint import Checkpoints, TrainingState, Window
from diffgen.training.run_folder import RunFolder
from diffgen.training.step import Encode, batch_loss


@dataclass(frozen=True)
class Hooks:
    """What happens beside the training, on the main process only."""

    sample: Callable[[TrainingState], object]
    """Draw a preview."""
    checkpoint: Callable[[TrainingState], object]
    """A checkpoint has been saved."""


@dataclass
class Loop:
    """Everything the loop works with."""

    config: TrainConfig
    accelerator: Accelerator
    data: TrainingData
    model: nn.Module
    """As accelerate prepared it; ``state.model`` is the same one unwrapped."""
    process: Process
    null_label: int
    state: TrainingState
    folder: RunFolder
    hooks: Hooks
    encode: Encode | None = None
    """Images to latents; None: the model sees pixels."""

    def run(self) -> None:
        """Train from ``state.seen`` to the configured number of images.

        Raises:
            UserError: the loss became NaN or infinite (the last good checkpoint is named), or an
                image is damaged.
        """
        settings, state = self.config.train, self.state
        batch = settings.batch_size
        stop = batch * math.ceil(settings.images / batch)
        if state.seen >= stop:
            return
        self.checkpoints = Checkpoints(self.folder.path, settings.keep_checkpoints)
        micro_batches = self._micro_batches(stop)
        self.model.train()
        clock, logged = time.perf_counter(), state.seen
        pending = torch.zeros((), dtype=torch.float64, device=self.accelerator.device)
        with self._bar(stop) as bar:
            while state.seen < stop:
                loss, norm = self._step(micro_batches)
                pending += loss
                state.window.steps += 1
                state.seen += batch
                state.ema.update(state.model, state.seen, batch)
                bar.update(batch)
                done = state.seen == stop
                saving = done or crossed(state.seen, batch, settings.checkpoint_images)
                logging = done or crossed(state.seen, batch, settings.log_images)
                if logging or saving:
                    self._collect(pending, norm)
                if logging:
                    speed = (state.seen - logged) / (time.perf_counter() - clock)
                    self._log(bar, norm, speed)
                    clock, logged = time.perf_counter(), state.seen
                if saving:
                    self._save()
                if settings.sample_images and crossed(state.seen, batch, settings.sample_images):
                    self._beside(self.hooks.sample)

    def _micro_batches(self, stop: int) -> Iterator[Sample]:
        numbers = BatchNumbers(
            start=self.state.seen,
            stop=stop,
            batch_size=self.config.train.batch_size,
            accumulation=self.config.train.accumulation,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
        )
        pin_memory = self.accelerator.device.type == "cuda"
        return load_batches(self.data, numbers, self.config.train.workers, pin_memory)

    def _step(self, micro_batches: Iterator[Sample]) -> tuple[torch.Tensor, torch.Tensor]:
        """One optimiser step: (loss, gradient norm), both 0-d and still on the device."""
        pieces = self.config.train.accumulation
        total = torch.zeros((), device=self.accelerator.device)
        for piece in range(pieces):
            last = piece == pieces - 1
            context = nullcontext() if last else self.accelerator.no_sync(self.model)
            with context, self.accelerator.autocast():
                loss = batch_loss(
                    self.model,
                    self.process,
                    next(micro_batches),
                    seed=self.config.seed,
                    null_label=self.null_label,
                    class_dropout=self.config.model.class_dropout,
                    device=self.accelerator.device,
                    encode=self.encode,
                )
                self.accelerator.backward(loss / pieces)
            total += loss.detach() / pieces
        limit = self.config.train.clip_norm or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        for optimizer, schedule in zip(self.state.optimizers, self.state.schedules, strict=True):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
        return self.accelerator.reduce(total, "mean"), norm

    def _collect(self, pending: torch.Tensor, norm: torch.Tensor) -> None:
        """Move the losses summed on the device into the window; refuse bad ones, or gradients."""
        self.state.window.total += pending.item()
        pending.zero_()
        if not math.isfinite(self.state.window.total) or not math.isfinite(norm.item()):
            newest = self.checkpoints.newest()
            kept = f"the last good checkpoint is {newest}" if newest else "none was saved yet"
            raise UserError(
                f"the loss became NaN or infinite before {self.state.seen} images; {kept}. "
                "Lower --optimizer rates in a new --out, with --init, may help"
            )

    def _log(self, bar: tqdm, norm: torch.Tensor, speed: float) -> None:
        window = self.state.window
        loss = window.total / window.steps
        self.state.window = Window()
        bar.set_postfix_str(f"loss {loss:.4f}")
        if self.accelerator.is_main_process:
            rates = [schedule.get_last_lr()[0] for schedule in self.state.schedules]
            self.folder.log(
                {
                    "images": self.state.seen,
                    "loss": loss,
                    "grad_norm": norm.item(),
                    "learning_rates": rates,
                    "images_per_second": round(speed, 2),
                }
            )

    def _save(self) -> None:
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            self.checkpoints.save(self.state.seen, self.state.save)
        self._beside(self.hooks.checkpoint)

    def _beside(self, hook: Callable[[TrainingState], object]) -> None:
        if self.accelerator.is_main_process:
            hook(self.state)
        self.accelerator.wait_for_everyone()
        self.model.train()

    def _bar(self, stop: int) -> tqdm:
        return tqdm(
            total=stop,
            initial=self.state.seen,
            unit="img",
            desc="training",
            disable=not self.accelerator.is_main_process,
            dynamic_ncols=True,
        )


def crossed(seen: int, batch: int, every: int) -> bool:
    """True when the last ``batch`` images passed a multiple of ``every``."""
    return seen // every > (seen - batch) // every
