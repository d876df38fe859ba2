"""Scores of other settings are never overwritten; those of the same settings are renewed."""

import json

import pytest

from diffgen.commands.saved_scores import absolute, free_place

SETTINGS = {"source": "run", "guidance_scale": 2.0, "device": "cpu", "batch_size": 64, "out": None}
CONTENT = {
    "settings": SETTINGS,
    "size": "32x32",
    "places": {"source": "/run", "reference": "/a/val"},
    "reference_data": None,
    "weights": "old",
}


@pytest.fixture
def target(tmp_path):
    file = tmp_path / "evaluation-val-32x32.json"
    file.write_text(json.dumps(CONTENT))
    return file


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "new"},
        {"settings": {**SETTINGS, "source": "./run", "device": "cuda", "batch_size": 8}},
        {"settings": {**SETTINGS, "out": "x.json"}},
    ],
)
def test_the_same_settings_keep_the_file(target, change):
    assert free_place(target, {**CONTENT, **change}) == target


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {**SETTINGS, "guidance_scale": 4.0}},
        {"places": {"source": "/run", "reference": "/b/val"}},
        {"reference_data": {"classes": ["cat"]}},
    ],
)
def test_others_get_one_of_their_own_and_keep_it(target, change):
    second = target.with_name("evaluation-val-32x32-2.json")
    assert free_place(target, {**CONTENT, **change}) == second
    second.write_text(json.dumps({**CONTENT, **change}))
    assert free_place(target, {**CONTENT, **change}) == second
    third = {**CONTENT, "settings": {**SETTINGS, "guidance_scale": 7.0}}
    assert free_place(target, third).name == "evaluation-val-32x32-3.json"
    assert free_place(target, CONTENT) == target


@pytest.mark.parametrize("text", ["", "[]", '{"settings": 3}', "{}"])
def test_a_file_of_something_else_is_left_alone(target, text):
    target.write_text(text)
    assert free_place(target, CONTENT).name == "evaluation-val-32x32-2.json"


def test_a_name_that_is_no_path_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "val").mkdir()
    assert absolute("val") == str(tmp_path / "val")
    assert absolute("shapes") == "shapes"
