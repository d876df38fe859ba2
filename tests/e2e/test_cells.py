"""Cells of a table are drawn anew when what they were scored against or seen through changed."""

import os
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

import diffgen.commands.resolutions as command
from diffgen.cli import main
from diffgen.data.pixels import to_pil
from tests.tiny import build

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def save_network(file: Path, seed: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.save(timm.create_model("test_efficientnet").state_dict(), file)


def write_folder(folder: Path, pixels: torch.Tensor) -> None:
    folder.mkdir(exist_ok=True)
    for k, picture in enumerate(to_pil(pixels)):
        picture.save(folder / f"{k:02d}.png")


@pytest.mark.parametrize("kind", ["folder", "npz"])
def test_a_changed_reference_or_network_at_the_same_path_is_scored_anew(
    kind, tmp_path, monkeypatch, capsys
):
    build().save_pretrained(tmp_path / "model")
    save_network(tmp_path / "network.pth", 0)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (32, 3, 16, 16), generator=generator, dtype=torch.uint8)
    reference = tmp_path / ("real" if kind == "folder" else "real.npz")

    def write(images: torch.Tensor) -> None:
        if kind == "folder":
            write_folder(reference, images)
        else:
            np.savez(reference, images.permute(0, 2, 3, 1).numpy())

    argv = ["resolutions", str(tmp_path / "model"), "--reference", str(reference)]
    argv += ["--extractor", "test_efficientnet", "--weights", str(tmp_path / "network.pth")]
    argv += ["--sizes", "16x16", "--num-images", "12", "--steps", "1", "--no-intervals"]
    argv += ["--device", "cpu", "--out", str(tmp_path / "table")]
    scored = []
    score = command.scored
    monkeypatch.setattr(command, "scored", lambda *a: scored.append(a) or score(*a))
    write(pixels)
    for expected, change in (
        (1, None),
        (1, None),
        (2, lambda: write(255 - pixels)),
        (3, lambda: save_network(tmp_path / "network.pth", 1)),
        (4, lambda: os.utime(reference / "03.png" if kind == "folder" else reference, (9, 9))),
        (4, None),
    ):
        if change:
            change()
        assert main(argv) == 0
        assert len(scored) == expected
    assert "1 cells of other settings, models or references are drawn" in capsys.readouterr().err
