"""LaCon (Liu et al. 2023): late constraints that steer a trained model by its own features.

Names are resolved on first use, so that importing this package loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffgen.lacon.aligner import Aligner
    from diffgen.lacon.conditions import Condition
    from diffgen.lacon.load import load_aligner
    from diffgen.lacon.losses import Aligned, Inpaint, LowResolution
    from diffgen.lacon.named import condition_named

__all__ = [
    "Aligned",
    "Aligner",
    "Condition",
    "Inpaint",
    "LowResolution",
    "condition_named",
    "load_aligner",
]

_HOMES = {
    "Aligned": "losses",
    "Aligner": "aligner",
    "Condition": "conditions",
    "Inpaint": "losses",
    "LowResolution": "losses",
    "condition_named": "named",
    "load_aligner": "load",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
