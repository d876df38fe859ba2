"""The transformer block: attention and feed-forward under adaLN-Zero (Peebles and Xie 2023)."""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffgen.models.attention import Layout, attend
from diffgen.positions.rope import rotate


def at_least_fp32(x: Tensor) -> Tensor:
    """bf16 and fp16 as fp32; wider types as they are."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def layer_norm(x: Tensor, eps: float = 1e-6) -> Tensor:
    """LayerNorm over the last axis without weights, computed in fp32 or wider."""
    return F.layer_norm(at_least_fp32(x), x.shape[-1:], eps=eps).to(x.dtype)


def adaptive_norm(x: Tensor, shift: Tensor, scale: Tensor, eps: float = 1e-6) -> Tensor:
    """LN(x) * (1 + scale) + shift, computed in fp32 or wider and rounded once, to ``x``'s dtype."""
    normed = F.layer_norm(at_least_fp32(x), x.shape[-1:], eps=eps)
    return torch.addcmul(at_least_fp32(shift), normed, 1 + at_least_fp32(scale)).to(x.dtype)


def add_gated(x: Tensor, branch: Tensor, gate: Tensor) -> Tensor:
    """x + gate * branch."""
    return torch.addcmul(x, gate, branch)


Rotation: TypeAlias = tuple[Tensor, Tensor]
Attends: TypeAlias = Callable[..., Tensor]
"""(the block's attention, and what it would be called with) -> what stands in for its result."""


class Mlp(nn.Module):
    """Linear, GELU (tanh form), Linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class SwiGLU(nn.Module):
    """fc2(SiLU(fc1_g x) * fc1_x x) (Shazeer 2020)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1_g = nn.Linear(width, hidden)
        self.fc1_x = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        return self.fc2(F.silu(self.fc1_g(x)) * self.fc1_x(x))


class Attention(nn.Module):
    """Multi-head self-attention with optional QK-norm, rotation and logit scale."""

    def __init__(self, width: int, num_heads: int, qk_norm: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qk_norm = qk_norm
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(
        self,
        x: Tensor,
        layout: Layout,
        rotation: Rotation | None = None,
        logit_scale: Tensor | None = None,
    ) -> Tensor:
        """``x`` (..., N, width) laid out as ``layout`` says -> the same shape.

        ``rotation``: cos and sin, each (..., N, head size / 2), the same for all heads.
        ``logit_scale``: a factor on the logits of each query, broadcastable against (..., N).
        """
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return self.proj(self.heads(q, k, v, layout, rotation, logit_scale))

    def heads(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        layout: Layout,
        rotation: Rotation | None = None,
        logit_scale: Tensor | None = None,
    ) -> Tensor:
        """All between the linear maps: q, k, v (..., N, width) -> (..., N, width).

        Norm, rotation and scale are computed in fp32 or wider and rounded once, to ``v``'s dtype.
        """
        q, k, v = (z.unflatten(-1, (self.num_heads, -1)) for z in (q, k, v))
        q, k = at_least_fp32(q), at_least_fp32(k)
        if self.qk_norm:
            q, k = layer_norm(q), layer_norm(k)
        if rotation is not None:
            cos, sin = (part[..., None, :] for part in rotation)
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if logit_scale is not None:
            q = q * logit_scale[..., None, None].to(q.dtype)
        return attend(q.to(v.dtype), k.to(v.dtype), v, layout).flatten(-2)


def modulation(width: int, rank: int | None) -> nn.Sequential:
    """SiLU and a linear map from the condition to six shifts, scales and gates.

    With a ``rank`` two of them without an activation between, to which a global branch is added
    (AdaLN-LoRA of FiTv2, Wang et al. 2024, eq. 11; SiLU and biases as released).
    """
    if rank is None:
        return nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
    return nn.Sequential(nn.SiLU(), nn.Linear(width, rank), nn.Linear(rank, 6 * width))


class Block(nn.Module):
    """x + gate * f(modulate(LN(x))) for attention, then for the feed-forward.

    Args:
        width, num_heads, qk_norm: of the attention.
        mlp: "mlp" or "swiglu". mlp_ratio: hidden width over token width.
        adaln_rank: see ``modulation``.
        mlp_norm_eps: of the norm before the feed-forward.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        mlp: str,
        mlp_ratio: float,
        qk_norm: bool,
        adaln_rank: int | None = None,
        mlp_norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.attn = Attention(width, num_heads, qk_norm)
        hidden = int(mlp_ratio * width)
        self.mlp = SwiGLU(width, 2 * hidden // 3) if mlp == "swiglu" else Mlp(width, hidden)
        self.mlp_norm_eps = mlp_norm_eps
        self.adaLN_modulation = modulation(width, adaln_rank)

    def forward(
        self,
        x: Tensor,
        condition: Tensor,
        layout: Layout,
        rotation: Rotation | None = None,
        logit_scale: Tensor | None = None,
        shared: Tensor | None = None,
        attention: Attends | None = None,
    ) -> Tensor:
        """``x`` (..., N, width), ``condition`` (B, width) -> the shape of ``x``.

        ``shared`` (B, 6 width): the global branch of AdaLN-LoRA. ``attention``: what attends in
        place of the block's own.
        """
        modulated = self.adaLN_modulation(condition)
        if shared is not None:
            modulated = modulated + shared
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulated.chunk(6, -1)
        normed = layout.apply(adaptive_norm, (x,), (shift_a, scale_a))
        attend = self.attn if attention is None else partial(attention, self.attn)
        attended = attend(normed, layout, rotation, logit_scale)
        x = layout.apply(add_gated, (x, attended), (gate_a,))
        norm = partial(adaptive_norm, eps=self.mlp_norm_eps)
        normed = layout.apply(norm, (x,), (shift_m, scale_m))
        return layout.apply(add_gated, (x, self.mlp(normed)), (gate_m,))


class FinalLayer(nn.Module):
    """The last modulated norm and the linear map from token to patch."""

    def __init__(self, width: int, out_features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, out_features)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: Tensor, condition: Tensor, layout: Layout) -> Tensor:
        """``x`` (..., N, width) -> (..., N, C_out p^2)."""
        shift, scale = self.adaLN_modulation(condition).chunk(2, dim=-1)
        return self.linear(layout.apply(adaptive_norm, (x,), (shift, scale)))
