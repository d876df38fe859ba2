"""What is checked of a joint drawing before it begins."""

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

from diffgen.config.joint_given import IMAGE
from diffgen.guidance import Rule
from diffgen.guidance.interval import check_reached
from diffgen.guidance.spaces import noise_level
from diffgen.joint.pictures import Given
from diffgen.joint.walk import Branch
from diffgen.lacon.conditions import Condition
from diffgen.sampling.guided import Denoiser
from diffgen.sampling.schedulers import step_times


def check_given(given: Mapping[str, Given], conditions: Mapping[str, Condition]) -> None:
    """Raise ValueError for what is neither images nor maps of ``conditions``, in their range."""
    names = [IMAGE, *conditions]
    for name, one in given.items():
        if name not in names:
            raise ValueError(f"given: {name!r} is not one of {', '.join(names)}")
        if not isinstance(one, Given):
            raise ValueError(f"given: {name} is a {type(one).__name__}; give Given(maps)")
        one.check_kind(name, conditions.get(name))


def check_numbers(
    weights: Sequence[float], adapters: int, condition_scale: float, steps: int
) -> None:
    """Raise ValueError for numbers out of range, or other than one weight an adapter."""
    if len(weights) != adapters:
        raise ValueError(f"weights: {len(weights)} for {adapters} adapters")
    for field, values in (("weights", weights), ("condition_scale", [condition_scale])):
        for value in values:
            if not 0 <= value < inf:
                raise ValueError(f"{field} must be 0 or more, and finite, not {value}")
    if steps < 1:
        raise ValueError(f"num_inference_steps must be 1 or more, not {steps}")


def check_walked(
    rule: Rule, denoiser: Denoiser, scheduler: Any, starts: Sequence[Branch], steps: int
) -> None:
    """Raise UserError where an interval of ``rule`` holds no noise level of any branch."""
    ways = [range(*start.course.places(steps)) for start in starts]
    places, times = sorted({place for way in ways for place in way}), step_times(scheduler)
    if places:
        check_reached(rule, [noise_level(*denoiser.levels(times[place])) for place in places])
