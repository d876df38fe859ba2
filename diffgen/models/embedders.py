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


def sinusoids(x: Tensor, channels: int, shift: int = 0) -> Tensor:
    """(...,) -> (..., channels): cosines, then sines, of x 10000^(-j / (channels / 2 - shift))."""
    half = channels // 2
    steps = torch.arange(half, dtype=torch.float32, device=x.device)
    angles = x.float()[..., None] * torch.exp(-math.log(10_000.0) * steps / (half - shift))
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


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
        embedding = sinusoids(t, self.frequencies, self.shift)
        return self.mlp(embedding.to(next(self.parameters()).dtype))


class CropEmbedder(nn.Module):
    """What part of which picture is shown, as micro-conditioning (SDXL, Podell et al. 2023).

    Four numbers, each as 256 sinusoids, one behind another through a two-layer MLP.
    """

    def __init__(self, width: int, frequencies: int = 256) -> None:
        super().__init__()
        self.frequencies = frequencies
        features = 4 * frequencies
        self.mlp = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, crop: Tensor) -> Tensor:
        """(B, 4) height and width of the picture, top and left of the part -> (B, width)."""
        embedding = sinusoids(crop, self.frequencies).flatten(-2)
        return self.mlp(embedding.to(next(self.parameters()).dtype))
