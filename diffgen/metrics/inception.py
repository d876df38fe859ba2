"""Inception of FID: torch-fidelity's network with the weights of TensorFlow's 2015 graph."""

from io import BytesIO
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import (
    URL_INCEPTION_V3,
    FeatureExtractorInceptionV3,
)

from diffgen.config.resizes import Resize
from diffgen.errors import UserError
from diffgen.metrics.extractor import Extractor
from diffgen.metrics.resizes import resize as resized
from diffgen.metrics.weights import digest, mismatch, read_weights

SIDE = 299
NUM_FEATURES = 2048
NUM_CLASSES = 1008  # of the 2015 graph
SPATIAL_CHANNELS = 7
SPATIAL = 17 * 17 * SPATIAL_CHANNELS


def inception(
    weights: Path | None, device: torch.device, resize: Resize = "tf1_bilinear"
) -> Extractor:
    """The 2048 pooled features FID is defined on, and from the same pass the layers of two others.

    ``spatial`` is the layer of guided-diffusion's sFID: the first 7 of the 192 channels of
    mixed_6/conv (here Mixed_6d.branch1x1, normalised and rectified), 17 x 17, in the order (row,
    column, channel). ``logits`` are the 1008 without bias, which the Inception score takes.

    Args:
        weights: file in torch-fidelity's layout; None: its own, downloaded once.
        device: where to compute.
        resize: how pictures are brought to 299 x 299; the graph itself does tf1_bilinear.

    Raises:
        UserError: no connection to download by, or other weights.
    """
    path = weights or downloaded()
    net = load_network(path).to(device)
    # Its parts in the order of its forward, which takes 8-bit pictures alone and resizes them.
    trunk = nn.Sequential(*list(net.children())[:-1], nn.Flatten())
    branches: list[Tensor] = []
    net.Mixed_6d.branch1x1.register_forward_hook(lambda _, __, output: branches.append(output))

    def network(images: Tensor) -> dict[str, Tensor]:
        branches.clear()
        features = trunk((resized(images, (SIDE, SIDE), resize) - 128) / 128)
        return {
            "features": features,
            "spatial": spatial_features(branches.pop()),
            "logits": features @ net.fc.weight.T,
        }

    return Extractor(
        name="inception",
        num_features=NUM_FEATURES,
        weights_sha256=digest(path),
        preprocessing=described(resize),
        network=network,
        device=device,
        layers={"spatial": SPATIAL, "logits": NUM_CLASSES},
    )


def described(resize: Resize) -> str:
    """The preprocessing in words."""
    return f"{resize} to {SIDE}x{SIDE}, then (x - 128) / 128"


def spatial_features(branch: Tensor) -> Tensor:
    """mixed_6/conv (B, 192, 17, 17) -> (B, 2023): 7 channels, those of a place together."""
    return branch[:, :SPATIAL_CHANNELS].permute(0, 2, 3, 1).flatten(1)


def load_network(path: Path) -> FeatureExtractorInceptionV3:
    """torch-fidelity's network with the weights of ``path``, frozen, in evaluation mode.

    Raises:
        UserError: other weights.
    """
    buffer = BytesIO()  # torch-fidelity unpickles what it is given, so it is given tensors alone
    torch.save(read_weights(path), buffer)
    buffer.seek(0)
    try:
        return FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], buffer)
    except RuntimeError as error:
        raise mismatch(path, "inception", error) from None


def downloaded() -> Path:
    """torch-fidelity's weights in torch's cache, where it keeps them itself.

    Raises:
        UserError: they are not there and cannot be downloaded.
    """
    name = URL_INCEPTION_V3.rpartition("/")[2]
    target = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not target.exists():
        start = name.rpartition("-")[2].removesuffix(".pth")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(URL_INCEPTION_V3, str(target), start)
        except (URLError, OSError, RuntimeError) as error:
            raise UserError(
                f"extractor: inception's weights could not be downloaded ({error}); fetch "
                f"{URL_INCEPTION_V3} elsewhere, and give it by --weights or put it at {target}"
            ) from None
    return target
