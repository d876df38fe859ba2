"""What goes into the first block: tokens, time and labels, each as vectors of the model's width."""

import math

import torch
from torch import Tensor, nn


class TokenEmbedder(nn.Module):
    """Linear map from a token's pixels to the width of the model."""

    def __init__(self, in_features: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(in_features, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., C p^2) -> (..., width)."""
        return self.proj(tokens)


class LabelEmbedder(nn.Module):
    """A row per class and one for the null class, which is ``num_classes``."""

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(num_classes + 1, width)

    def forward(self, labels: Tensor) -> Tensor:
        """(B,) int64 -> (B, width)."""
        return self.embedding_table(labels)


class TimestepEmbedder(nn.Module):
    """Sinusoids of the time, 256 wide, cosines first, then a two-layer MLP (DiT).

    Frequencies are 10000^(-j / (128 - shift)), j = 0 ... 127; diffusers' DiT has shift 1.
    """

    def __init__(self, width: int, frequencies: int = 256, shift: int = 0) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.shift = shift
        self.mlp = nn.Sequential(nn.Linear(frequencies, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        """(B,) times in the model's own convention -> (B, width)."""
        half = self.frequencies // 2
        steps = torch.arange(half, dtype=torch.float32, device=t.device)
        angles = t.float()[:, None] * torch.exp(-math.log(10_000.0) * steps / (half - self.shift))
        embedding = torch.cat([angles.cos(), angles.sin()], dim=-1)
        return self.mlp(embedding.to(next(self.parameters()).dtype))
