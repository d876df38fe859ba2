"""Attention over sequences of tokens: two ways a batch can lie in memory, three backends."""

import logging
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from diffgen.config.model import Attention, attention_problems
from diffgen.models.tokens import pad, real_tokens

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Padded:
    """(B, N, ...) tokens; ``mask`` (B, N) bool marks the real ones, None: all are real."""

    mask: Tensor | None = None
    backend: Attention = "auto"

    def spread(self, per_sample: Tensor) -> Tensor:
        """(B, ...) -> broadcastable against the tokens' (B, N, ...)."""
        return per_sample[:, None]

    def full_size(self, coords: Tensor) -> Tensor:
        """(B, 2): the smallest grid that holds every real token's coordinates."""
        reach = coords + 1
        if self.mask is not None:
            reach = reach * self.mask[..., None]
        return reach.amax(dim=1)

    def padded(self, x: Tensor) -> Tensor:
        """(B, N, ...): as it is."""
        return x

    def back(self, padded: Tensor) -> Tensor:
        """The inverse of ``padded``."""
        return padded


@dataclass(frozen=True)
class Packed:
    """(sum N, ...) tokens of B sequences one behind another; ``lengths`` (B,) int64."""

    lengths: Tensor
    backend: Attention = "auto"

    def spread(self, per_sample: Tensor) -> Tensor:
        """(B, ...) -> (sum N, ...)."""
        return per_sample.repeat_interleave(self.lengths, dim=0)

    def full_size(self, coords: Tensor) -> Tensor:
        """(B, 2): the smallest grid that holds every token's coordinates."""
        pieces = coords.split(self.lengths.tolist())
        return torch.stack([piece.amax(dim=0) + 1 for piece in pieces])

    def padded(self, x: Tensor) -> Tensor:
        """(sum N, ...) -> (B, longest N, ...), zeros behind."""
        return pad(x, self.lengths)[0]

    def back(self, padded: Tensor) -> Tensor:
        """The inverse of ``padded``."""
        return padded[real_tokens(self.lengths)]


Layout = Padded | Packed


def layout_of(
    tokens: Tensor, mask: Tensor | None, lengths: Tensor | None, backend: Attention
) -> Layout:
    """How a batch of ``tokens`` lies: packed with ``lengths``, else padded.

    Raises:
        ValueError: mask and lengths together, or lengths that do not sum to the tokens.
    """
    if lengths is None:
        return Padded(mask, backend)
    if mask is not None:
        raise ValueError("give mask (padded) or lengths (packed), not both")
    if tokens.ndim != 2 or int(lengths.sum()) != tokens.shape[0]:
        raise ValueError(
            f"packed tokens must be (sum of lengths, features); lengths sum to "
            f"{int(lengths.sum())}, tokens are {tuple(tokens.shape)}"
        )
    return Packed(lengths, backend)


def attend(q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
    """Every token of a sequence attends to its sequence; softmax(q k^T / sqrt(D)) v.

    Args:
        q, k, v: (B, N, heads, D), or packed (sum N, heads, D).
        layout: how they lie, and the backend asked for; the one taken is logged once.

    Returns:
        The shape of ``q``. What padding gets depends on the backend, and is finite.

    Raises:
        ValueError: the backend cannot run here; the reason is told.
    """
    half = q.dtype in (torch.bfloat16, torch.float16)
    cuda = q.device.type == "cuda"
    backend = chosen_backend(layout.backend, isinstance(layout, Packed), cuda, half)
    within = _varlen if backend == "varlen" else _xformers
    if isinstance(layout, Packed):
        return (_by_length if backend == "sdpa" else within)(q, k, v, layout.lengths)
    real = layout.mask
    if backend == "sdpa":
        return _padded(q, k, v, real)
    if real is None:
        lengths = q.new_full((len(q),), q.shape[1], dtype=torch.int64)
        flat = within(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), lengths)
        return flat.unflatten(0, q.shape[:2])
    out = torch.zeros_like(q)
    out[real] = within(q[real], k[real], v[real], real.sum(dim=1))
    return out


@cache  # so that the log tells each choice once
def chosen_backend(asked: Attention, packed: bool, cuda: bool, half: bool) -> Attention:
    """The backend that computes: sdpa, varlen or xformers.

    Args:
        asked: by the configuration. packed: or padded. cuda: the tensors are on a GPU.
        half: they are bf16 or fp16.

    Raises:
        ValueError: it cannot run there.
    """
    for problem in attention_problems(asked, cuda, half):
        raise ValueError(problem)
    backend = asked
    if asked == "auto":
        backend = "varlen" if packed and cuda and half else "sdpa"
    log.info("attention: %s for %s sequences", backend, "packed" if packed else "padded")
    return backend


def _padded(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Padding sees only padding, so that no row of the softmax is empty."""
    allowed = None if mask is None else (mask[:, :, None] == mask[:, None, :])[:, None]
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed).transpose(1, 2)


def _by_length(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor) -> Tensor:
    """Sequences of equal length are computed together, so nothing is padded."""
    starts = lengths.cumsum(0) - lengths
    out = torch.empty_like(q)
    for length in lengths.unique().tolist():
        first = starts[lengths == length]
        rows = first[:, None] + torch.arange(length, device=q.device)  # (sequences, length)
        out[rows] = _padded(q[rows], k[rows], v[rows], None)
    return out


def _varlen(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    ends = F.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
    longest = int(lengths.max())
    out = varlen_attn(q, k, v, ends, ends, longest, longest)
    assert isinstance(out, Tensor)  # a tuple only when asked for auxiliary outputs
    return out


def _xformers(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor) -> Tensor:
    from xformers.ops import memory_efficient_attention
    from xformers.ops.fmha.attn_bias import BlockDiagonalMask

    bias = BlockDiagonalMask.from_seqlens(lengths.tolist())
    out: Tensor = memory_efficient_attention(q[None], k[None], v[None], attn_bias=bias)
    return out[0]
