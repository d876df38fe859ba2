"""How a distilled model is drawn with: in the steps it was trained for, without guidance."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from diffgen.config.distilled import NO_COMPARISON, NO_CONSTRAINTS, NO_TIME_SHIFT, Distilled
from diffgen.guidance import CFG, Constraint, Rule
from diffgen.sampling.schedulers import LCM

STEPS, SCALE = 20, 2.0
"""Of a model that is not distilled, where nothing is said."""


class Asked(NamedTuple):
    """What a drawing asks for; None: nothing is said."""

    steps: int | None
    scale: float | None
    """Of classifier-free guidance."""
    rule: Rule | None
    guide: Any
    constraints: Sequence[Constraint]
    time_shift: str


def steps_and_scale(distilled: Distilled | None, scheduler: Any, asked: Asked) -> tuple[int, float]:
    """Steps and guidance scale of a drawing, the model's own where nothing is said.

    Args:
        distilled: of the model; None: it is an ordinary one, drawn in 20 steps at scale 2.
        scheduler: the pipeline's.
        asked: what is said.

    Raises:
        ValueError: it does not fit a distilled model, or there are no steps.
    """
    steps, scale, *_ = asked
    if steps is not None and steps < 1:
        raise ValueError(f"num_inference_steps must be 1 or more, not {steps}")
    if distilled is None:
        return STEPS if steps is None else steps, SCALE if scale is None else scale
    for problem in _misfits(distilled, scheduler, asked):
        raise ValueError(problem)
    return distilled.fewest if steps is None else steps, 1.0


def _misfits(distilled: Distilled, scheduler: Any, asked: Asked) -> Iterator[str]:
    """Complaints about what is asked of a distilled model."""
    if asked.steps not in (None, *distilled.steps):
        yield f"num_inference_steps: {asked.steps}, but {distilled.trained_for}"
    if asked.scale not in (None, 1):
        yield f"guidance_scale: {asked.scale:g}, but {NO_COMPARISON}"
    if asked.rule not in (None, CFG(1.0)):
        yield f"guidance: {asked.rule!r}, but {NO_COMPARISON}"
    if asked.guide is not None:
        yield f"guide: is given, but {NO_COMPARISON}"
    if asked.constraints:
        yield f"constraints: are given, but {NO_CONSTRAINTS}"
    if asked.time_shift != "none":
        yield f"time_shift: {asked.time_shift}, but {NO_TIME_SHIFT}"
    if not isinstance(scheduler, LCM):
        yield (
            f"scheduler: {type(scheduler).__name__} cannot walk a distilled model, which is drawn "
            'with build_scheduler("lcm", process=...)'
        )
