"""The noising process: rectified flow, or the discrete diffusion of DDPM."""

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field

from diffgen.config.base import Section, default_kind
from diffgen.errors import UserError


class LogitNormalTimes(Section):
    """t = sigmoid(u), u ~ N(mean, std^2) (Esser et al. 2024, eq. 19)."""

    kind: Literal["logit_normal"] = "logit_normal"
    """Density of the training times."""
    mean: float = 0.8
    """Mean of logit(t) [dimensionless]; larger: more noise."""
    std: float = Field(default=1.0, gt=0)
    """Standard deviation of logit(t) [dimensionless]."""


class UniformTimes(Section):
    """t ~ U(0, 1)."""

    kind: Literal["uniform"] = "uniform"
    """Density of the training times."""


class FlowConfig(Section):
    """Rectified flow: x_t = (1 - t) x0 + t eps, the model predicts v = eps - x0."""

    predictions: ClassVar[tuple[str, ...]] = ("x0", "velocity")
    schedulers: ClassVar[tuple[str, ...]] = ("euler", "heun", "dpmpp", "lcm")
    most_steps: ClassVar[int | None] = None
    learned_variance: ClassVar[bool] = False

    kind: Literal["flow"] = "flow"
    """Noising process."""
    times: Annotated[
        LogitNormalTimes | UniformTimes,
        Field(discriminator="kind"),
        default_kind("logit_normal"),
    ] = LogitNormalTimes()
    """Density of the training times."""


class NoWeighting(Section):
    """Every step's squared error counts alike, in terms of what the model predicts."""

    kind: Literal["none"] = "none"
    """Weight of a step's squared error."""


class MinSNRWeighting(Section):
    """x0's squared error times min(SNR, gamma) (Hang et al. 2023), whatever is predicted."""

    kind: Literal["min_snr"] = "min_snr"
    """Weight of a step's squared error."""
    gamma: float = Field(default=5.0, gt=0)
    """Largest weight of the error of x0 [signal to noise ratio, alpha^2 / sigma^2]."""


class DDPMConfig(Section):
    """Discrete diffusion (Ho et al. 2020): x_t = sqrt(abar) x0 + sqrt(1 - abar) eps."""

    predictions: ClassVar[tuple[str, ...]] = ("x0", "v", "eps")
    schedulers: ClassVar[tuple[str, ...]] = ("ddim", "ddpm", "dpmpp", "lcm")

    kind: Literal["ddpm"] = "ddpm"
    """Noising process."""
    num_train_timesteps: int = Field(default=1000, ge=21, le=100_000)
    """Noise levels from image to noise, 21 or more [count]."""
    betas: Literal["linear", "cosine"] = "linear"
    """Noise added per step: linear (Ho et al. 2020) or cosine (Nichol and Dhariwal 2021)."""
    learned_variance: bool = False
    """The model also predicts the variance of each step, in as many channels again."""
    weighting: Annotated[
        NoWeighting | MinSNRWeighting, Field(discriminator="kind"), default_kind("none")
    ] = NoWeighting()
    """Weight of a step's squared error."""

    @property
    def most_steps(self) -> int:
        """A sampling run cannot be longer than the chain."""
        return self.num_train_timesteps

    def beta_settings(self) -> dict[str, Any]:
        """The betas in the words of a diffusers scheduler.

        The linear ones run from 1e-4 to 0.02 at 1000 steps, and scale so that any number of
        steps ends at about the same noise.
        """
        steps = {"num_train_timesteps": self.num_train_timesteps}
        if self.betas == "cosine":
            return {**steps, "beta_schedule": "squaredcos_cap_v2"}
        ends = {
            "beta_start": 0.1 / self.num_train_timesteps,
            "beta_end": 20 / self.num_train_timesteps,
        }
        return {**steps, "beta_schedule": "linear", **ends}


ProcessConfig: TypeAlias = FlowConfig | DDPMConfig


def noise_path(process: ProcessConfig) -> dict[str, Any]:
    """What decides alpha and sigma: alike for models that can be sampled side by side."""
    betas = process.beta_settings() if isinstance(process, DDPMConfig) else {}
    return {"kind": process.kind, **betas}


def prediction_problems(process: ProcessConfig, prediction: str) -> Iterator[str]:
    """The complaint about a prediction the process does not know, if it is one."""
    if prediction not in process.predictions:
        yield (
            f"model.prediction: {prediction} does not go with process.kind {process.kind}; "
            f"it takes {', '.join(process.predictions)}"
        )


def solver_problems(
    prefix: str, scheduler: str, steps: int, time_shift: str, process: ProcessConfig
) -> Iterator[str]:
    """Complaints about a solver, a number of steps or a shift that does not fit the process."""
    if time_shift != "none" and process.kind != "flow":
        yield f"{prefix}time_shift: {time_shift} shifts a flow's noise levels; this is a ddpm model"
    if scheduler not in process.schedulers:
        yield (
            f"{prefix}scheduler: {scheduler} cannot walk a {process.kind} model; "
            f"use {', '.join(process.schedulers)}"
        )
    if process.most_steps is not None and steps > process.most_steps:
        yield f"{prefix}steps: {steps} is more than the model's {process.most_steps} noise levels"


def process_of(scheduler: Mapping[str, Any], transformer: Mapping[str, Any]) -> ProcessConfig:
    """The process of a pipeline, from the saved settings of its scheduler and its model.

    Args:
        scheduler: of a diffusers scheduler, with its ``_class_name``; without: a flow's.
        transformer: of a DiT.

    Raises:
        UserError: its betas are neither of the two schedules.
    """
    name = str(scheduler.get("_class_name", "FlowMatchEulerDiscreteScheduler"))
    if name.startswith("FlowMatch") or scheduler.get("use_flow_sigmas"):
        return FlowConfig()
    channels = transformer.get("in_channels")
    for betas in ("linear", "cosine"):
        process = DDPMConfig(
            num_train_timesteps=scheduler.get("num_train_timesteps", 1000),
            betas=betas,
            learned_variance=channels is not None
            and transformer.get("out_channels") == 2 * channels,
        )
        if _same_betas(scheduler, process):
            return process
    raise UserError(
        f"scheduler: the betas of {name} are neither linear, 0.1 / T to 20 / T over T steps, "
        "nor squaredcos_cap_v2"
    )


def _same_betas(scheduler: Mapping[str, Any], process: DDPMConfig) -> bool:
    if scheduler.get("trained_betas") is not None or scheduler.get("rescale_betas_zero_snr"):
        return False
    for key, value in process.beta_settings().items():
        found = scheduler.get(key)
        same = math.isclose(found or 0, value) if isinstance(value, float) else found == value
        if not same:
            return False
    return True
