"""Experiment trackers, by the names accelerate knows them by."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Literal

Tracker = Literal[
    "aim",
    "clearml",
    "comet_ml",
    "dvclive",
    "mlflow",
    "swanlab",
    "tensorboard",
    "trackio",
    "wandb",
]


def missing_trackers(names: list[Tracker]) -> Iterator[str]:
    """Complaints about trackers whose package is not installed."""
    for name in names:
        if find_spec(name) is None:  # each is the name of its package too
            package = '"diffgen[track]"' if name == "tensorboard" else name
            yield f"track: {name} is not installed; pip install {package}"
