"""diffgen: train, sample and score diffusion transformers at any size and shape.

The names below load their modules, and so torch, only when they are first used: reading a
configuration, printing ``--help`` or refusing a mistake stays instant.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffgen.guidance import APG, CFG
    from diffgen.models.dit import DiT
    from diffgen.pipeline import DiffGenPipeline

__version__ = "0.1.0"
__all__ = ["APG", "CFG", "DiT", "DiffGenPipeline", "__version__"]

_HOMES = {
    "APG": "diffgen.guidance",
    "CFG": "diffgen.guidance",
    "DiT": "diffgen.models.dit",
    "DiffGenPipeline": "diffgen.pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'diffgen' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
