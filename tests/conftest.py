"""What several test files need."""

from collections.abc import Callable
from pathlib import Path

import pytest


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
