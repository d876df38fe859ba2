"""Attention over sequences of tokens, and the two ways a batch of them can lie in memory."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Padded:
    """(B, N, ...) tokens; ``mask`` (B, N) bool marks the real ones, None: all are real."""

    mask: Tensor | None = None

    def spread(self, per_sample: Tensor) -> Tensor:
        """(B, ...) -> broadcastable against the tokens' (B, N, ...)."""
        return per_sample[:, None]

    def full_size(self, coords: Tensor) -> Tensor:
        """(B, 2): the smallest grid that holds every real token's coordinates."""
        reach = coords + 1
        if self.mask is not None:
            reach = reach * self.mask[..., None]
        return reach.amax(dim=1)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, N, heads, D) each -> (B, N, heads, D). Padding sees only padding (no NaN rows)."""
        allowed = None
        if self.mask is not None:
            allowed = (self.mask[:, :, None] == self.mask[:, None, :])[:, None]
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed).transpose(1, 2)


@dataclass(frozen=True)
class Packed:
    """(sum N, ...) tokens of B sequences one behind another; ``lengths`` (B,) int64."""

    lengths: Tensor

    def spread(self, per_sample: Tensor) -> Tensor:
        """(B, ...) -> (sum N, ...)."""
        return per_sample.repeat_interleave(self.lengths, dim=0)

    def full_size(self, coords: Tensor) -> Tensor:
        """(B, 2): the smallest grid that holds every token's coordinates."""
        pieces = coords.split(self.lengths.tolist())
        return torch.stack([piece.amax(dim=0) + 1 for piece in pieces])

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(sum N, heads, D) each -> (sum N, heads, D); a sequence sees only itself."""
        if q.is_cuda and q.dtype in (torch.bfloat16, torch.float16):
            return self._attend_varlen(q, k, v)
        return self._attend_by_length(q, k, v)

    def _attend_varlen(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        from torch.nn.attention.varlen import varlen_attn

        ends = F.pad(self.lengths.cumsum(0), (1, 0)).to(torch.int32)
        longest = int(self.lengths.max())
        out = varlen_attn(q, k, v, ends, ends, longest, longest)
        assert isinstance(out, Tensor)  # a tuple only when asked for auxiliary outputs
        return out

    def _attend_by_length(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Sequences of equal length are computed together, so nothing is padded."""
        starts = self.lengths.cumsum(0) - self.lengths
        out = torch.empty_like(q)
        for length in self.lengths.unique().tolist():
            first = starts[self.lengths == length]
            rows = first[:, None] + torch.arange(length, device=q.device)  # (sequences, length)
            out[rows] = Padded().attend(q[rows], k[rows], v[rows])
        return out


Layout = Padded | Packed
