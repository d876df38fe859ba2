"""The loop from noise to pictures and their conditions, each branch on its own course."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import FlowMatchHeunDiscreteScheduler
from torch import Tensor

from diffgen.joint.course import DRAWN, Course, timetable
from diffgen.joint.denoise import JointDenoiser
from diffgen.processes import Denoised, Process
from diffgen.processes.ddpm import DDPM
from diffgen.sampling.noise import Generators
from diffgen.sampling.schedulers import solver_step, step_times


@dataclass(frozen=True)
class Branch:
    """One of the pictures of a joint sampling run, as the model sees it.

    Raises:
        ValueError: the course starts beyond noise, or something is known, without a picture.
    """

    noise: Tensor
    """(B, C, h, w) unit normal."""
    course: Course = DRAWN
    picture: Tensor | None = None
    """(B, C, h, w) what is given."""
    known: Tensor | None = None
    """(B, 1, h, w), 1 where the picture is kept as it is, 0 where it is drawn."""
    generator: Generators | None = None
    """Of the noise a solver adds on the way."""

    def __post_init__(self) -> None:
        if self.picture is None and (self.course.start > 0 or self.known is not None):
            raise ValueError(
                "a branch that does not start at noise, or is known in part, needs a picture"
            )


class _Walker:
    """A branch on its way."""

    def __init__(self, branch: Branch, process: Process, scheduler: Any, place: int) -> None:
        self.branch, self.process, self.place = branch, process, place
        self.times = [*step_times(scheduler), 0.0]
        self.scheduler = copy.deepcopy(scheduler)
        if hasattr(scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(place)
        self.state = branch.noise if branch.course.start == 0 else self._noised()
        self._keep()

    def told(self, clean: float) -> float:
        """The time the model is told, diffgen's; ``clean``: of a finished picture."""
        return self.times[self.place] or clean

    def step(self, denoised: Denoised) -> None:
        """To the next place."""
        t, timestep = self.times[self.place], self.scheduler.timesteps[self.place]
        self.state = solver_step(
            self.scheduler, denoised, timestep, self.state, t, self.branch.generator
        )
        self.place += 1
        self._keep()

    def _noised(self) -> Tensor:
        """The given picture at the noise level of the place; at the last place, as it is."""
        assert self.branch.picture is not None
        t = torch.full((len(self.branch.picture),), self.times[self.place])
        t = t.to(self.branch.picture.device)
        return self.process.add_noise(self.branch.picture, self.branch.noise, t)

    def _keep(self) -> None:
        """Put what is known in its place again (RePaint, Lugmayr et al. 2022, eq. 8).

        At every level under the branch's one noise, not fresh noise as there, so that it follows
        the path of a solver that adds none.
        """
        if self.branch.known is not None:
            self.state = torch.where(self.branch.known > 0.5, self._noised(), self.state)


@torch.no_grad()
def walk_jointly(
    denoise: JointDenoiser,
    scheduler: Any,
    branches: Sequence[Branch],
    on_step: Callable[[], object] = lambda: None,
) -> list[Tensor]:
    """Walk every branch along its course, that of the images first; (B, C, h, w) fp32 each.

    Args:
        denoise: the model.
        scheduler: has its steps set already; each branch walks on a copy.
        branches: what to start from.
        on_step: called after every evaluation of the model.

    Raises:
        ValueError: a scheduler that evaluates a step several times.
    """
    if isinstance(scheduler, FlowMatchHeunDiscreteScheduler):
        raise ValueError("scheduler: heun evaluates a step twice; joint generation takes no such")
    process = denoise.denoiser.process
    clean = first_time(process)
    table = timetable([branch.course for branch in branches], len(scheduler.timesteps))
    walkers = [
        _Walker(branch, process, scheduler, place)
        for branch, place in zip(branches, table[0], strict=True)
    ]
    for after in table[1:]:
        moving = [place > one.place for one, place in zip(walkers, after, strict=True)]
        t, s = [one.told(clean) for one in walkers], [walkers[0].times[place] for place in after]
        found = denoise([one.state for one in walkers], t, s, moving)
        for one, denoised in zip(walkers, found, strict=True):
            if denoised is not None:
                one.step(denoised)
        on_step()
    return [one.state for one in walkers]


def first_time(process: Process) -> float:
    """The time a model is told for a clean picture: 0 of a flow, of a chain its first step's."""
    return 1 / process.config.num_train_timesteps if isinstance(process, DDPM) else 0.0
