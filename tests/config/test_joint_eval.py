"""What ``eval/joint.py`` refuses before anything is opened."""

from pathlib import Path

import pytest

from diffgen.config.joint_eval import JointEvalConfig
from tests.tiny import build


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A model, and what the configuration looks at of what is trained beside it."""
    folder = tmp_path_factory.mktemp("run")
    build().save_pretrained(folder / "pipeline")
    for name in ("joint/depth/adapter", "joint/depth-channels/channels", "aligners/depth/aligner"):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text("{}")
    return folder


def problems(run: Path, **changes) -> list[str]:
    settings = {"conditions": ["depth"], **changes}
    return list(JointEvalConfig(source=str(run), device="cpu", **settings).problems())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"conditions": []}, "conditions: give at least one"),
        ({"conditions": ["depht"]}, "did you mean depth?"),
        ({"conditions": ["depth", "depth"]}, "conditions: two are called 'depth'"),
        ({"floor": False}, "floor: no leaves no pictures"),
        ({"reference": "digits"}, "reference: digits has too few"),
        ({"scheduler": "heun"}, "scheduler: heun evaluates a step twice"),
        ({"guidance": {"kind": "autoguidance"}}, "guidance.kind: joint generation takes no guide"),
        ({"seeds": [1, 1]}, "seeds: [1, 1] names one twice"),
        ({"also": ["x"]}, "also: changes nothing without evidence"),
        ({"evidence": "."}, "evidence: . is a folder; name a file"),
        ({"evidence": "x.json"}, "evidence: the claim is about conditions depth and edge against"),
        (
            {"conditions": ["depth", "edge"], "evidence": "x.json", "baselines": ["channels"]},
            "against the baseline lacon; add what is missing",
        ),
    ],
)
def test_settings_that_cannot_be_are_named(run, changes, said):
    assert any(said in line for line in problems(run, **changes))


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
