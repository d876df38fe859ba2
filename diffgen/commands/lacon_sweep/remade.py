"""What trains the model and the aligners of a sweep, and draws it again: commands."""

from collections.abc import Iterator

from diffgen.commands.lacon_sweep.wanted import Wanted
from diffgen.commands.remade import line, line_beside, model_line, model_name
from diffgen.config.lacon import LaconConfig
from diffgen.config.lacon_sweep import LaconSweepConfig


def commands(config: LaconSweepConfig, wanted: Wanted) -> Iterator[str]:
    """One after the other, with every setting that is no default."""
    model = model_name(config.source)
    yield from model_line(config.source)
    for name, one in wanted.conditions.items():
        words = ["train/lacon.py", model, "--condition", name]
        yield line_beside(words, one.folder, name, LaconConfig(source=config.source))
    words = ["eval/lacon.py", model, "--out", config.out.name]
    yield line(words, config.model_dump(mode="json"), LaconSweepConfig(source=""))
