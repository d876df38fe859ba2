"""Factors on the attention logits that keep attention as sharp on larger grids as on the trained.

More tokens flatten a softmax; a factor that grows with the logarithm of their number holds its
entropy (Jin et al. 2023). FiTv2's paper states ``log_ratio`` (Wang et al. 2024, eq. 15, read as a
logarithm of base N_train), its released code the two forms with a factor 2, which are above 1 at
the trained size already.
"""

import math

import torch
from torch import Tensor

from diffgen.config.positions import Temperature


def logit_temperature(kind: Temperature, sizes: Tensor, grid: tuple[int, int]) -> Tensor | None:
    """The factor for images of ``sizes`` (..., 2) tokens by a model trained on ``grid``.

    Returns:
        (...) fp32, or None for ``none``.

    Raises:
        ValueError: the trained grid is a single token (row, for the longer side).
    """
    if kind == "none":
        return None
    trained = max(grid) if kind == "log_side_2x" else grid[0] * grid[1]
    if trained < 2:
        raise ValueError(f"position.temperature: {kind} needs more than one trained token")
    sizes = sizes.double()
    tokens = sizes.prod(-1)
    match kind:
        case "log_ratio":
            factor = (tokens.log() / math.log(trained)).clamp(min=1)
        case "log_ratio_2x":
            factor = ((2 * tokens).log() / math.log(trained)).clamp(min=1)
        case "log_side_2x":
            factor = ((2 * sizes.amax(-1)).log() / math.log(trained)).clamp(min=1)
        case "sqrt_log":
            factor = (tokens.log() / math.log(trained)).sqrt()
    return factor.to(torch.float32)
