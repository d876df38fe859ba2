"""What several test files of this folder need."""

from io import BytesIO
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def inception_weights(tmp_path_factory) -> Path:
    """Random weights of Inception, in torch-fidelity's layout."""
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Blank(FeatureExtractorInceptionV3):
        """Inception as it is initialised: torch-fidelity's own always wants weights."""

        def load_state_dict(self, *_, **__):
            return None

    nothing = BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Blank("blank", ["2048"], nothing)
    for weight in network.parameters():
        if weight.ndim == 4:
            weight.mul_(6**0.5)  # torch's start fades away over 50 rectified layers
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(network.state_dict(), path)
    return path
