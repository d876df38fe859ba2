"""What several test files of this folder need."""

from pathlib import Path

import numpy as np
import pytest
import torch

from diffgen.data.pixels import to_pil, to_uint8
from diffgen.data.shapes import CLASS_NAMES, Shapes

REAL, SCORED = range(96), range(5000, 5080)


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """Shapes of 24x32: ``real`` in class folders, more reals than features, and ``scored.npz``."""
    folder = tmp_path_factory.mktemp("work")
    shapes = Shapes(24, 32, "train")
    for i in REAL:
        picture, label = shapes[i]
        file = folder / "real" / CLASS_NAMES[label] / f"{i:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        to_pil(to_uint8(picture[None]))[0].save(file)
    pixels = to_uint8(torch.stack([shapes[i][0] for i in SCORED])).permute(0, 2, 3, 1).numpy()
    names = sorted(CLASS_NAMES)  # as the folder's classes are numbered
    labels = [names.index(CLASS_NAMES[shapes[i][1]]) for i in SCORED]
    np.savez(folder / "scored.npz", pixels // 2, labels)
    return folder


@pytest.fixture
def run(place, told, monkeypatch):
    """Run ``diffgen VERB ...`` in ``place``; see ``told``."""
    monkeypatch.chdir(place)
    return told
