"""What trains the teacher and makes the table again: commands."""

from collections.abc import Iterator

from diffgen.commands.remade import line, model_line, model_name
from diffgen.config.nitro_eval import NitroEvalConfig


def commands(config: NitroEvalConfig) -> Iterator[str]:
    """One after the other, with every setting that is no default."""
    yield from model_line(config.source)
    given = {**config.model_dump(mode="json"), "commands": False}
    words = ["eval/nitro.py", model_name(config.source), "--out", config.out.name]
    yield line(words, given, NitroEvalConfig(source=""))
