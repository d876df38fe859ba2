"""Adapters on the disk, and the conditions they tell."""

import json

import pytest

from diffgen.errors import UserError
from diffgen.joint.load import condition_of, load_adapter
from diffgen.joint.pairs import OUTLINE, folder_pair
from diffgen.lacon.conditions import CONDITIONS, DEPTH, EDGE, EDGE_F1, Condition, strongest
from tests.joint.adapters import random_adapter, save_adapter
from tests.tiny import build


@pytest.fixture(scope="module")
def model():
    return build().transformer


def refused(folder, model, **options) -> str:
    with pytest.raises(UserError) as caught:
        load_adapter(folder, model, **options)
    return str(caught.value)


def test_an_adapter_comes_back_as_it_was_saved_frozen_and_with_its_condition(model, tmp_path):
    save_adapter(model, DEPTH, tmp_path)
    found, condition = load_adapter(tmp_path / "depth", model, condition="depth")
    assert condition is DEPTH
    wanted = random_adapter(model, DEPTH).state_dict()
    assert all(value.equal(wanted[name]) for name, value in found.state_dict().items())
    assert not any(parameter.requires_grad for parameter in found.parameters())


@pytest.mark.parametrize("condition", [*CONDITIONS, OUTLINE], ids=lambda one: one.name)
def test_diffgens_own_conditions_are_told_by_their_names(model, condition):
    assert condition_of(random_adapter(model, condition)) is condition


def test_pictures_of_a_folder_are_a_condition_that_is_found_nowhere(model):
    for name in ("sketches", "edge"):  # the second is of three channels, so not diffgen's own
        found = condition_of(random_adapter(model, folder_pair(name)))
        assert (found.name, found.channels, found.binary, found.find) == (name, 3, False, None)


SKETCH = Condition("sketch", 1, True, lambda x: (x[:, :1] > 0).float(), EDGE_F1)


def test_binary_maps_of_unknown_conditions_are_lines(model):
    found = condition_of(random_adapter(model, SKETCH))
    assert (found.shrink, found.fidelity, found.find) == (strongest, EDGE_F1, None)


def test_a_condition_of_ones_own_is_kept_if_the_adapter_is_of_its_maps(model, tmp_path):
    save_adapter(model, SKETCH, tmp_path)
    assert load_adapter(tmp_path / "sketch", model, condition=SKETCH)[1] is SKETCH
    grey = Condition("sketch", 1, False, None, EDGE_F1)
    said = refused(tmp_path / "sketch", model, condition=grey)
    assert said == (
        f"given: {tmp_path}/sketch is an adapter of sketch with other maps (channels 1, binary "
        "True), not channels 1, binary False"
    )
    said = refused(tmp_path / "sketch", model, condition=DEPTH)
    assert said.endswith("sketch is an adapter of sketch, but depth is asked for")


def test_what_cannot_be_used_is_told(model, tmp_path):
    said = refused(tmp_path / "depth", model, field="want")
    assert said.startswith(f"want: {tmp_path}/depth holds no adapter")
    save_adapter(model, EDGE, tmp_path)
    assert "edge is the adapter of another model" in refused(
        tmp_path / "edge", build(hidden_size=64).transformer
    )
    (tmp_path / "edge").rename(tmp_path / "depth")
    said = refused(tmp_path / "depth/depth", model)
    assert (
        said == f"given: {tmp_path}/depth is an adapter itself; give its parent folder, {tmp_path}"
    )
    said = refused(tmp_path / "depth", model, condition="depth")
    assert said == (
        f"given: {tmp_path}/depth is an adapter of edge, but depth is asked for; rename the folder "
        "to edge"
    )
    settings = tmp_path / "depth/adapter/config.json"
    content = json.loads(settings.read_text())
    settings.write_text(json.dumps({**content, "channels": 2}))
    said = refused(tmp_path / "depth", model)
    assert (
        said == f"given: {tmp_path}/depth cannot be loaded: channels of edge must be 1 or 3, not 2"
    )
