"""What ``eval/joint.py`` refuses before anything is opened."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from diffgen.config.joint_eval import JointEvalConfig
from tests.tiny import build


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A model, and what the configuration looks at of what is trained beside it."""
    folder = tmp_path_factory.mktemp("run")
    build().save_pretrained(folder / "pipeline")
    for name in ("depth", "edge"):
        for place in ("joint/{}/adapter", "joint/{}-channels/channels", "aligners/{}/aligner"):
            file = folder / place.format(name) / "config.json"
            file.parent.mkdir(parents=True)
            file.write_text("{}")
    return folder


BOTH = {"conditions": ["depth", "edge"]}


def problems(run: Path, **changes) -> list[str]:
    settings = {"source": str(run), "conditions": ["depth"], **changes}
    return list(JointEvalConfig(device="cpu", **settings).problems())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"conditions": []}, "conditions: give at least one"),
        ({"conditions": ["depht"]}, "conditions: 'depht'"),
        ({"conditions": ["depth", "depth"]}, "conditions: two are called 'depth'"),
        ({"floor": False}, "floor: no leaves no pictures"),
        ({"reference": "digits"}, "reference: digits has too few"),
        ({"scheduler": "heun"}, "scheduler: heun evaluates a step twice"),
        ({"seeds": [1, 1]}, "seeds: [1, 1] names one twice"),
        ({"seeds": []}, "seeds: give at least one"),
        ({"reference": "nowhere"}, "reference: nowhere"),
        ({"source": "nowhere"}, "source: nowhere"),
        ({"out": "/proc/x"}, "out: /proc/x"),
        ({**BOTH, "evidence": "/proc/x/y.json"}, "evidence: /proc/x"),
        ({"also": ["x"]}, "also: changes nothing without evidence"),
        ({**BOTH, "evidence": "."}, "evidence: . is a folder; name a file"),
        ({"evidence": "x.json"}, "evidence: the claim is about depth and another of conditions"),
        (
            {"conditions": ["edge"], "evidence": "x.json"},
            "evidence: the claim is about depth and another of conditions",
        ),
        (
            {**BOTH, "evidence": "x.json", "baselines": ["channels"]},
            "evidence: the claim is about depth and another of conditions against the baseline",
        ),
    ],
)
def test_settings_that_cannot_be_are_named(run, changes, said):
    (line,) = problems(run, **changes)
    assert line.startswith(said)


def test_a_guide_is_refused_whether_it_is_there_or_not(run):
    first, *more = problems(run, guidance={"kind": "autoguidance"})
    assert first.startswith("guidance.kind: joint generation takes no guide")
    assert all(line.startswith("guidance.") for line in more)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"how": "given"}, "how"),
        ({"baselines": ["late"]}, "baselines"),
        ({"num_images": 7}, "num_images"),
        ({"pictures": 0}, "pictures"),
        ({"pictures": 65}, "pictures"),
        ({"seeds": [-1]}, "seeds"),
        ({"labels": "random"}, "labels"),
        ({"steps": 0}, "steps"),
    ],
)
def test_values_that_no_field_takes_are_refused_by_its_name(changes, field):
    with pytest.raises(ValidationError) as caught:
        JointEvalConfig(source="x", **changes)
    assert {error["loc"][0] for error in caught.value.errors()} == {field}


def test_only_what_is_asked_for_must_be_there(run):
    def missing(**changes) -> list[str]:
        return [line for line in problems(run, **changes) if "train" in line]

    assert missing() == []
    both = missing(conditions=["depth", "mask"])
    assert [line.split(":")[0] for line in both] == ["conditions", "baselines", "baselines"]
    for baseline, script in (("lacon", "train/lacon.py"), ("channels", "--method channels")):
        told = missing(conditions=["mask"], baselines=[baseline])
        assert len(told) == 2
        assert script in told[1]
    assert len(missing(conditions=["mask"], baselines=[])) == 1
    elsewhere = {"adapters": run / "joint", "aligners": run / "aligners"}
    assert missing(**elsewhere) == []
    assert len(missing(adapters=run / "none")) == 2


def test_none_is_no_baseline():
    for none in ("none", ["none"], []):
        assert JointEvalConfig(source="x", baselines=none).baselines == []
    said = "'{}' is not one of lacon, channels; none is for neither"
    for name in ("none", "nope"):
        with pytest.raises(ValidationError, match=said.format(name)):
            JointEvalConfig(source="x", baselines=["lacon", name])


def test_a_cell_is_told_from_others_by_how_it_is_drawn_and_by_what():
    config = JointEvalConfig(source="x", steps=7, num_images=9)
    one = config.cell("given", 3, {"depth": "a"}, {"depth": "m"})
    assert (one.steps, one.num_images, one.seed, one.how) == (7, 9, 3, "given")
    others = [
        config.cell("joint", 3, {"depth": "a"}, {"depth": "m"}),
        config.cell("given", 3, {"depth": "b"}, {"depth": "m"}),
        config.cell("given", 3, {"depth": "a"}, {"depth": "n"}),
    ]
    assert all(other != one for other in others)
