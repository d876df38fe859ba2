"""A low-rank linear map that starts at zero (LoRA, Hu et al. 2021)."""

import torch
from torch import Tensor, nn


class LowRank(nn.Module):
    """up(down(x)) without biases: ``down`` starts Gaussian, ``up`` at zero; alpha is the rank."""

    def __init__(self, in_features: int, out_features: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(in_features, rank, bias=False)
        self.up = nn.Linear(rank, out_features, bias=False)
        nn.init.normal_(self.down.weight, std=in_features**-0.5)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in features) -> (..., out features)."""
        return self.up(self.down(x))

    def onto(self, base: Tensor, x: Tensor) -> Tensor:
        """``base`` (..., out features) plus the map of ``x`` (..., in features), in one pass."""
        base, low = base.flatten(0, -2), self.down(x)
        return torch.addmm(base, low.flatten(0, -2), self.up.weight.T).unflatten(0, x.shape[:-1])
