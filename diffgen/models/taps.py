"""Reading a model's features on the way: what its blocks hand on, and its embedding of the time."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from torch import Tensor, nn

from diffgen.models.dit import DiT


@dataclass
class Taps:
    """What the last forward pass left."""

    features: dict[int, Tensor] = field(default_factory=dict)
    """By block: (B, N, width) tokens after it."""
    attended: dict[int, Tensor] = field(default_factory=dict)
    """By block: (B, N, width), what its attention found, before the gate."""
    time: Tensor | None = None
    """(B, width) the embedding of the time alone."""


@contextmanager
def tapped(model: DiT, blocks: Sequence[int], attentions: Sequence[int] = ()) -> Iterator[Taps]:
    """Fill the taps at every forward pass while it lasts; gradients flow through them.

    ``blocks``: those whose tokens are kept; ``attentions``: those of whose attention is.
    Where a route leads past a block, its tokens are those that do not skip it.

    Raises:
        ValueError: the model has no such block, or it is compiled and its attention is asked for,
            which nothing outside sees.
    """
    taps = Taps()

    def keep(kept: dict[int, Tensor], number: int) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, tokens: Tensor) -> None:
            kept[number] = tokens

        return hook

    def keep_time(embedded: Tensor) -> None:
        taps.time = embedded

    for number in (*blocks, *attentions):
        if not 0 <= number < len(model.blocks):
            raise ValueError(f"block {number} is not one of the model's {len(model.blocks)}")
    for number in attentions:
        if model.blocks[number]._compiled_call_impl is not None:
            raise ValueError(f"the attention of block {number} cannot be read: it is compiled")
    attention = [cast(nn.Module, model.blocks[number].attn) for number in attentions]
    hooks = [
        *(model.blocks[n].register_forward_hook(keep(taps.features, n)) for n in blocks),
        *(
            module.register_forward_hook(keep(taps.attended, n))
            for n, module in zip(attentions, attention, strict=True)
        ),
    ]
    hooks.append(model.t_embedder.register_forward_hook(lambda _, __, out: keep_time(out)))
    try:
        yield taps
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def frozen(model: DiT) -> Iterator[None]:
    """Without gradients of the weights while it lasts: a pass back to the input keeps less."""
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    for weight in model.parameters():
        weight.requires_grad_(False)
    try:
        yield
    finally:  # by name: offloading, layer by layer, puts others in their place
        for name, weight in model.named_parameters():
            weight.requires_grad_(name in trained)
