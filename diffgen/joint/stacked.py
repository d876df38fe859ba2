"""Rows of images and of their conditions through one frozen DiT, joined by adapters."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgen.joint.adapter import JointAdapter
from diffgen.models.attention import Layout, Padded
from diffgen.models.blocks import Attention, Rotation


@dataclass(frozen=True)
class Stacked:
    """A ``models.adapter.Adapter`` for stacked rows: B images, then B conditions of each adapter.

    Rows at the same place belong together. What the branches of an image find in each other is
    added to the frozen model's own attention; several conditions add up.
    """

    adapters: Sequence[JointAdapter]
    strengths: Sequence[float | Tensor]
    """One of each adapter: what its joint attention is multiplied by, a number or (B,); 0 switches
    it off, and leaves of the images what the frozen model makes of them."""

    def condition(self, condition: Tensor) -> Tensor:
        """With the modality of each condition added to its rows; (rows, hidden size)."""
        image, *others = condition.chunk(1 + len(self.adapters))
        told = (c + a.modality for c, a in zip(others, self.adapters, strict=True))
        return torch.cat([image, *told])

    def attend(
        self,
        number: int,
        attention: Attention,
        x: Tensor,
        layout: Layout,
        rotation: Rotation | None,
        logit_scale: Tensor | None,
    ) -> Tensor:
        """Self-attention, the conditions' with their LoRA, plus the joint attentions.

        Raises:
            ValueError: the tokens are padded or packed, that is of images of mixed sizes.
        """
        if not isinstance(layout, Padded) or layout.mask is not None:
            raise ValueError("joint generation takes images of one size")
        qkv, parts = attention.qkv(x), 1 + len(self.adapters)
        q, k, v = self._of_conditions("qkv", number, x, qkv).chunk(3, dim=-1)
        mixed = attention.heads(q, k, v, layout, rotation, logit_scale)
        out = self._of_conditions("out", number, mixed, attention.proj(mixed))
        image, *others = out.chunk(parts)
        xs, qkvs, pair = x.chunk(parts), qkv.chunk(parts), 2 * len(image)
        if rotation is not None:
            rotation = rotation[0][:pair], rotation[1][:pair]
        if logit_scale is not None:
            logit_scale = logit_scale[:pair]
        for i, (adapter, strength) in enumerate(zip(self.adapters, self.strengths, strict=True)):
            joint = adapter.block(number).joint
            if joint is None:
                continue
            both = torch.cat([xs[0], xs[i + 1]]), torch.cat([qkvs[0], qkvs[i + 1]])
            added = joint(attention, *both, layout, rotation, logit_scale)
            if isinstance(strength, Tensor):
                strength = strength.to(added).repeat(2)[:, None, None]
            for_image, for_condition = (strength * added).chunk(2)
            image, others[i] = image + for_image, others[i] + for_condition
        return torch.cat([image, *others])

    def _of_conditions(self, what: str, number: int, x: Tensor, out: Tensor) -> Tensor:
        """``out`` with the own LoRA ``what`` of ``x`` added to the rows of each condition."""
        image, *others = out.chunk(1 + len(self.adapters))
        seen = x.chunk(1 + len(self.adapters))[1:]
        for i, adapter in enumerate(self.adapters):
            own = adapter.block(number).own
            if own is not None:
                others[i] = others[i] + (own.qkv(seen[i]) if what == "qkv" else own.out(seen[i]))
        return torch.cat([image, *others])
