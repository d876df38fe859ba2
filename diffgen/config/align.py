"""Representation alignment (REPA, Yu et al. 2024): which block learns from which encoder."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from diffgen.config.base import Section


class AlignConfig(Section):
    """A frozen encoder whose patch features a block of the model learns to tell (REPA)."""

    encoder: str
    """timm model that looks at the clean images, for example vit_base_patch14_dinov2. Needed;
    without any align option nothing is aligned."""
    weights: Path | None = None
    """Its weights' file; none: downloaded by name."""
    image_size: int | None = Field(default=None, ge=16)
    """Side of the square it sees, to which images are stretched [pixels]; none: its own."""
    block: int | None = Field(default=None, ge=0)
    """Block whose tokens are aligned, counted from 0; none: 2/7 of the depth, REPA's 8th block of
    28."""
    weight: float = Field(default=0.5, gt=0)
    """Factor of the alignment in the loss; REPA's lambda."""
    hidden: int = Field(default=2048, ge=1)
    """Width of the projector between the model's tokens and the encoder's features [channels]."""

    def aligned_block(self, depth: int) -> int:
        """The block of a model of ``depth`` blocks.

        REPA states 8 of 28 blocks, which is 7 counted from 0; the same share of other depths,
        rounded up, is inferred.
        """
        return -(-8 * depth // 28) - 1 if self.block is None else self.block

    def problems(self) -> Iterator[str]:
        """Yield weights that are not there."""
        if self.weights is not None and not self.weights.is_file():
            yield f"align.weights: {self.weights} is not a file"

    def misfits(
        self,
        *,
        depth: int,
        routed: tuple[int, int] | None = None,
        mixed_sizes: bool = False,
        stored_latents: bool = False,
        sharded: bool = False,
    ) -> Iterator[str]:
        """Yield what of the rest of a training it does not go with.

        Args:
            depth: blocks of the model.
            routed: tokens that leave before block ``routed[0]`` come back before ``routed[1]``.
            mixed_sizes: batches hold images of several sizes.
            stored_latents: the data are latents, without their images.
            sharded: each process holds a share of the weights.
        """
        block = self.aligned_block(depth)
        if block >= depth:
            yield f"align.block: {block}, but the model's {depth} blocks are 0 to {depth - 1}"
        elif routed is not None and routed[0] <= block < routed[1]:
            yield (
                f"align.block: {block} lacks the tokens that train.route takes past blocks "
                f"{routed[0]} to {routed[1] - 1}; take a block that sees all"
            )
        if mixed_sizes:
            yield "align: needs images of one size; take data.crop center or random, or no align"
        if stored_latents:
            yield "align: the encoder sees images, and data.kind latents has none; take no align"
        if sharded:
            yield "align: cannot be used with train.sharding full; take none"
