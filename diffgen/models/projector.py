"""From a model's tokens to an encoder's features, for representation alignment."""

import torch
from torch import Tensor, nn


class Projector(nn.Module):
    """h_phi of REPA (Yu et al. 2024): three linear maps with SiLU between, as released.

    Args:
        width: of a token. hidden: between the maps. features: of the encoder.
        generator: draws the weights: Xavier-uniform, biases 0, as the release's linear maps all
            start.
    """

    def __init__(self, width: int, hidden: int, features: int, generator: torch.Generator) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, features),
        )
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight, generator=generator)
                nn.init.zeros_(layer.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., width) -> (..., features)."""
        return self.layers(tokens)
