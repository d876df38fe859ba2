"""The configuration of ``train/lacon.py``."""

from typing import Literal

Fusion = Literal["concat", "mix"]
