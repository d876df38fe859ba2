"""What drawing images and drawing pairs have in common: the shared loop, and facts for notes."""

import platform
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, TypeVar

import torch
from tqdm import tqdm

from diffgen.commands.load import Loaded
from diffgen.data.pixels import QUANTISATION
from diffgen.group import Group

T = TypeVar("T")


def draw_shared(
    todo: Sequence[Sequence[T]], total: int, draw: Callable[[Sequence[T]], object], group: Group
) -> None:
    """``draw`` every batch of ``todo``, one a process at a time, of ``total`` pictures in all."""
    kept, hidden = total - sum(map(len, todo)), not group.main
    with tqdm(total=total, initial=kept, unit="img", desc="sampling", disable=hidden) as bar:
        for turn in range(0, len(todo), group.world):
            drawn = todo[turn : turn + group.world]
            with group.together():
                for batch in group.deal(drawn):
                    draw(batch)
            bar.update(sum(map(len, drawn)))


def facts_of_drawing(loaded: Loaded) -> dict[str, Any]:
    """How and on what pictures are computed, for settings.json."""
    pipe = loaded.pipe
    return {
        "scheduler": dict(pipe.scheduler.config) | {"class": type(pipe.scheduler).__name__},
        "quantisation": QUANTISATION,
        "device": pipe.device.type,
        "dtype": str(pipe.transformer.dtype),
        "torch_threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("diffgen", "torch", "diffusers")},
        "python": platform.python_version(),
        "class_names": list(loaded.source.class_names),
    }
