"""What one block gets for joint generation: joint cross-attention, and a LoRA of its own attention.

UniCon (Li et al. 2025) on a DiT. The released module is a frozen copy of the block's attention;
here it is that attention itself, so that nothing is stored twice.
"""

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

    def qkv(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., 3 width): what is added to queries, keys and values."""
        return torch.cat([self.q(x), self.k(x), self.v(x)], dim=-1)


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
        self,
        attention: Attention,
        x: Tensor,
        qkv: Tensor,
        layout: Layout,
        rotation: Rotation | None,
        logit_scale: Tensor | None,
    ) -> Tensor:
        """What joins the block's own attention, (2B, N, width).

        Args:
            attention: the block's.
            x: (2B, N, width) what it looks at, B rows of images, then those of their conditions.
            qkv: (2B, N, 3 width) its frozen queries, keys and values of ``x``.
            layout, rotation, logit_scale: as for ``attention``.
        """
        image, condition = self.to_image, self.to_condition
        x_image, x_condition = x.chunk(2)
        q, k, v = qkv.chunk(3, dim=-1)
        k, v = _swapped(k), _swapped(v)
        q = q + torch.cat([image.q(x_image), condition.q(x_condition)])
        k = k + torch.cat([image.k(x_condition), condition.k(x_image)])
        v = v + torch.cat([image.v(x_condition), condition.v(x_image)])
        mixed = attention.heads(q, k, v, layout, rotation, logit_scale)
        seen_image, seen_condition = mixed.chunk(2)
        out = attention.proj(mixed)
        out = out + torch.cat([image.out(seen_image), condition.out(seen_condition)])
        if not self.fused:
            return self.project(out)
        return torch.cat(self.project(torch.cat(out.chunk(2), dim=-1)).chunk(2, dim=-1))


class JointBlock(nn.Module):
    """What a block of the model gets: of either, None leaves it out.

    Args:
        joint: between image and condition.
        own: the LoRA of the condition's self-attention.
    """

    def __init__(self, joint: JointAttention | None, own: AttentionLoRA | None) -> None:
        super().__init__()
        self.joint, self.own = joint, own


def _swapped(x: Tensor) -> Tensor:
    """The rows of both branches in each other's places."""
    return torch.cat(x.chunk(2)[::-1])
