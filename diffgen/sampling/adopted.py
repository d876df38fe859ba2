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

from diffgen.config.model import Prediction
from diffgen.config.process import DDPMConfig
from diffgen.config.source import Source
from diffgen.config.stored import read_json
from diffgen.errors import UserError
from diffgen.models.dit import DiT
from diffgen.models.released import load_released
from diffgen.models.vae import load_vae
from diffgen.sampling.ddpm_steps import DDPMSolver

log = logging.getLogger(__name__)
SOLVERS = (DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler)
PREDICTIONS: dict[str, Prediction] = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}


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
        transformer.register_to_config(prediction=stated_prediction(settings))
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
    with becomes DDIM on the same steps, which is logged.
    """
    name = settings.get("_class_name")
    kind = next((solver for solver in SOLVERS if solver.__name__ == name), DDIMScheduler)
    if kind.__name__ != name:
        log.warning("scheduler: %s is not one diffgen walks with; DDIM takes its place", name)
    changes: dict[str, Any] = {"prediction_type": "sample"}
    if str(settings.get("variance_type", "")).startswith("learned"):
        changes["variance_type"] = "learned" if process.learned_variance else "fixed_small"
    adopted: DDPMSolver = kind.from_config(settings, **changes)
    return adopted


def stated_prediction(settings: dict[str, Any]) -> Prediction:
    """What the model predicts, as its scheduler was told.

    Raises:
        UserError: it is none of epsilon, v_prediction and sample.
    """
    stated = settings.get("prediction_type", "epsilon")
    if stated not in PREDICTIONS:
        raise UserError(f"scheduler: prediction_type {stated!r} is not one of {list(PREDICTIONS)}")
    return PREDICTIONS[stated]
