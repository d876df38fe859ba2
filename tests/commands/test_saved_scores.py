"""Scores of other settings are never overwritten; those of the same settings are renewed."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from diffgen.commands.saved_scores import absolute, free_place, places, save
from diffgen.config.evaluate import EvaluateConfig
from diffgen.config.guidance import CFGConfig

SETTINGS = {
    "source": "run",
    "guidance_scale": 2.0,
    "device": "cpu",
    "batch_size": 64,
    "decode_tiled": False,
    "out": None,
}
WITHOUT_SCALE = {k: v for k, v in SETTINGS.items() if k != "guidance_scale"}
CONTENT = {
    "settings": SETTINGS,
    "size": "32x32",
    "places": {"source": "/run", "reference": "/a/val"},
    "reference_data": None,
    "beside": True,
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
        {"places": {"source": "/moved/run", "reference": "/a/val"}},
        {"settings": {**SETTINGS, "time_shift": "none", "inference": None}},  # newer than the file
        {"settings": {**WITHOUT_SCALE, "guidance": CFGConfig(scale=2.0).model_dump(mode="json")}},
    ],
)
def test_the_same_settings_keep_the_file(target, change):
    assert free_place(target, {**CONTENT, **change}) == target


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {**SETTINGS, "guidance_scale": 4.0}},
        {"settings": {**WITHOUT_SCALE, "guidance": {"kind": "apg", "scale": 2.0}}},
        {"settings": {**SETTINGS, "decode_tiled": True}},
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


def test_paths_are_whole_and_names_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "val").mkdir()
    (tmp_path / "shapes").mkdir()
    assert absolute("val") == absolute("shapes/../val") == str(tmp_path.resolve() / "val")
    assert absolute("owner/name") == "owner/name"
    assert places(EvaluateConfig(source="val"))["reference"] == "shapes"


def test_what_the_data_configuration_says_of_training_does_not_count(target):
    data = {"classes": ["cat"], "flip": True, "crop": "center", "on_error": "raise"}
    target.write_text(json.dumps({**CONTENT, "reference_data": data}))
    changed = {**data, "flip": False, "crop": "random", "on_error": "skip"}
    assert free_place(target, {**CONTENT, "reference_data": changed}) == target
    changed = {**data, "classes": ["dog"]}
    assert free_place(target, {**CONTENT, "reference_data": changed}) != target


def test_a_source_elsewhere_counts(target):
    elsewhere = {**CONTENT, "beside": False}
    target.write_text(json.dumps(elsewhere))
    assert free_place(target, elsewhere) == target
    other = {**elsewhere, "places": {"source": "owner/other", "reference": "/a/val"}}
    assert free_place(target, other) != target


def test_scores_of_a_runs_pipeline_lie_in_the_run(tmp_path):
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "config.yaml").touch()
    config = EvaluateConfig(source=str(tmp_path / "pipeline"))
    assert config.target("8x8") == tmp_path / "evaluation-shapes-8x8.json"


def test_evaluations_that_end_together_all_keep_their_figures(tmp_path):
    target = tmp_path / "evaluation-shapes-32x32.json"
    contents = [{**CONTENT, "size": f"{k}x{k}"} for k in range(8)]
    with ThreadPoolExecutor() as pool:
        files = list(pool.map(lambda content: save(content, None, target), contents))
    assert len(set(files)) == 8
    assert [json.loads(file.read_text())["size"] for file in files] == [
        content["size"] for content in contents
    ]
