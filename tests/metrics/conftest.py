"""What several test files of this folder need; timm is slow to import, and needed by few."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def model():
    """A small timm model with random weights and a classifier of 7."""
    import timm
    import torch

    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=7).eval()


@pytest.fixture
def checkpoint(model, tmp_path) -> Path:
    """Its weights."""
    from safetensors.torch import save_file

    path = tmp_path / "model.safetensors"
    save_file(model.state_dict(), path)
    return path
