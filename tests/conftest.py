"""What several test files need."""

from collections.abc import Callable
from pathlib import Path

import pytest

from diffgen.cli import main


@pytest.fixture(scope="session")
def make_vae(tmp_path_factory) -> Callable[..., Path]:
    """Saves tiny AutoencoderKLs with random weights: factor 2 ** (levels - 1), 4 channels."""
    import torch
    from diffusers import AutoencoderKL

    def make(levels: int = 2, **options) -> Path:
        settings = {"latent_channels": 4, "scaling_factor": 0.7, "shift_factor": 0.1, **options}
        with torch.random.fork_rng():
            torch.manual_seed(0)
            vae = AutoencoderKL(
                block_out_channels=(8,) * levels,
                down_block_types=("DownEncoderBlock2D",) * levels,
                up_block_types=("UpDecoderBlock2D",) * levels,
                norm_num_groups=4,
                sample_size=16,
                **settings,
            )
        folder = tmp_path_factory.mktemp("vae")
        vae.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def vae_folder(make_vae) -> Path:
    """One of factor 2, not to be changed."""
    return make_vae()


@pytest.fixture(scope="session")
def inception_weights(tmp_path_factory) -> Path:
    """Random weights of Inception, in torch-fidelity's layout."""
    from io import BytesIO

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


@pytest.fixture
def told(capfd):
    """Run ``diffgen VERB ...`` in this process; what it said, and no traceback."""

    def command(*argv: str, expect: int = 0) -> str:
        capfd.readouterr()
        code = main(list(argv))
        said = capfd.readouterr()
        assert code == expect, said.err[-3000:]
        assert "Traceback" not in said.err
        return said.out if expect == 0 else said.err

    return command
