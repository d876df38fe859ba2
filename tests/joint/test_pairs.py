"""What images are paired with, by name."""

import sys
from types import ModuleType

import pytest
import torch

from diffgen.data.shapes import Shapes
from diffgen.errors import UserError
from diffgen.joint.pairs import OUTLINE, folder_pair, pair_named, read_from_files
from diffgen.lacon.conditions import CONDITIONS, DEPTH, DEPTH_ERROR, MASK, PALETTE, Condition
from diffgen.lacon.maps import has_own_maps, maps_of


def test_every_condition_is_a_pair_and_so_are_the_exact_outlines():
    for condition in CONDITIONS:
        assert pair_named(condition.name) is condition
    outline, shapes = pair_named("outline"), Shapes(16, 16, "train")
    assert has_own_maps(shapes, outline)
    found = maps_of(shapes, [0, 1], outline)
    assert torch.equal(found, torch.stack([shapes.maps(i)["edge"] for i in (0, 1)]))
    assert outline.spans(found)
    assert len(found.unique()) > 20  # antialiased
    with pytest.raises(UserError, match=r"outline cannot be found in pictures; it needs data"):
        outline.of(torch.zeros(1, 3, 8, 8))


def test_ones_own_condition_is_known_by_its_module_and_has_a_name_of_its_own(monkeypatch):
    module = ModuleType("mine")
    module.HEIGHT = Condition("height", 1, False, None, DEPTH_ERROR)
    module.IMAGE = Condition("image", 3, False, None, DEPTH_ERROR)
    module.LINES = Condition("outline", 1, True, None, DEPTH_ERROR)
    module.BESIDE = Condition("height-channels", 1, False, None, DEPTH_ERROR)
    monkeypatch.setitem(sys.modules, "mine", module)
    assert pair_named("mine:HEIGHT") is module.HEIGHT
    for name, called in (("IMAGE", "image"), ("LINES", "outline")):
        with pytest.raises(UserError, match=f"pair: mine:{name} is called '{called}', which"):
            pair_named(f"mine:{name}")
    said = "pair: mine:BESIDE is called 'height-channels', but folders of method channels end in "
    with pytest.raises(UserError, match=said):
        pair_named("mine:BESIDE")
    with pytest.raises(UserError, match="pair: 'dpeth' is unknown; known are edge"):
        pair_named("dpeth")


def test_pictures_of_a_folder_are_a_condition_of_three_channels():
    pair = folder_pair("sketch")
    assert (pair.name, pair.channels, pair.binary, pair.stored) == ("sketch", 3, False, "pair")
    maps = torch.rand(2, 3, 4, 4) * 2 - 1
    assert pair.from_stored(maps) is maps
    assert OUTLINE.stored != pair.stored


def test_maps_may_come_from_files():
    grey = (torch.rand(2, 1, 4, 4) * 2 - 1).expand(-1, 3, -1, -1)
    colours = torch.rand(2, 3, 4, 4) * 2 - 1
    assert torch.allclose(read_from_files(DEPTH).from_stored(grey), grey[:, :1])
    assert torch.allclose(read_from_files(MASK).from_stored(grey), (grey[:, :1] + 1) / 2)
    assert torch.equal(read_from_files(PALETTE).from_stored(colours), colours)
    assert (read_from_files(DEPTH).name, read_from_files(DEPTH).stored) == ("depth", "pair")
