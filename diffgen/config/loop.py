"""The training loop. Everything that passes is counted in images seen."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from diffgen.config.base import Section
from diffgen.config.route import RouteConfig


class LoopConfig(Section):
    """A training loop. Everything that passes is counted in images seen."""

    images: int = Field(default=69_120, ge=1)
    """Length of the training [images seen]."""
    batch_size: int = Field(default=16, ge=1)
    """Images an optimiser step sees, over all processes and accumulation [images]."""
    accumulation: int = Field(default=1, ge=1)
    """Pieces a process computes its share of a batch in, to save memory [count]."""
    clip_norm: float = Field(default=0.2, ge=0)
    """Largest norm of the gradient; 0: unclipped."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the forward pass; weights stay fp32. bf16 needs a GPU."""
    workers: int = Field(default=0, ge=0)
    """Processes that load data beside each training process [count]."""
    log_images: int = Field(default=1_280, ge=1)
    """Write a line of metrics.jsonl this often [images seen]."""
    sample_images: int = Field(default=20_480, ge=0)
    """Draw a preview this often; 0: never [images seen]."""
    checkpoint_images: int = Field(default=7_680, ge=1)
    """Save a checkpoint this often; a model's averaged weights are exported then too [images
    seen]."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """Newest checkpoints kept [count]."""
    milestone_images: int = Field(default=0, ge=0)
    """Save a checkpoint this often that is kept for good; 0: none is [images seen]."""

    def problems(self) -> Iterator[str]:
        """Yield pieces that a batch cannot be cut into."""
        if self.batch_size % self.accumulation:
            yield (
                f"train.accumulation: {self.accumulation} does not divide "
                f"train.batch_size {self.batch_size}"
            )


class ModelLoopConfig(LoopConfig):
    """The training loop. Everything that passes is counted in images seen."""

    mixed: Literal["packed", "padded"] = "packed"
    """How images of mixed sizes lie in a batch: one sequence without padding, or each padded to
    the longest; the numbers are the same."""
    token_budget: int | None = Field(default=None, ge=1)
    """Tokens a process computes at once; its share of a batch is cut into pieces that keep to it.
    none: no bound."""
    trainable: list[str] = Field(default=[])
    """Parameters that are trained, as patterns of their names with * for anything; none given: all.
    The others stay as --init brings them. configs/fitv2-hr.yaml has FiTv2's for larger sizes."""
    compile: bool = False
    """Compile every block (torch.compile); the first step then takes a minute or more."""
    gradient_checkpointing: bool = False
    """Compute every block a second time for its gradients instead of keeping what lies in it:
    less memory, about a third more arithmetic."""
    sharding: Literal["none", "full"] = "none"
    """none: every process holds the whole model (DDP); full: each holds a share of weights,
    gradients, averages and optimiser state (fully_shard), for models too large for one GPU."""
    route: RouteConfig | None = None
    """Let random tokens skip the blocks in the middle while training (TREAD); none: none do."""
