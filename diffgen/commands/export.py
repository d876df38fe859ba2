"""Averaged weights out of a training: snapshots for later widths, and the pipeline folder."""

from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from diffgen.config.ema import PowerEMAConfig
from diffgen.config.train import TrainConfig
from diffgen.errors import UserError
from diffgen.files import link_folder, write_file, write_folder
from diffgen.models.dit import DiT
from diffgen.models.vae import LatentSpace
from diffgen.pipeline import DiffGenPipeline
from diffgen.sampling.schedulers import build_scheduler
from diffgen.training.checkpoint import TrainingState
from diffgen.training.ema import put_weights
from diffgen.training.loop import crossed
from diffgen.training.posthoc import (
    LARGEST_ERROR,
    Profile,
    expected_error,
    rebuild,
    snapshots_until,
)
from diffgen.training.run_folder import RunFolder


class Exporter:
    """Writes ``snapshots/`` and ``pipeline/`` of one run."""

    def __init__(
        self,
        config: TrainConfig,
        folder: RunFolder,
        class_names: tuple[str, ...],
        latents: LatentSpace | None = None,
    ) -> None:
        self.config = config
        self.folder = folder
        self.class_names = class_names
        self.latents = latents

    def pipeline(self, model: DiT, weights: dict[str, Tensor]) -> DiffGenPipeline:
        """``model`` with ``weights`` put in, as a pipeline on the model's device."""
        put_weights(model, weights)
        scheduler = build_scheduler(self.config.sampling.scheduler, process=self.config.process)
        pipe = DiffGenPipeline(
            model,
            scheduler,
            list(self.class_names),
            vae=self.latents.vae if self.latents else None,
            latent_format=self.latents.format.model_dump() if self.latents else None,
        )
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def save(self, model: DiT, weights: dict[str, Tensor]) -> None:
        """Put averaged weights into ``pipeline/``."""
        pipe = self.pipeline(model, weights)

        def write(path: Path) -> None:
            pipe.transformer.save_pretrained(path / "transformer")
            pipe.scheduler.save_pretrained(path / "scheduler")
            if pipe.vae is not None:  # it never changes: not written anew at every checkpoint
                link_folder(self.folder.vae, path / "vae")
            pipe.save_config(path)

        write_folder(self.folder.pipeline, write)

    def snapshot(self, state: TrainingState) -> None:
        """At the checkpoints nearest to equal shares of the training, store both averages."""
        reach = self._reach(state)
        if not reach or not self._due(state.seen):
            return
        tensors = {
            f"{average.name}/{name}": weights.contiguous()
            for average in state.ema.averages
            for name, weights in average.weights.items()
        }
        target = self.snapshots / f"{reach:09d}.safetensors"
        write_file(target, lambda path: save_file(tensors, path))

    def _due(self, seen: int) -> bool:
        ema, loop = self.config.ema, self.config.train
        if not isinstance(ema, PowerEMAConfig):
            return False
        share = max(1, loop.images // ema.snapshots)
        # Not at a checkpoint that a signal asked for: an uninterrupted run has none there.
        regular = crossed(seen, loop.batch_size, loop.checkpoint_images)
        return seen >= loop.images or (regular and crossed(seen, loop.checkpoint_images, share))

    def check(self, state: TrainingState) -> None:
        """Make sure, before a new training, that what it will export can be rebuilt at its end.

        Raises:
            UserError: its snapshots will be too few for the width.
        """
        ema, loop = self.config.ema, self.config.train
        if state.seen or not isinstance(ema, PowerEMAConfig) or ema.export in ema.widths:
            return
        steps = range(loop.batch_size, loop.images + loop.batch_size, loop.batch_size)
        times = {state.ema.reach(seen, loop.batch_size) for seen in steps if self._due(seen)}
        stored = [Profile(width, seen) for seen in sorted(times - {0}) for width in ema.widths]
        error = expected_error(stored, Profile(ema.export, max(times)))
        if error > LARGEST_ERROR:
            raise UserError(
                f"ema.export: width {ema.export:g} could not be rebuilt at the end (expected error "
                f"{error:.0%}): take one of {ema.widths}, or one nearer to them, or more "
                "ema.snapshots with train.checkpoint_images to match"
            )

    @property
    def snapshots(self) -> Path:
        """Folder of the stored averages."""
        return self.folder.path / "snapshots"

    def export_weights(self, state: TrainingState) -> dict[str, Tensor]:
        """The average ``ema.export`` asks for: a tracked one, or one rebuilt from snapshots.

        Raises:
            UserError: it must be rebuilt, and there is no snapshot yet.
        """
        ema = self.config.ema
        if not isinstance(ema, PowerEMAConfig) or ema.export in ema.widths:
            return state.ema.preview.weights
        reach = self._reach(state)
        files = snapshots_until(self.snapshots, reach, "ema.export")
        return rebuild(files, ema, Profile(ema.export, reach), "ema.export")

    def _reach(self, state: TrainingState) -> int:
        """Images the averages know of."""
        return state.ema.reach(state.seen, self.config.train.batch_size)
