"""Token routing in training: some of an image's tokens skip some of the blocks.

TREAD (Krause et al. 2025, "TREAD: Token Routing for Efficient Architecture-agnostic Diffusion
Training"): randomly selected tokens go from an early block's input to a later one's, unchanged,
past those between, which compute on the rest alone. None is dropped, so all are in the loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diffgen.seeding import stream_generator
from diffgen.transfer import to_device


@dataclass(frozen=True)
class Route:
    """Which tokens of a batch the blocks ``first`` to ``last`` - 1 compute on."""

    kept: Tensor
    """(B, K) int64: of each image the places of those tokens, ascending; the others skip."""
    first: int
    """First block they skip, from 0."""
    last: int
    """Block before which they come back."""

    def to(self, device: torch.device) -> "Route":
        """The same on a device."""
        return replace(self, kept=to_device(self.kept, device))

    def take(self, x: Tensor) -> Tensor:
        """See the function ``take``."""
        return take(x, self.kept)


def kept_count(tokens: int, share: float) -> int:
    """Tokens left of ``tokens`` when ``share`` of them, in (0, 1), skip; 1 or more."""
    return max(1, tokens - round(share * tokens))


def draw_route(
    seed: int, numbers: Sequence[int], tokens: int, share: float, first: int, last: int
) -> Route:
    """The route of the samples ``numbers``, images of ``tokens`` tokens each, on the CPU.

    Which tokens of a sample skip is a function of (seed, number) alone; each is as likely.
    """
    count = kept_count(tokens, share)
    kept = [
        torch.randperm(tokens, generator=stream_generator(seed, "route", n))[:count].sort().values
        for n in numbers
    ]
    return Route(torch.stack(kept), first, last)


def take(x: Tensor, kept: Tensor) -> Tensor:
    """The ``kept`` (B, K) of the tokens ``x`` (B, N, ...), or (1, N, ...) the same for all images:
    (B, K, ...). What is the same for all tokens, (B, 1, ...), stays as it is."""
    if x.shape[1] == 1:
        return x
    x = x.expand(len(kept), *x.shape[1:])
    return x.gather(1, _index(kept, x))


def put_back(x: Tensor, kept: Tensor, taken: Tensor) -> Tensor:
    """``x`` (B, N, ...) with ``taken`` (B, K, ...) at the places ``kept`` (B, K)."""
    return x.scatter(1, _index(kept, x), taken)


def _index(kept: Tensor, x: Tensor) -> Tensor:
    """``kept`` as ``gather`` wants it: (B, K, ...)."""
    return kept.reshape(*kept.shape, *[1] * (x.ndim - 2)).expand(*kept.shape, *x.shape[2:])
