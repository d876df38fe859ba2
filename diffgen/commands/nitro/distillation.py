"""One process's part of a distillation: the teacher, the folder, and how students are put away."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from diffgen.config.distilled import Distilled
from diffgen.config.nitro import NitroConfig
from diffgen.config.source import Source
from diffgen.files import link_folder, write_folder
from diffgen.group import Group
from diffgen.models.dit import DiT
from diffgen.nitro.student import Student
from diffgen.pipeline import DiffGenPipeline
from diffgen.processes import Process, build_process
from diffgen.sampling.schedulers import build_scheduler
from diffgen.training.run_folder import RunFolder


@dataclass(frozen=True)
class Distillation:
    """What all stages work with."""

    config: NitroConfig
    """As ``NitroConfig.settled`` leaves it."""
    source: Source
    accelerator: Accelerator
    group: Group
    folder: RunFolder
    pipe: DiffGenPipeline
    """The teacher's; its weights are frozen."""
    teacher: str
    """Its fingerprint."""
    guide: DiffGenPipeline | None
    """The weaker model of its autoguidance."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        device: torch.device = self.accelerator.device
        return device

    @property
    def shift(self) -> float:
        """The student's timestep shift."""
        return self.config.timestep_shift or 1.0

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of an image [tokens]; the encoding may count on others."""
        geometry = self.pipe.geometry
        height, width = geometry.seen
        return height // geometry.patch, width // geometry.patch

    @property
    def process(self) -> Process:
        """The teacher's and the student's."""
        model = self.pipe.transformer
        return build_process(self.pipe.process_config, model.convention, model.config.prediction)

    def student(self) -> DiT:
        """A copy of the teacher, to be trained."""
        return copy.deepcopy(self.pipe.transformer).requires_grad_(True)

    @property
    def calls(self) -> Student:
        """How the student is called."""
        draws = self.pipe.transformer.encoding.draws_always
        return Student(self.process, self.shift, draws, self.config.seed)

    def pipeline(
        self, model: DiT, weights: Mapping[str, Tensor], steps: tuple[int, ...]
    ) -> DiffGenPipeline:
        """``model`` with ``weights`` put in, as a student of so many ``steps``."""
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(weights[name])
        teacher = self.pipe
        pipe = DiffGenPipeline(
            model,
            build_scheduler("lcm", process=teacher.process_config),
            list(teacher.config.class_names),
            vae=teacher.vae,
            latent_format=teacher.config.latent_format,
            distilled=Distilled(steps=steps, timestep_shift=self.shift).model_dump(),
        )
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def save(self, pipe: DiffGenPipeline, place: Path) -> None:
        """Write a student's pipeline folder; the VAE is linked, not written anew."""

        def write(path: Path) -> None:
            pipe.transformer.save_pretrained(path / "transformer")
            pipe.scheduler.save_pretrained(path / "scheduler")
            if (self.source.pipeline / "vae").exists() and self.config.vae is None:
                link_folder(self.source.pipeline / "vae", path / "vae")
            elif pipe.vae is not None:
                pipe.vae.save_pretrained(path / "vae")
            pipe.save_config(path)

        write_folder(place, write)
