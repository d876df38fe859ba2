"""What may work beside a model's own weights in a forward pass, without changing them."""

from typing import Protocol

from torch import Tensor

from diffgen.models.attention import Layout
from diffgen.models.blocks import Attention, Rotation


class Adapter(Protocol):
    """Given to ``DiT.forward``, which leaves the two things below to it."""

    def condition(self, condition: Tensor) -> Tensor:
        """What modulates every block, (B, hidden size), from what would without it."""

    def attend(
        self,
        number: int,
        attention: Attention,
        x: Tensor,
        layout: Layout,
        rotation: Rotation | None,
        logit_scale: Tensor | None,
    ) -> Tensor:
        """What stands in for ``attention(x, layout, rotation, logit_scale)`` in a block.

        ``number``: of the block, from 0.
        """
