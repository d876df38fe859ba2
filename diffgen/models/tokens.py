"""Images to tokens and back, and the coordinates that travel with them."""

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
