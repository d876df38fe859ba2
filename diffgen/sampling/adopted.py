"""The scheduler of a diffusers pipeline, set up to walk its model as diffgen does."""

import logging
from typing import Any

from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

from diffgen.config.model import Prediction
from diffgen.config.process import DDPMConfig
from diffgen.errors import UserError
from diffgen.sampling.ddpm_steps import DDPMSolver

log = logging.getLogger(__name__)
SOLVERS = (DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler)
PREDICTIONS: dict[str, Prediction] = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}


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
