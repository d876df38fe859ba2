"""Noising, training targets and the way back to clean images."""

from diffgen.config.model import Prediction, TimeConvention
from diffgen.config.process import DDPMConfig, FlowConfig, ProcessConfig, prediction_problems
from diffgen.errors import UserError
from diffgen.processes.ddpm import DDPM
from diffgen.processes.flow import Flow
from diffgen.processes.process import Denoised, Process
from diffgen.processes.times import draw_time

__all__ = ["DDPM", "Denoised", "Flow", "Process", "build_process", "draw_time"]


def build_process(
    config: ProcessConfig, convention: TimeConvention, prediction: Prediction
) -> Process:
    """The process a configuration describes, for models of one convention.

    Raises:
        UserError: the process knows no such prediction.
    """
    for problem in prediction_problems(config, prediction):
        raise UserError(problem)
    match config:
        case FlowConfig():
            return Flow(convention, prediction, config.times)
        case DDPMConfig():
            return DDPM(convention, prediction, config)
