"""What several test files of this folder need."""

import shutil

import pytest

from tests.prepared import made


@pytest.fixture(scope="module")
def whole(tmp_path_factory, vae_folder):
    """20 scenes in three files; not to be changed."""
    return made(tmp_path_factory.mktemp("prepared") / "whole", vae_folder)


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")
