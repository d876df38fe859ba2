"""The way of a batch's tokens through the blocks of a DiT."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

from torch import Tensor, nn

from diffgen.models.adapter import Adapter
from diffgen.models.attention import Layout, Packed, Padded
from diffgen.models.blocks import Rotation
from diffgen.models.route import Route, put_back

Runs: TypeAlias = Callable[..., Tensor]
"""(a block, what it is called with) -> its result; how it is run."""


@dataclass(frozen=True)
class Given:
    """What every block gets besides the tokens, see ``Block.forward``."""

    condition: Tensor
    layout: Layout
    rotation: Rotation | None
    logit_scale: Tensor | None
    shared: Tensor | None

    def taken(self, route: Route) -> "Given":
        """The same for the tokens that ``route`` keeps.

        Raises:
            ValueError: the images are padded or packed, that is of mixed sizes.
        """
        if not isinstance(self.layout, Padded) or self.layout.mask is not None:
            raise ValueError("route: only for images of one size, neither padded nor packed")
        rotation, scale = self.rotation, self.logit_scale
        return replace(
            self,
            rotation=rotation and (route.take(rotation[0]), route.take(rotation[1])),
            logit_scale=None if scale is None else route.take(scale),
        )


def through_blocks(
    blocks: nn.ModuleList,
    x: Tensor,
    given: Given,
    adapter: Adapter | None = None,
    route: Route | None = None,
    run: Runs | None = None,
) -> Tensor:
    """Tokens ``x`` (..., N, width) after all ``blocks``.

    ``run``: how a block is run; None: called.

    Raises:
        ValueError: ``route`` leads past blocks that are not there, or batches of mixed sizes; the
            blocks are compiled and the batch is packed.
    """
    if isinstance(given.layout, Packed) and any(b._compiled_call_impl is not None for b in blocks):
        raise ValueError("a compiled model takes no packed batches; pad them")

    def through(x: Tensor, given: Given, first: int, last: int) -> Tensor:
        rest = (given.condition, given.layout, given.rotation, given.logit_scale, given.shared)
        for number in range(first, last):
            attention = None if adapter is None else partial(adapter.attend, number)
            block = blocks[number]
            x = block(x, *rest, attention) if run is None else run(block, x, *rest, attention)
        return x

    depth = len(blocks)
    if route is None:
        return through(x, given, 0, depth)
    if not 0 <= route.first < route.last <= depth:
        raise ValueError(f"route: blocks {route.first} to {route.last} of a model of {depth}")
    few = given.taken(route)
    x = through(x, given, 0, route.first)
    taken = through(route.take(x), few, route.first, route.last)
    return through(put_back(x, route.kept, taken), given, route.last, depth)
