"""A diffusers DiTPipeline as the parts of a diffgen one: its model and its scheduler."""

import logging
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
)

from diffgen.config.process import DDPMConfig
from diffgen.config.source import Source
from diffgen.config.stored import read_json
from diffgen.errors import UserError
from diffgen.models.dit import DiT
from diffgen.models.released import load_released
from diffgen.models.vae import load_vae
from diffgen.sampling.ddpm_steps import DDPMSolver

log = logging.getLogger(__name__)
# Settings of DPM-Solver that choose noise levels, or that a walk to the very image cannot take.
DPM_USUAL = {
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
    "use_lu_lambdas": False,
    "final_sigmas_type": "zero",
    "euler_at_final": False,
    "algorithm_type": "dpmsolver++",
}
SOLVERS = (DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler)


def diffusers_parts(
    source: Source,
    transformer: DiT | None = None,
    scheduler: DDPMSolver | None = None,
    vae: AutoencoderKL | None = None,
    torch_dtype: torch.dtype = torch.float32,
) -> dict[str, Any]:
    """Arguments of DiffGenPipeline for the folder of a DiTPipeline; what is given is taken as is.

    Raises:
        UserError: a part is missing or none diffgen can express; it is named.
    """
    folder = source.pipeline
    file = folder / "scheduler" / "scheduler_config.json"
    settings = read_json(file, "source", f"{file} is missing")
    if transformer is None:
        transformer = load_released(folder / "transformer")
    if scheduler is None:
        assert isinstance(source.process, DDPMConfig)  # resolve read it from this scheduler
        scheduler = adopted_scheduler(settings, source.process)
    vae = load_vae(folder) if vae is None else vae
    low = torch_dtype != torch.float32
    return {
        "transformer": transformer.to(torch_dtype) if low else transformer,
        "scheduler": scheduler,
        "class_names": list(source.class_names),
        "vae": vae.to(torch_dtype) if low else vae,
    }


def adopted_scheduler(settings: dict[str, Any], process: DDPMConfig) -> DDPMSolver:
    """A scheduler of the same class and settings that is handed x0.

    The spacing of its steps, clipping and thresholds stay; one of a class diffgen does not walk
    with becomes DDIM on the same steps, and settings of DPM-Solver that choose noise levels are
    left out, which is logged.

    Raises:
        UserError: a spacing or an offset of its steps is unknown.
    """
    ignored = [key for key, usual in DPM_USUAL.items() if settings.get(key, usual) != usual]
    if ignored:
        log.warning("scheduler: %s of it are not kept; diffgen chooses noise levels", ignored)
        settings = settings | {key: DPM_USUAL[key] for key in ignored}
    name = settings.get("_class_name")
    kind = next((solver for solver in SOLVERS if solver.__name__ == name), DDIMScheduler)
    if kind.__name__ != name:
        log.warning("scheduler: %s is not one diffgen walks with; DDIM takes its place", name)
    changes: dict[str, Any] = {"prediction_type": "sample"}
    if str(settings.get("variance_type", "")).startswith("learned"):
        changes["variance_type"] = "learned" if process.learned_variance else "fixed_small"
    if settings.get("timestep_spacing", "leading") not in ("leading", "trailing", "linspace"):
        raise UserError(f"scheduler: timestep_spacing {settings['timestep_spacing']!r} is unknown")
    offset = settings.get("steps_offset", 0)
    if type(offset) is not int or not 0 <= offset < process.num_train_timesteps:
        raise UserError(f"scheduler: steps_offset {offset!r} is no step")
    adopted: DDPMSolver = kind.from_config(settings, **changes)
    return adopted
