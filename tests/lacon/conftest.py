"""A run folder of a tiny model, and its aligner after a short training."""

from pathlib import Path

import pytest

from diffgen.commands.train_aligner import train_aligner
from tests.lacon_runs import settings, tiny_run


@pytest.fixture(scope="package")
def run(tmp_path_factory) -> Path:
    """A run folder of a model of shapes."""
    return tiny_run(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="package")
def few_measured():
    """Figures of 32 pictures, for speed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("diffgen.commands.aligner_report.MEASURED", 32)
        yield


@pytest.fixture(scope="package")
def uninterrupted(run, tmp_path_factory, few_measured) -> Path:
    """An aligner of palettes, trained at one go."""
    out = tmp_path_factory.mktemp("aligners") / "whole"
    train_aligner(settings(run, out=out))
    return out
