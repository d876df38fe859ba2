"""What several test files of this folder need."""

from pathlib import Path

import pytest

from diffgen.commands.train import train
from tests.trainings import settings


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    """A finished run; not to be changed."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    train(settings(out))
    return out
