"""What the options of a DiT must be; a configuration file is checked before, a saved model here."""

from typing import Any, get_args

from diffgen.config.model import MicroConditioning, Prediction
from diffgen.config.positions import Positions


def check_choices(prediction: str, micro: str, mlp: str) -> None:
    """Raise ValueError unless each is one of its choices."""
    for name, value, allowed in (
        ("prediction", prediction, get_args(Prediction)),
        ("micro", micro, get_args(MicroConditioning)),
        ("mlp", mlp, ("mlp", "swiglu")),
    ):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {allowed}, not {value!r}")


def check_widths(hidden_size: int, num_heads: int, position: Positions) -> None:
    """Raise ValueError where the heads, or the encoding, do not fit the width."""
    if hidden_size % num_heads:
        raise ValueError(f"num_heads {num_heads} does not divide hidden_size {hidden_size}")
    for problem in position.misfits(hidden_size, num_heads):
        raise ValueError(problem)


def check_numbers(rank: Any, eps: Any, shift: Any, guided: Any) -> None:
    """Raise ValueError for a rank, norm, shift or number of channels out of range."""
    for name, value in (("adaln_rank", rank), ("guidance_channels", guided)):
        if value is not None and (type(value) is not int or value < 1):
            raise ValueError(f"{name} must be None or 1 or more, not {value!r}")
    if type(eps) not in (int, float) or not 0 < eps < 1:
        raise ValueError(f"mlp_norm_eps must be between 0 and 1, not {eps!r}")
    if shift not in (0, 1):
        raise ValueError(f"time_freq_shift must be 0 or 1, not {shift!r}")
