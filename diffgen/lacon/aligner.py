"""The aligner: a small network that reads a condition from a model's own features.

LaCon's (Liu et al. 2023) for a transformer: token features after blocks spread over the depth,
each normalised, brought to a few channels and put together; the time added from the model's own
embedding; upsampled to the model's pixels and finished by three small convolutions. See
docs/lacon.md for where this departs from the released network, and why.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from diffgen.config.lacon import Fusion
from diffgen.guidance.late import Seen
from diffgen.models.blocks import layer_norm
from diffgen.models.dit import DiT
from diffgen.models.tokens import unpatchify

GROUPS = 4
"""Of the head's group norms."""


def spread_blocks(depth: int, count: int = 6) -> list[int]:
    """At most ``count`` blocks of ``depth``, evenly spread, the last one among them."""
    count = min(depth, count)
    return [round((i + 1) * depth / count) - 1 for i in range(count)]


class Aligner(ModelMixin, ConfigMixin):
    """Features of a DiT -> a map of a condition at the model's own size.

    Args:
        condition: name of the condition.
        channels: of its map.
        blocks: blocks of the model whose features it reads.
        hidden_size, patch_size: of the model.
        width: channels a tap is brought to; None: 3/16 of the model's.
        head_width: channels of the convolutions, a multiple of 4; None: 1/16 of the model's, 16 at
            least.
        fusion: "concat" puts the taps side by side; "mix" adds them, weighted by a softmax.
        backbone: digest of the weights it was trained on.
        image_std: standard deviation of images like the model's, as it sees them; scale 1 of a
            constraint moves x0 by so much.
        until: time at which its constraints end, see ``curve.cut_off``.
        r2: its R^2 on pictures it was not trained on, by time as text.

    Raises:
        ValueError: widths that do not fit.
    """

    @register_to_config
    def __init__(
        self,
        condition: str,
        channels: int,
        blocks: Sequence[int],
        hidden_size: int,
        patch_size: int,
        width: int | None = None,
        head_width: int | None = None,
        fusion: Fusion = "concat",
        backbone: str = "",
        image_std: float = 1.0,
        until: float = 0.0,
        r2: dict[str, float] | None = None,
    ) -> None:
        super().__init__()
        width = width or max(8, 3 * hidden_size // 16)
        head_width = head_width or GROUPS * max(4, hidden_size // 16 // GROUPS)
        if head_width % GROUPS:
            raise ValueError(f"head_width must be a multiple of {GROUPS}, not {head_width}")
        if fusion not in ("concat", "mix"):
            raise ValueError(f"fusion {fusion!r} is not one of concat, mix")
        self.taps = nn.ModuleList(nn.Linear(hidden_size, width) for _ in blocks)
        self.mixture = nn.Parameter(torch.zeros(len(blocks))) if fusion == "mix" else None
        fused = width * (1 if fusion == "mix" else len(blocks))
        self.time = nn.Linear(hidden_size, fused)
        self.up = nn.Linear(fused, head_width * patch_size**2)
        self.first_norm = nn.GroupNorm(GROUPS, head_width)
        self.convs = nn.ModuleList(
            nn.Conv2d(head_width, head_width, 3, padding=1) for _ in range(2)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(GROUPS, head_width) for _ in range(2))
        self.out = nn.Conv2d(head_width, channels, 3, padding=1)

    @classmethod
    def of(cls, model: DiT, condition: str, channels: int, **options: Any) -> "Aligner":
        """One for ``model``, fresh; ``options`` as in the class, ``blocks`` too."""
        blocks = options.pop("blocks", None) or spread_blocks(len(model.blocks))
        config = model.config
        return cls(condition, channels, blocks, config.hidden_size, config.patch_size, **options)

    def forward(self, seen: Seen) -> Tensor:
        """(B, channels, h, w) at the model's own size: a map, or its logits if it is binary.

        Any height and width; in the dtype of the aligner, fp32 unless it was brought to another.
        """
        taps = [seen.features[block].to(self.dtype) for block in self.blocks]
        tokens = self.fuse([layer_norm(tap) for tap in taps])
        if seen.time is None:
            raise ValueError("an aligner needs the model's embedding of the time")
        told = self.time(F.silu(seen.time.to(self.dtype)))[:, None]
        x = unpatchify(self.up(F.silu(tokens + told)), *seen.grid, self.config.patch_size)
        x = F.silu(self.first_norm(x))
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = x + F.silu(norm(conv(x)))
        return self.out(x)

    def fuse(self, features: list[Tensor]) -> Tensor:
        """Normalised features (B, N, hidden size) of each tap -> (B, N, fused width)."""
        parts = [tap(x) for tap, x in zip(self.taps, features, strict=True)]
        if self.mixture is None:
            return torch.cat(parts, dim=-1)
        weights = self.mixture.softmax(dim=0)
        return sum((w * part for w, part in zip(weights, parts, strict=True)), start=parts[0] * 0)

    @property
    def blocks(self) -> tuple[int, ...]:
        """Blocks of the model whose features it reads."""
        return tuple(self.config.blocks)
