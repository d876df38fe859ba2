"""The hooks of a positional encoding, all of them functions of coordinates.

Shapes: ``coords`` (..., N, 2) float, (row, column) in tokens; ``sizes`` (..., 2), the full grid
(height, width) in tokens, broadcastable against ``coords``; ``t`` noise times in [0, 1], 1 = pure
noise, broadcastable against ``coords[..., 0]``. An encoding never sees the number of tokens, so
any grid, crop or packed mixture of grids is encoded alike.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from diffgen.config.positions import Temperature
from diffgen.positions.temperature import logit_temperature

Draws = torch.Generator | Sequence[torch.Generator] | None
"""What positions are drawn from: one for each image, one for all in turn, or nothing."""


class Position(nn.Module):
    """No positional encoding: every hook leaves things as they are.

    Args:
        temperature: how attention logits are scaled on other grids.
        grid: height and width of the training images [tokens].

    Raises:
        ValueError: the temperature needs a larger grid.
    """

    def __init__(self, temperature: Temperature = "none", grid: tuple[int, int] = (16, 16)) -> None:
        super().__init__()
        logit_temperature(temperature, torch.tensor(grid), grid)  # it may refuse the grid
        self.temperature = temperature
        self.grid = grid

    @property
    def draws_always(self) -> bool:
        """True for an encoding that draws positions outside training too."""
        return False

    def picture(self, crop: Tensor, sizes: Tensor) -> Tensor:
        """What the picture around images of ``sizes`` (B, 2) counts as, if ``crop`` is (B, 4): its
        height and width, and the images' top and left in it [tokens]."""
        return crop

    def place(self, coords: Tensor, sizes: Tensor, generator: Draws) -> Tensor:
        """Coordinates the other hooks see, drawn once per forward and shared by all layers.

        ``coords`` (B, N, 2), ``sizes`` (B, 1, 2); padding may lie anywhere. ``generator``: one for
        each image, or one they all draw from in turn; None outside training.
        """
        return coords

    def embed(self, coords: Tensor, sizes: Tensor) -> Tensor | None:
        """(..., N, hidden size), added to the tokens, or None."""
        return None

    def rotation(self, coords: Tensor, sizes: Tensor, t: Tensor) -> Tensor | None:
        """(..., N, head size / 2) angles [radians] for channel pairs (2j, 2j + 1), or None."""
        return None

    def logit_scale(self, sizes: Tensor) -> Tensor | None:
        """Factor on the attention logits, broadcastable against ``sizes[..., 0]``, or None."""
        return logit_temperature(self.temperature, sizes, self.grid)
