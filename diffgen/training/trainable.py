"""Which parameters a training changes, named by patterns in its configuration."""

from collections.abc import Collection
from fnmatch import fnmatchcase

from torch import nn

from diffgen.errors import UserError


def choose_trainable(model: nn.Module, patterns: list[str], fresh: Collection[str] = ()) -> float:
    """Freeze every parameter whose name matches none of ``patterns``; none given: freeze nothing.

    ``fresh``: parameters that have random weights.

    Returns:
        The share of the parameters that is trained, in [0, 1].

    Raises:
        UserError: a pattern matches nothing, or a fresh parameter would be frozen.
    """
    named = dict(model.named_parameters())
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in named):
            raise UserError(
                f"train.trainable: {pattern!r} matches no parameter; there are {', '.join(named)}"
            )
    trained = 0
    for name, parameter in named.items():
        chosen = not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)
        if not chosen and name in fresh:
            raise UserError(
                f"train.trainable: {name} is not in the model to start from and would stay random; "
                "add a pattern that matches it"
            )
        parameter.requires_grad_(chosen)
        trained += parameter.numel() * chosen
    return trained / sum(parameter.numel() for parameter in named.values())
