"""Settings of a sampling run, shared by training previews, sampling and scoring."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from diffgen.config.distilled import NO_COMPARISON, NO_TIME_SHIFT, Distilled
from diffgen.config.guidance import CFGConfig, GuidanceConfig, described, from_earlier
from diffgen.config.positions import PositionOverrides
from diffgen.config.source import Source
from diffgen.errors import UserError

UNGUIDED = CFGConfig(scale=1.0)
Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["fp32", "bf16"]
TimeShift = Literal["none", "sqrt"]
YES = {"y", "yes", "t", "true", "on", "1"}


class WalkConfig(PositionOverrides):
    """How noise is walked to an image, guidance apart."""

    scheduler: Literal["euler", "heun", "dpmpp", "ddim", "ddpm", "lcm"] = "dpmpp"
    """Solver: euler, heun or dpmpp for flow models, ddim, ddpm or dpmpp for DDPM ones. All
    evaluate the model once a step, but heun twice save for the last. ddpm adds noise. lcm: x0, then
    fresh noise to the next level, for distilled models."""
    steps: int = Field(default=20, ge=1)
    """Steps from noise to image [count]."""
    time_shift: TimeShift = "none"
    """Noise levels of a flow at other sizes (N tokens, N0 as trained): sqrt shifts them by
    sqrt(N / N0), so that larger images spend more steps near noise (Esser et al. 2024, eq. 23)."""
    batch_size: int = Field(default=64, ge=1)
    """Images drawn at once on each process [images]."""
    decode_batch_size: int = Field(default=8, ge=1)
    """Latents decoded to images at once on each process [images]; only for models of latents."""
    decode_tiled: bool = False
    """Decode images larger than the VAE was trained at in overlapping tiles: bounded memory, but
    faint seams. Only for models of latents."""


class SamplingConfig(WalkConfig):
    """How noise is walked to an image."""

    guidance: GuidanceConfig = CFGConfig()
    """How predictions are combined into a better one."""

    @model_validator(mode="before")
    @classmethod
    def _read_earlier(cls, values: Any) -> Any:
        """Runs of earlier versions state a guidance_scale."""
        return from_earlier(values)

    def distilled_problems(self, distilled: Distilled | None) -> Iterator[str]:
        """Complaints about settings that were given and that a distilled model cannot have."""
        if distilled is None:
            return
        given = self.model_fields_set
        if "scheduler" in given and self.scheduler != "lcm":
            yield f"scheduler: {self.scheduler}, but the model is distilled and walked by lcm alone"
        if "steps" in given and self.steps not in distilled.steps:
            yield f"steps: {self.steps}, but {distilled.trained_for}"
        if "guidance" in given and self.guidance != UNGUIDED:
            yield f"guidance: {described(self.guidance)}, but {NO_COMPARISON}"
        if self.time_shift != "none":
            yield f"time_shift: {self.time_shift}, but {NO_TIME_SHIFT}"

    def for_distilled(self, distilled: Distilled | None) -> Self:
        """These settings, and where none were given those of a distilled model: lcm, its fewest
        steps, unguided. Those of an ordinary model (None) stay as they are.

        Raises:
            UserError: what was given does not fit the distilled model.
        """
        if distilled is None:
            return self
        for problem in self.distilled_problems(distilled):
            raise UserError(problem)
        own = {"scheduler": "lcm", "steps": distilled.fewest, "guidance": UNGUIDED}
        left = {name: value for name, value in own.items() if name not in self.model_fields_set}
        return self.model_copy(update=left)


def told_to_use_cpu() -> bool:
    """True when the launch says so, by accelerate's variable."""
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() in YES


def accelerator_absent() -> bool:
    """True when this machine certainly has no GPU torch could use; found out without torch."""
    nodes = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd")
    no_node = sys.platform == "linux" and not any(Path(node).exists() for node in nodes)
    return told_to_use_cpu() or no_node


def device_problems(device: str, field: str, low_precision: bool) -> Iterator[str]:
    """Complaints about a device that is not there, or bf16 without one."""
    if device == "cuda" and accelerator_absent():
        why = "ACCELERATE_USE_CPU is set" if told_to_use_cpu() else "this machine has no GPU"
        yield f"device: cuda was asked for, but {why}; use auto or cpu"
    if low_precision and (device == "cpu" or accelerator_absent()):
        yield f"{field}: bf16 needs a GPU; on a CPU diffgen computes in fp32, use fp32 here"


def class_indices(names: list[str], source: Source) -> list[int]:
    """Class names or numbers -> indices.

    Raises:
        ValueError: a name the model does not know, or a number out of its range.
    """
    indices = []
    for name in names:
        if name in source.class_names:
            indices.append(source.class_names.index(name))
        elif name.isdigit() and int(name) < source.num_classes:
            indices.append(int(name))
        elif name.lstrip("-").isdigit():
            allowed = f"0 to {source.num_classes - 1}" if source.num_classes else "none at all"
            raise ValueError(f"class {name} is out of range; this model's classes are {allowed}")
        else:
            known = ", ".join(source.class_names) or "unnamed"
            raise ValueError(f"class {name!r} is unknown; this model's classes are: {known}")
    return indices
