"""What a DiT computes, counted from its sizes.

A MAC is one multiplication with its addition, two FLOPs. Published "GFLOPs" of DiT, SiT and FiT
are MACs: DiT-XL/2 at 256 pixels has 118.6 G of them (Peebles and Xie 2023, table 4), 237 GFLOP.
Only matrix products count, as there: no norms, activations, softmax or embedding look-ups.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TIME_FREQUENCIES = 256
"""Sinusoids of the time, and of each of the four numbers of a crop."""


@dataclass(frozen=True)
class Skipped:
    """Blocks that not all tokens go through (TREAD, see ``diffgen.models.route``)."""

    tokens: int
    """Of an image those that do."""
    first: int
    """First such block, from 0."""
    last: int
    """Block before which the others come back."""


def forward_macs(
    config: Mapping[str, Any], size: tuple[int, int], skipped: Skipped | None = None
) -> int:
    """MACs of one forward pass for one image.

    Args:
        config: of a DiT, as ``model.config`` has it.
        size: height and width as the model sees them [pixels or latent pixels]; multiples of the
            patch.
        skipped: of a training with routing; None: every token goes through every block.
    """
    width, depth, patch = config["hidden_size"], config["depth"], config["patch_size"]
    tokens = (size[0] // patch) * (size[1] // patch)
    routed = range(skipped.first, skipped.last) if skipped else range(0)
    total = (depth - len(routed)) * block_macs(config, tokens)
    if skipped is not None:
        total += len(routed) * block_macs(config, skipped.tokens)
    channels = config["in_channels"]
    outputs = config.get("out_channels") or channels
    total += tokens * (channels + outputs) * patch**2 * width  # into tokens and out of them
    total += 2 * width**2  # modulation of the last layer
    total += (TIME_FREQUENCIES + width) * width
    if config.get("adaln_rank"):
        total += 6 * width**2  # the branch that all blocks share
    if config.get("micro", "none") != "none":
        total += (4 * TIME_FREQUENCIES + width) * width
    return int(total)


def block_macs(config: Mapping[str, Any], tokens: int) -> int:
    """MACs of one block on ``tokens`` tokens of one image: N (4 d^2 + m + 2 N d) and modulation.

    m is 2 d h of an MLP of hidden width h, 3 d (2 h / 3) of a SwiGLU. Attention counts every
    pair of tokens, q k^T and its product with v.
    """
    width, rank = config["hidden_size"], config.get("adaln_rank")
    hidden = int(config["mlp_ratio"] * width)
    swiglu = config["mlp"] == "swiglu"
    feed_forward = 3 * width * (2 * hidden // 3) if swiglu else 2 * width * hidden
    modulation = 7 * width * rank if rank else 6 * width**2
    return int(tokens * (4 * width**2 + feed_forward + 2 * tokens * width) + modulation)


def training_flops(macs: float) -> float:
    """FLOPs of a training step for one image of ``macs`` forward: 2 a MAC, 3 passes' worth.

    The backward pass computes twice what the forward does. What gradient checkpointing computes
    again is not counted: it is no progress.
    """
    return 6 * macs
