"""What one block gets for joint generation: joint cross-attention, and a LoRA of its own attention.

UniCon (Li et al. 2025) on a DiT. The released module is a frozen copy of the block's attention;
here it is that attention itself, so that nothing is stored twice.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from diffgen.config.joint import Projection
from diffgen.joint.low_rank import LowRank
from diffgen.models.attention import Layout
from diffgen.models.blocks import Attention, Rotation


class AttentionLoRA(nn.Module):
    """LoRAs of the four linear maps of an attention (Hu et al. 2021)."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.q = LowRank(width, width, rank)
        self.k = LowRank(width, width, rank)
        self.v = LowRank(width, width, rank)
        self.out = LowRank(width, width, rank)

    def qkv(self, base: Tensor, x: Tensor) -> Tensor:
        """``base`` (..., 3 width), queries, keys and values, with what ``x`` adds to them."""
        maps = zip((self.q, self.k, self.v), base.chunk(3, dim=-1), strict=True)
        return torch.cat([one.onto(part, x) for one, part in maps], dim=-1)


class Rows(NamedTuple):
    """One branch as a block's attention has it."""

    x: Tensor
    """(B, N, width) what it looks at."""
    qkv: Tensor
    """(B, N, 3 width) its frozen queries, keys and values of that."""
    rotation: Rotation | None
    logit_scale: Tensor | None


class JointAttention(nn.Module):
    """Attention from each branch to the other, on a block's frozen attention.

    Args:
        width: of the tokens.
        rank: of the LoRAs, one of each direction.
        projection: of what comes out, which starts at zero. "shared": one map for both branches;
            "fused": one of both side by side, so that a token also gets what its counterpart found.
        projection_rank: None: in full.
    """

    def __init__(
        self, width: int, rank: int, projection: Projection, projection_rank: int | None
    ) -> None:
        super().__init__()
        self.to_image = AttentionLoRA(width, rank)
        self.to_condition = AttentionLoRA(width, rank)
        self.fused = projection == "fused"
        width *= 2 if self.fused else 1
        self.project: nn.Module
        if projection_rank is None:
            self.project = nn.Linear(width, width, bias=False)
            nn.init.zeros_(self.project.weight)
        else:
            self.project = LowRank(width, width, projection_rank)

    def forward(
        self, attention: Attention, image: Rows, condition: Rows, layout: Layout
    ) -> tuple[Tensor, Tensor]:
        """What joins the block's own ``attention`` of images and conditions, (B, N, width) each."""
        for_image = look(attention, self.to_image, image, condition, layout)
        for_condition = look(attention, self.to_condition, condition, image, layout)
        if not self.fused:
            return self.project(for_image), self.project(for_condition)
        both = self.project(torch.cat([for_image, for_condition], dim=-1))
        return both.chunk(2, dim=-1)


def look(
    attention: Attention, lora: AttentionLoRA, branch: Rows, other: Rows, layout: Layout
) -> Tensor:
    """What ``branch`` finds in ``other``, (B, N, width): cross-attention with the LoRA."""
    q, (k, v) = branch.qkv.chunk(3, dim=-1)[0], other.qkv.chunk(3, dim=-1)[1:]
    q, k, v = lora.q.onto(q, branch.x), lora.k.onto(k, other.x), lora.v.onto(v, other.x)
    mixed = attention.heads(q, k, v, layout, branch.rotation, branch.logit_scale)
    return lora.out.onto(attention.proj(mixed), mixed)


class JointBlock(nn.Module):
    """What a block of the model gets: of either, None leaves it out.

    Args:
        joint: between image and condition.
        own: the LoRA of the condition's self-attention.
    """

    def __init__(self, joint: JointAttention | None, own: AttentionLoRA | None) -> None:
        super().__init__()
        self.joint, self.own = joint, own
