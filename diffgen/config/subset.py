"""The part of a list of images that is kept, as it is written."""

import re
from typing import Annotated

from pydantic import AfterValidator

SEED_ALONE = "data.subset_seed: changes nothing without data.subset, for example :1000"


def parse_subset(text: str) -> tuple[int, int | None]:
    """``"10:500"`` -> (10, 500), ``"10:"`` -> (10, None). Raises ValueError on anything else."""
    match = re.fullmatch(r"\s*(\d*)\s*:\s*(\d*)\s*", text)
    if match is None:
        raise ValueError("must be START:STOP, for example 0:1000, :1000 or 1000:")
    start, stop = int(match[1] or 0), int(match[2]) if match[2] else None
    if stop is not None and stop <= start:
        raise ValueError("the stop must lie beyond the start")
    return start, stop


def _normal_subset(text: str) -> str:
    start, stop = parse_subset(text)
    return f"{start}:{'' if stop is None else stop}"


Subset = Annotated[str, AfterValidator(_normal_subset)]
"""START:STOP; ``parse_subset`` gives the numbers."""
