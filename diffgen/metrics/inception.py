"""Inception of FID: torch-fidelity's network with the weights of TensorFlow's 2015 graph."""

from io import BytesIO
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import (
    URL_INCEPTION_V3,
    FeatureExtractorInceptionV3,
)

from diffgen.errors import UserError
from diffgen.metrics.extractor import Extractor
from diffgen.metrics.weights import digest, mismatch, read_weights

NUM_FEATURES = 2048
PREPROCESSING = "bilinear to 299x299 as TensorFlow 1 resizes, then (x - 128) / 128"


def inception(weights: Path | None, device: torch.device) -> Extractor:
    """The 2048 pooled features FID is defined on.

    Args:
        weights: file in torch-fidelity's layout; None: its own, downloaded once.
        device: where to compute.

    Raises:
        UserError: no connection to download by, or other weights.
    """
    path = weights or downloaded()
    buffer = BytesIO()  # torch-fidelity unpickles what it is given, so it is given tensors alone
    torch.save(read_weights(path), buffer)
    buffer.seek(0)
    try:
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], buffer).to(device)
    except RuntimeError as error:
        raise mismatch(path, "inception", error) from None

    def features(images: Tensor) -> Tensor:
        return network(images)[0]

    return Extractor(
        name="inception",
        num_features=NUM_FEATURES,
        weights_sha256=digest(path),
        preprocessing=PREPROCESSING,
        network=features,
        device=device,
    )


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
