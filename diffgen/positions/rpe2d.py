"""RPE-2D: randomised positions, so that larger grids lie inside what training has seen.

In training the tokens of an axis get sorted positions, drawn without replacement from a range
longer than the grid, independently for rows and columns; any base encodes them. What counts is the
order of tokens, not their distance (arXiv 2503.18719; in one dimension Ruoss et al. 2023).

Confirmed by the paper's abstract: the two independent axes and the range beyond the grid. diffgen's
choice: whole numbers, a draw per image shared by all layers, and the positions when drawing.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from diffgen.config.positions import Inference, RPE2DConfig
from diffgen.positions.base import Draws, Position
from diffgen.transfer import to_device, values_like


def drawn_positions(count: int, length: int, generator: torch.Generator) -> Tensor:
    """(count,) fp32: sorted whole numbers drawn without replacement from 0 ... length - 1."""
    return torch.randperm(length, generator=generator)[:count].sort().values.float()


def fixed_positions(kind: Inference, count: int, length: int) -> Tensor:
    """(count,) fp32 positions in [0, length - 1] for drawing; the grid itself at count = length.

    ``order_stat`` is the mean of the i-th of the sorted draws, (i + 1)(L + 1) / (N + 1) - 1.
    """
    i = torch.arange(count, dtype=torch.float64)
    match kind:
        case "arange":
            positions = i
        case "order_stat":
            positions = (i + 1) * (length + 1) / (count + 1) - 1
        case _:
            positions = i * (length - 1) / max(count - 1, 1)
    return positions.float()


def whole(side: float) -> int:
    """Tokens that cover ``side``; that of a picture around a crop may be no whole number."""
    return math.ceil(side - 1e-3)


def look_up(table: Tensor, coords: Tensor) -> Tensor:
    """Positions of ``coords`` (..., N, 2) in ``table`` (..., 2, M), between entries linearly."""
    at = coords.transpose(-1, -2).clamp(0, table.shape[-1] - 1)
    below = at.floor().long()
    above = (below + 1).clamp(max=table.shape[-1] - 1)
    table = table.expand(*at.shape[:-1], -1)
    return torch.lerp(table.gather(-1, below), table.gather(-1, above), at - below).mT


class RPE2D(Position):
    """Places tokens anew, then encodes them by another encoding.

    Args:
        config: ranges, share of plain grids, positions when drawing.
        base: encodes the positions, in [0, range - 1] on each axis.
        grid: height and width of the training images [tokens].
    """

    def __init__(self, config: RPE2DConfig, base: Position, grid: tuple[int, int]) -> None:
        super().__init__(config.temperature, grid)
        self.config = config
        self.base = base
        self.ranges = config.ranges(grid)

    @property
    def draws_always(self) -> bool:
        """See Position.draws_always."""
        return self.config.inference == "random"

    def picture(self, crop: Tensor, sizes: Tensor) -> Tensor:
        """See Position.picture: one longer than the range counts as one of that length, in which
        the image lies as in the whole."""
        whole_picture, corner = crop[:, :2], crop[:, 2:]
        kept = torch.minimum(whole_picture, values_like(self.ranges, whole_picture))
        room = (whole_picture - sizes).clamp(min=1e-9)
        return torch.cat([kept, corner * (kept - sizes).clamp(min=0) / room], dim=-1)

    def place(self, coords: Tensor, sizes: Tensor, generator: Draws) -> Tensor:
        """See Position.place.

        Raises:
            ValueError: a grid is larger than the range.
        """
        grids = sizes.expand(coords.shape)[..., :1, :].reshape(-1, 2)
        shapes = [(whole(rows), whole(columns)) for rows, columns in grids.tolist()]
        for rows, columns in shapes:
            if rows > self.ranges[0] or columns > self.ranges[1]:
                raise ValueError(
                    f"a grid of {rows}x{columns} tokens exceeds the {self.ranges[0]}x"
                    f"{self.ranges[1]} positions the model was trained on"
                )
        each = generator if isinstance(generator, Sequence) else [generator] * len(shapes)
        longest = max(max(shape) for shape in shapes)
        table = torch.zeros(len(shapes), 2, longest)
        for image, (shape, draw) in enumerate(zip(shapes, each, strict=True)):
            for axis, positions in enumerate(self._positions(shape, draw)):
                table[image, axis, : len(positions)] = positions
                table[image, axis, len(positions) :] = positions[-1]
        table = to_device(table, coords.device).to(coords.dtype)
        return look_up(table.reshape(*coords.shape[:-2], 2, longest), coords)

    def _positions(self, shape: tuple[int, int], generator: torch.Generator | None) -> list[Tensor]:
        """Positions of the rows and the columns of one image."""
        kind, pairs = self.config.inference, list(zip(shape, self.ranges, strict=True))
        plain = kind != "random" and (
            generator is None or bool(torch.rand((), generator=generator) < self.config.plain_share)
        )
        if plain or generator is None:
            return [fixed_positions(kind, count, length) for count, length in pairs]
        return [drawn_positions(count, length, generator) for count, length in pairs]

    def embed(self, coords: Tensor, sizes: Tensor) -> Tensor | None:
        """See Position.embed."""
        return self.base.embed(coords, sizes)

    def rotation(self, coords: Tensor, sizes: Tensor, t: Tensor) -> Tensor | None:
        """See Position.rotation."""
        return self.base.rotation(coords, sizes, t)
