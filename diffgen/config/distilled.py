"""What a model distilled to few steps says of itself."""

from typing import Annotated

from pydantic import Field, field_validator

from diffgen.config.base import Section

NO_COMPARISON = (
    "the model is distilled: its teacher's guidance is built in, and it makes no unguided "
    "predictions to compare with; leave guidance out"
)
NO_CONSTRAINTS = (
    "the model is distilled: late constraints steer the early ones of many steps, and it draws in "
    "few; draw with its teacher"
)
NO_OTHER_LEVELS = (
    "it predicts at the few noise levels it was trained for, and what works beside a model needs "
    "it at all of them; give its teacher"
)
NO_SWEEP = (
    "its teacher's guidance is built in, and it makes no unguided predictions to compare with; "
    "score it with eval/evaluate.py, and sweep its teacher"
)
NO_TIME_SHIFT = "the model is distilled and draws at the noise levels it was trained for alone"


class Distilled(Section):
    """A model that draws in few steps, with its teacher's guidance built in."""

    steps: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (1, 2, 4)
    """Numbers of steps it was trained for, each once, ascending [count]."""
    timestep_shift: float = Field(default=1.0, gt=0, le=1)
    """The model is told the time S t in the place of t, and its prediction is read there
    [dimensionless]; 1: the time itself. See processes.shift."""

    @field_validator("steps")
    @classmethod
    def _ascending(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(steps)))

    @property
    def fewest(self) -> int:
        """Steps it draws with unless told otherwise."""
        return self.steps[0]

    @property
    def trained_for(self) -> str:
        """Which steps it can draw with, as the end of a complaint about others."""
        return f"the model is distilled to {self.in_words} steps, and draws with no others"

    @property
    def in_words(self) -> str:
        """The numbers of steps: "1, 2 or 4"."""
        *most, last = map(str, self.steps)
        return f"{', '.join(most)} or {last}" if most else last
