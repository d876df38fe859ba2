"""The sweep's rules and cells, before torch is loaded."""

import json

import pytest

from diffgen.config.guidance import APGConfig, CFGConfig
from diffgen.config.guidance_sweep import GuidanceSweepConfig, RuleConfig


@pytest.fixture
def model(tmp_path):
    """``model(num_classes)``: the JSON of a pipeline."""

    def make(num_classes: int) -> str:
        config = {"patch_size": 4, "in_channels": 3, "sample_size": [32, 32]}
        (tmp_path / "transformer").mkdir()
        (tmp_path / "model_index.json").write_text("{}")
        settings = json.dumps({**config, "num_classes": num_classes})
        (tmp_path / "transformer/config.json").write_text(settings)
        return str(tmp_path)

    return make


def test_default_rows_and_titles():
    config = GuidanceSweepConfig(source="x", scales=[4, 1, 4])
    assert [row.title for row in config.rows()] == ["cfg", "apg"]
    assert config.columns() == [1, 4]
    rule = RuleConfig(guidance={"kind": "apg", "eta": 0.5, "interval_high": 3})
    assert rule.title == "apg, interval high 3.0, eta 0.5"
    only = GuidanceSweepConfig(source="x", rules=[rule])
    assert only.rows() == [rule]
    both = GuidanceSweepConfig(source="x", rules=[rule], kinds=["cfg"])
    assert [row.guidance.kind for row in both.rows()] == ["cfg", "apg"]


def test_a_rule_at_scale_1_is_what_every_rule_is_there():
    rule = RuleConfig(guidance=APGConfig(eta=0.5, rescale=0.7))
    assert rule.at(1.0) == CFGConfig(scale=1.0)
    assert rule.at(3.0) == APGConfig(scale=3.0, eta=0.5, rescale=0.7)


def test_cells_are_evaluations_with_everything_the_sweep_says():
    config = GuidanceSweepConfig(
        source="x", steps=7, scheduler="euler", num_images=99, extractor="inception", out="there"
    )
    cell = config.cell(APGConfig(scale=3.0), 5)
    assert (cell.steps, cell.scheduler, cell.num_images, cell.seed) == (7, "euler", 99, 5)
    assert (cell.extractor, cell.guidance.scale, cell.out) == ("inception", 3.0, None)


@pytest.mark.parametrize(
    ("settings", "classes", "said"),
    [
        ({"rules": [{"guidance": {"kind": "apg", "scale": 3}}]}, 2, "--scales gives the scales"),
        ({}, 0, "knows no classes, so cfg changes nothing"),
        ({"scales": []}, 2, "scales: give at least one"),
        ({"seeds": [4, 4]}, 2, "names one twice"),
    ],
)
def test_mistakes(model, tmp_path, settings, classes, said):
    config = GuidanceSweepConfig(source=model(classes), out=tmp_path / "out", **settings)
    assert [problem for problem in config.problems() if said in problem]


def test_a_sound_one_has_none(model, tmp_path):
    config = GuidanceSweepConfig(source=model(2), out=tmp_path / "out")
    assert list(config.problems()) == []
