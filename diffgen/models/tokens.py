"""Images to tokens and back, and the coordinates that travel with them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def patchify(x: Tensor, patch: int) -> Tensor:
    """(B, C, H, W) -> (B, N, C p^2): row-major tokens, channel-major (c, row, column) inside.

    Raises:
        ValueError: ``patch`` divides H or W with a remainder.
    """
    batch, channels, height, width = x.shape
    if height % patch or width % patch:
        raise ValueError(f"{height}x{width} is not divisible by the patch size {patch}")
    rows, columns = height // patch, width // patch
    x = x.reshape(batch, channels, rows, patch, columns, patch)
    x = x.permute(0, 2, 4, 1, 3, 5)
    return x.reshape(batch, rows * columns, channels * patch * patch)


def unpatchify(tokens: Tensor, rows: int, columns: int, patch: int) -> Tensor:
    """(B, rows * columns, C p^2) -> (B, C, rows * p, columns * p); the inverse of patchify."""
    batch = tokens.shape[0]
    x = tokens.reshape(batch, rows, columns, -1, patch, patch)
    x = x.permute(0, 3, 1, 4, 2, 5)
    return x.reshape(batch, -1, rows * patch, columns * patch)


def grid_coords(rows: int, columns: int, device: torch.device | None = None) -> Tensor:
    """(rows * columns, 2) float coordinates (row, column) of a full grid, row-major, from 0."""
    row = torch.arange(rows, device=device, dtype=torch.float32)
    column = torch.arange(columns, device=device, dtype=torch.float32)
    return torch.stack(torch.meshgrid(row, column, indexing="ij"), dim=-1).reshape(-1, 2)


def real_tokens(lengths: Tensor) -> Tensor:
    """(B,) lengths -> (B, longest) bool mask of a padded batch, True = real."""
    return torch.arange(int(lengths.max()), device=lengths.device) < lengths[:, None]


def pad(packed: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """(sum N, ...) of B sequences -> ((B, longest, ...) with zeros behind, its mask).

    ``padded[mask]`` is the inverse.
    """
    mask = real_tokens(lengths)
    padded = packed.new_zeros(*mask.shape, *packed.shape[1:])
    padded[mask] = packed
    return padded, mask


@dataclass(frozen=True)
class TokenBatch:
    """Images of mixed sizes as one sequence of tokens, one image behind another."""

    tokens: Tensor
    """(sum N, C p^2)."""
    coords: Tensor
    """(sum N, 2) float (row, column) in each image."""
    sizes: Tensor
    """(B, 2) int64 grids in tokens."""

    @property
    def lengths(self) -> Tensor:
        """(B,) int64 tokens of each image."""
        return self.sizes.prod(dim=-1)


def pack(images: Sequence[Tensor], patch: int) -> TokenBatch:
    """Images (C, H, W) of any sizes, on one device -> their tokens.

    Raises:
        ValueError: ``patch`` divides a side with a remainder.
    """
    device = images[0].device
    grids = [(image.shape[-2] // patch, image.shape[-1] // patch) for image in images]
    return TokenBatch(
        torch.cat([patchify(image[None], patch)[0] for image in images]),
        torch.cat([grid_coords(*grid, device) for grid in grids]),
        torch.tensor(grids, device=device),
    )


def unpack(tokens: Tensor, sizes: Tensor, patch: int) -> list[Tensor]:
    """(sum N, C p^2) tokens of images of ``sizes`` (B, 2) tokens -> images; inverse of pack."""
    pieces = tokens.split(sizes.prod(dim=-1).tolist())
    grids = zip(pieces, sizes.tolist(), strict=True)
    return [unpatchify(piece[None], rows, columns, patch)[0] for piece, (rows, columns) in grids]
