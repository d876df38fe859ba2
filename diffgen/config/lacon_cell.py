"""One cell of ``eval/lacon.py``: an evaluation, and the late constraint of its images."""

from diffgen.config.base import Section
from diffgen.config.constraints import Form
from diffgen.config.evaluate import EvaluateConfig


class LateConfig(Section):
    """The late constraint of a cell."""

    condition: str
    """What the images shall match."""
    scale: float
    """Length of its steps."""
    form: Form
    """How its gradient is followed."""
    until: float | None
    """The time it ends at; none: the aligner's own."""
    recurrence: int
    """How often a step is walked at which it acts."""
    aligner: str
    """sha256 of the aligner's files."""


class LaconCellConfig(EvaluateConfig):
    """The evaluation of one cell: images under a late constraint, or unguided ones."""

    conditions: list[str]
    """Conditions the images are measured against."""
    late: LateConfig | None
    """None: unguided."""
