"""Training times of the two branches: independent, or correlated with the shares of JointDiT."""

import torch
from torch import Tensor

from diffgen.config.joint import CorrelatedTimes, IndependentTimes
from diffgen.processes import Process
from diffgen.processes.ddpm import DDPM


def draw_times(
    config: IndependentTimes | CorrelatedTimes, process: Process, generator: torch.Generator
) -> Tensor:
    """(2,) times of an image and of its condition in [0, 1], 0: a clean one, which is not learnt.

    Independent: the condition's uniform; the image's too in ``uniform`` of the samples (UniCon:
    all), else as the model's own training draws it; but one of them is clean in ``clean``.
    Correlated: in half of the samples both are the same, drawn as the model's own training draws
    them; else one is drawn so and the other is small. Only these shares are JointDiT's: its density
    of small times is not published in a form we could confirm, here they are squares of uniform
    ones, and its noise-aware weights of the joint attention are left out.
    """
    which = float(torch.rand((), generator=generator))
    match config:
        case IndependentTimes():
            uniform = float(torch.rand((), generator=generator)) < config.uniform
            first = uniform_time(process, generator) if uniform else process.draw_time(generator)
            pair = torch.stack([first, uniform_time(process, generator)])
            if which < config.clean:
                pair[int(which < config.clean / 2)] = 0
            return pair
        case CorrelatedTimes():
            usual = process.draw_time(generator)
            if which < 0.5:
                return usual.repeat(2)
            small = on_chain(process, uniform_time(process, generator).square())
            return torch.stack([usual, small] if which < 0.75 else [small, usual])


def uniform_time(process: Process, generator: torch.Generator) -> Tensor:
    """In (0, 1]; of a chain one of its steps."""
    return on_chain(process, 1 - torch.rand((), generator=generator))


def on_chain(process: Process, t: Tensor) -> Tensor:
    """``t`` in (0, 1], at a chain's next step up."""
    if not isinstance(process, DDPM):
        return t
    steps = process.config.num_train_timesteps
    return (t * steps).ceil() / steps
