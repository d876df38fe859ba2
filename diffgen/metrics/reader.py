"""The reader: a small network that looks at a picture of the demo world and says what is there.

It judges generated shapes and digits: class accuracy from its logits, the Fréchet distance from
its 64 features, mask and depth from its decoder. It shares no weight with any model it judges.
``reader.json`` beside the weights states how well it reads held-out pictures of each size.
"""

from dataclasses import dataclass
from importlib import resources

import torch
import torch.nn.functional as F
from safetensors.torch import load
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg
from torch import Tensor, nn

from diffgen.data.digits import CLASS_NAMES as DIGIT_NAMES
from diffgen.data.shapes_geometry import CLASS_NAMES as SHAPE_NAMES

READER_CLASSES = SHAPE_NAMES + DIGIT_NAMES
"""The 18 classes of the logits: eight shapes, then the digits "0" to "9"."""

NUM_FEATURES = 64
MIN_SIDE = 16
MIN_DEPTH, MAX_DEPTH = 1.0, 10.0

_WIDTHS = (24, 48, 80, NUM_FEATURES)
_DECODER_WIDTH = 24


@dataclass(frozen=True)
class ReaderOutput:
    """What the reader sees, float32.

    features: (B, 64), spatial means of the last block's rectified channels; the class logits are
        a linear map of them.
    logits: (B, 18), over ``READER_CLASSES``.
    mask: (B, 1, H, W), logits of the front object's coverage; meaningless for digits.
    depth: (B, 1, H, W) in [1, 10]; meaningless for digits.
    """

    features: Tensor
    logits: Tensor
    mask: Tensor
    depth: Tensor


class Reader(nn.Module):
    """Residual network (strides 2, 4, 8, 16) with a class head and a small top-down decoder."""

    def __init__(self) -> None:
        super().__init__()
        blocks = tuple(
            ByoBlockCfg(type="basic", d=depth, c=width, s=stride, gs=0)
            for depth, width, stride in zip((1, 2, 2, 2), _WIDTHS, (1, 2, 2, 2), strict=True)
        )
        self.trunk = ByobNet(
            ByoModelCfg(blocks=blocks, stem_chs=_WIDTHS[0], stem_type="3x3", stem_pool=""),
            num_classes=0,
            global_pool="",
        )
        self.classify = nn.Linear(NUM_FEATURES, len(READER_CLASSES))
        self.lateral = nn.ModuleList(nn.Conv2d(width, _DECODER_WIDTH, 1) for width in _WIDTHS)
        self.refine = nn.Conv2d(_DECODER_WIDTH, _DECODER_WIDTH, 3, padding=1)
        self.dense = nn.Conv2d(_DECODER_WIDTH, 2, 3, padding=1)

    def forward(self, images: Tensor) -> ReaderOutput:
        """Read ``images`` (B, 3, H, W) in [-1, 1], H and W at least 16.

        Raises ValueError for any other shape.
        """
        if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < MIN_SIDE:
            raise ValueError(
                f"images have shape {tuple(images.shape)}; the reader takes (B, 3, H, W) with H "
                f"and W at least {MIN_SIDE}"
            )
        levels = []
        x = self.trunk.stem(images)
        for stage in self.trunk.stages:
            x = stage(x)
            levels.append(x)
        features = levels[-1].mean((2, 3))
        mask, depth = self._decode(levels, images.shape[2:]).chunk(2, dim=1)
        return ReaderOutput(
            features=features,
            logits=self.classify(features),
            mask=mask,
            depth=MIN_DEPTH + (MAX_DEPTH - MIN_DEPTH) * torch.sigmoid(depth),
        )

    def _decode(self, levels: list[Tensor], size: torch.Size) -> Tensor:
        x = self.lateral[-1](levels[-1])
        for lateral, level in zip(self.lateral[-2::-1], levels[-2::-1], strict=True):
            x = F.interpolate(x, level.shape[2:], mode="bilinear", align_corners=False)
            x = F.relu(x + lateral(level))
        x = F.relu(self.refine(x))
        return F.interpolate(self.dense(x), size, mode="bilinear", align_corners=False)


def load_reader(device: str | torch.device = "cpu") -> Reader:
    """The shipped reader in float32, in evaluation mode, its weights frozen."""
    stored = load(resources.files("diffgen.metrics").joinpath("reader.safetensors").read_bytes())
    reader = Reader()
    reader.load_state_dict(
        {name: x.float() if x.is_floating_point() else x for name, x in stored.items()}
    )
    return reader.requires_grad_(False).eval().to(device)
