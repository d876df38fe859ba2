"""The adapter: everything that is trained for one condition, beside a frozen DiT (UniCon)."""

from typing import Any, cast

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from diffgen.config.joint import Projection
from diffgen.joint.attention import AttentionLoRA, JointAttention, JointBlock
from diffgen.models.dit import DiT

MOST = 0.15
"""Share of the model's parameters that an adapter has at most by default."""


class JointAdapter(ModelMixin, ConfigMixin):
    """Joins the images of a DiT with pictures of their condition, drawn by the same DiT.

    Args:
        condition: name of the condition.
        channels, binary: of its maps, see ``lacon.conditions.Condition``.
        hidden_size, depth: of the model.
        rank: of the LoRAs in the joint attention.
        condition_rank: of the LoRA in the self-attention of the condition's rows; 0: none.
        every: joint attention in every so many blocks, the last one among them.
        projection, projection_rank: see JointAttention.
        backbone: digest of the weights it was trained on.

    Raises:
        ValueError: numbers out of range.
    """

    @register_to_config
    def __init__(
        self,
        condition: str,
        channels: int,
        binary: bool,
        hidden_size: int,
        depth: int,
        rank: int = 4,
        condition_rank: int = 4,
        every: int = 1,
        projection: Projection = "fused",
        projection_rank: int | None = None,
        backbone: str = "",
    ) -> None:
        super().__init__()
        if projection not in ("shared", "fused"):
            raise ValueError(f"projection {projection!r} is not one of shared, fused")
        for name, value, low in (
            *(("rank", rank, 1), ("condition_rank", condition_rank, 0), ("every", every, 1)),
            ("projection_rank", 1 if projection_rank is None else projection_rank, 1),
        ):
            if value < low:
                raise ValueError(f"{name} must be {low} or more, not {value}")
        joined = range(depth - 1, -1, -every)
        self.blocks = nn.ModuleList(
            JointBlock(
                JointAttention(hidden_size, rank, projection, projection_rank)
                if number in joined
                else None,
                AttentionLoRA(hidden_size, condition_rank) if condition_rank else None,
            )
            for number in range(depth)
        )
        self.modality = nn.Parameter(torch.zeros(hidden_size))

    def block(self, number: int) -> JointBlock:
        """What the model's block ``number`` gets."""
        return cast(JointBlock, self.blocks[number])

    @classmethod
    def of(
        cls,
        model: DiT,
        condition: str,
        channels: int,
        binary: bool,
        *,
        rank: int | None = None,
        condition_rank: int | None = None,
        projection_rank: int | None = None,
        **options: Any,
    ) -> "JointAdapter":
        """One for ``model``, fresh; ``options`` as in the class.

        ``rank`` None: 1/32 of the model's width. ``condition_rank`` None: as ``rank``.
        ``projection_rank`` None: the greatest up to half the width with which the adapter keeps to
        15 % of the model's parameters, and 1 if none does; 0: in full.
        """
        width, depth = model.config.hidden_size, len(model.blocks)
        rank = max(1, width // 32) if rank is None else rank
        own = rank if condition_rank is None else condition_rank

        def made(projection_rank: int | None) -> "JointAdapter":
            ranks = {"rank": rank, "condition_rank": own, "projection_rank": projection_rank}
            return cls(condition, channels, binary, width, depth, **ranks, **options)

        if projection_rank is None:
            with torch.device("meta"):
                one, two = (made(tried).num_parameters() for tried in (1, 2))
            room = int(MOST * sum(parameter.numel() for parameter in model.parameters())) - one
            projection_rank = max(1, min(width // 2, 1 + room // (two - one)))
        return made(projection_rank or None)
