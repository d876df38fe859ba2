"""Attention over sequences of tokens: two ways a batch can lie in memory, three backends."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal, TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from diffgen.config.model import Attention, attention_problems
from diffgen.models.tokens import pad, real_tokens

log = logging.getLogger(__name__)

HALVES = (torch.bfloat16, torch.float16)
Backend: TypeAlias = Literal["sdpa", "varlen", "xformers"]
Tokens: TypeAlias = tuple[Tensor, ...]
Elementwise: TypeAlias = Callable[..., Tensor]


@dataclass(frozen=True)
class Padded:
    """(B, N, ...) tokens; ``mask`` (B, N) bool marks the real ones, None: all are real."""

    mask: Tensor | None = None
    backend: Backend = "sdpa"

    def spread(self, per_sample: Tensor) -> Tensor:
        """(B, ...) -> broadcastable against the tokens' (B, N, ...)."""
        return per_sample[:, None]

    def apply(self, function: Elementwise, tokens: Tokens, per_sample: Tokens) -> Tensor:
        """``function(*tokens, *per_sample)``, the latter spread."""
        return function(*tokens, *map(self.spread, per_sample))

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
    backend: Backend = "sdpa"

    @cached_property
    def runs(self) -> list[tuple[int, int]]:
        """(count, length) of neighbouring sequences of one length."""
        lengths, counts = self.lengths.unique_consecutive(return_counts=True)
        return list(zip(counts.tolist(), lengths.tolist(), strict=True))

    def stacked(self, x: Tensor) -> list[Tensor]:
        """(sum N, ...) -> for each run (count, length, ...), without copying."""
        pieces = x.split([count * length for count, length in self.runs])
        return [piece.unflatten(0, run) for piece, run in zip(pieces, self.runs, strict=True)]

    def spread(self, per_sample: Tensor) -> Tensor:
        """(B, ...) -> (sum N, ...)."""
        return per_sample.repeat_interleave(self.lengths, dim=0)

    def apply(self, function: Elementwise, tokens: Tokens, per_sample: Tokens) -> Tensor:
        """``function(*tokens, *per_sample)``, the latter spread.

        On a CPU run by run: a copy of a sample's six modulations for each of its tokens costs more
        memory traffic than the whole rest of the arithmetic saves.
        """
        if tokens[0].is_cuda:
            return function(*tokens, *map(self.spread, per_sample))
        counts = [count for count, _ in self.runs]
        pieces = [self.stacked(x) for x in tokens] + [
            [part[:, None] for part in x.split(counts)] for x in per_sample
        ]
        return torch.cat([function(*run).flatten(0, 1) for run in zip(*pieces, strict=True)])

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

    ``backend`` is the one asked for. What computes is chosen here, once a forward pass, so that
    the blocks are free of Python that a compiler cannot follow.

    Raises:
        ValueError: mask and lengths together, lengths that do not sum to the tokens, or a backend
            that cannot run here.
    """
    cuda = tokens.is_cuda
    half = tokens.dtype in HALVES or (cuda and torch.is_autocast_enabled("cuda"))
    chosen = chosen_backend(backend, lengths is not None, cuda, half)
    if lengths is None:
        return Padded(mask, chosen)
    if mask is not None:
        raise ValueError("give mask (padded) or lengths (packed), not both")
    if tokens.ndim != 2 or int(lengths.sum()) != tokens.shape[0]:
        raise ValueError(
            f"packed tokens must be (sum of lengths, features); lengths sum to "
            f"{int(lengths.sum())}, tokens are {tuple(tokens.shape)}"
        )
    return Packed(lengths, chosen)


def attend(q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
    """Every token of a sequence attends to its sequence; softmax(q k^T / sqrt(D)) v.

    Args:
        q, k, v: (B, N, heads, D), or packed (sum N, heads, D).
        layout: how they lie, and the backend that computes.

    Returns:
        The shape of ``q``. What padding gets depends on the backend, and is finite.

    Raises:
        ValueError: the backend cannot run here; the reason is told.
    """
    backend = layout.backend
    if backend == "sdpa":
        if isinstance(layout, Packed):
            return _by_length(q, k, v, layout)
        return _padded(q, k, v, layout.mask)
    for problem in attention_problems(backend, q.is_cuda, q.dtype in HALVES):
        raise ValueError(problem)
    within = _varlen if backend == "varlen" else _xformers
    if isinstance(layout, Packed):
        return within(q, k, v, layout.lengths)
    real = layout.mask
    if real is None:
        lengths = q.new_full((len(q),), q.shape[1], dtype=torch.int64)
        flat = within(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), lengths)
        return flat.unflatten(0, q.shape[:2])
    out = torch.zeros_like(q)
    out[real] = within(q[real], k[real], v[real], real.sum(dim=1))
    return out


@cache  # so that the log tells each choice once
def chosen_backend(asked: Attention, packed: bool, cuda: bool, half: bool) -> Backend:
    """The backend that computes.

    Args:
        asked: by the configuration. packed: or padded. cuda: the tensors are on a GPU.
        half: they are bf16 or fp16.

    Raises:
        ValueError: it cannot run there.
    """
    for problem in attention_problems(asked, cuda, half):
        raise ValueError(problem)
    backend = cast(Backend, asked)
    if asked == "auto":
        backend = "varlen" if packed and cuda and half else "sdpa"
    log.info("attention: %s for %s sequences", backend, "packed" if packed else "padded")
    return backend


def _padded(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Padding sees only padding, so that no row of the softmax is empty."""
    allowed = None if mask is None else (mask[:, :, None] == mask[:, None, :])[:, None]
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed).transpose(1, 2)


def _by_length(q: Tensor, k: Tensor, v: Tensor, layout: Packed) -> Tensor:
    """Neighbouring sequences of equal length are computed together, so nothing is padded."""
    runs = zip(*map(layout.stacked, (q, k, v)), strict=True)
    return torch.cat([_padded(q, k, v, None).flatten(0, 1) for q, k, v in runs])


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
