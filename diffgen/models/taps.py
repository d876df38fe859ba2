"""Reading a model's features on the way: what its blocks hand on, and its embedding of the time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor

from diffgen.models.dit import DiT


@dataclass
class Taps:
    """What the last forward pass left."""

    features: dict[int, Tensor] = field(default_factory=dict)
    """By block: (B, N, width) tokens after it."""
    time: Tensor | None = None
    """(B, width) the embedding of the time alone."""


@contextmanager
def tapped(model: DiT, blocks: Sequence[int]) -> Iterator[Taps]:
    """Fill the taps at every forward pass while it lasts; gradients flow through them.

    Raises:
        ValueError: the model has no such block.
    """
    taps = Taps()

    def keep(number: int, tokens: Tensor) -> None:
        taps.features[number] = tokens

    def keep_time(embedded: Tensor) -> None:
        taps.time = embedded

    for number in blocks:
        if not 0 <= number < len(model.blocks):
            raise ValueError(f"block {number} is not one of the model's {len(model.blocks)}")
    hooks = [
        model.blocks[number].register_forward_hook(lambda _, __, out, n=number: keep(n, out))
        for number in blocks
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
