"""Rows of images and of their conditions through one frozen DiT, joined by adapters."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgen.joint.adapter import JointAdapter
from diffgen.joint.attention import Rows
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
        image, *others = self._branches(condition)
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
        qkv = attention.qkv(x)
        q, k, v = self._of_conditions("qkv", number, qkv, x).chunk(3, dim=-1)
        mixed = attention.heads(q, k, v, layout, rotation, logit_scale)
        out = self._of_conditions("out", number, attention.proj(mixed), mixed)
        out_image, *outs = self._branches(out)
        image, *others = self._rows(x, qkv, rotation, logit_scale)
        for i, (adapter, strength) in enumerate(zip(self.adapters, self.strengths, strict=True)):
            joint = adapter.block(number).joint
            if joint is None:
                continue
            if isinstance(strength, Tensor):
                strength = strength.to(x)[:, None, None]
            for_image, for_condition = joint(attention, image, others[i], layout)
            out_image = out_image + strength * for_image
            outs[i] = outs[i] + strength * for_condition
        return torch.cat([out_image, *outs])

    def _branches(self, z: Tensor) -> tuple[Tensor, ...]:
        """Rows of the images, and of each condition."""
        return z.chunk(1 + len(self.adapters))

    def _rows(
        self, x: Tensor, qkv: Tensor, rotation: Rotation | None, logit_scale: Tensor | None
    ) -> list[Rows]:
        """Of every branch."""
        nothing = [None] * (1 + len(self.adapters))
        turned = nothing if rotation is None else zip(*map(self._branches, rotation), strict=True)
        scaled = nothing if logit_scale is None else self._branches(logit_scale)
        every = zip(self._branches(x), self._branches(qkv), turned, scaled, strict=True)
        return [Rows(*one) for one in every]

    def _of_conditions(self, what: str, number: int, base: Tensor, x: Tensor) -> Tensor:
        """``base`` with the own LoRA ``what`` of ``x`` added to the rows of each condition."""
        image, *others = self._branches(base)
        seen = self._branches(x)[1:]
        for i, adapter in enumerate(self.adapters):
            own = adapter.block(number).own
            if own is not None:
                onto = own.qkv if what == "qkv" else own.out.onto
                others[i] = onto(others[i], seen[i])
        return torch.cat([image, *others])
