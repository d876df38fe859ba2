"""The configuration of joint training: what is refused at once, and where it lies."""

from pathlib import Path

import pytest
from PIL import Image

from diffgen.config.command_line import parse
from diffgen.config.joint import JointConfig
from diffgen.config.process import DDPMConfig
from diffgen.errors import UserError
from tests.e2e.refused import Case, check_refused, pipeline_folder, write_json


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A ``flow`` of width 32 and depth 2, a ``chain``, and pictures with partners."""
    folder = tmp_path_factory.mktemp("work")
    for name in ("flow", "chain"):
        place = Path(pipeline_folder(folder / name))
        sizes = {"hidden_size": 32, "depth": 2, "patch_size": 4, "in_channels": 3}
        rest = {"num_classes": 2, "sample_size": [32, 32]}
        write_json(place / "transformer/config.json", {**sizes, **rest})
    betas = DDPMConfig(betas="cosine").beta_settings()
    settings = {"_class_name": "DDIMScheduler", **betas}
    write_json(folder / "chain/scheduler/scheduler_config.json", settings)
    for name in ("pictures", "sketches", "depth", "two words"):
        (folder / name).mkdir()
        Image.new("RGB", (32, 32)).save(folder / name / "0.png")
    (folder / "empty").mkdir()
    return folder


SHAPES = ["flow", "--data.kind", "shapes"]
PICTURES = ["flow", "--data.kind", "folder", "--data.path", "pictures"]
PAIR = [*PICTURES, "--pair", "folder"]
SKETCHES = [*PAIR, "--pair-path", "sketches"]


def test_what_cannot_be_is_refused_before_anything_is_loaded(folder):
    cases: list[Case] = [
        ("joint", [*SHAPES, "--pair", "dept"], "pair: 'dept' is unknown; known are edge, mask, st"),
        ("joint", [*SHAPES, "--pair", "fodler"], "did you mean folder?"),
        ("joint", [*SHAPES, "--pair-path", "sketches"], "pair_path: needs data.kind folder, but"),
        ("joint", [*SHAPES, "--pair-name", "a"], "pair_name: a has no effect without pair folder"),
        ("joint", PAIR, "pair_path: pair folder needs the folder of the pictures"),
        ("joint", [*PAIR, "--pair-path", "gone"], "pair_path: gone does not exist"),
        ("joint", [*PAIR, "--pair-path", "pictures/0.png"], "pictures/0.png is no folder"),
        ("joint", [*PAIR, "--pair-path", "empty"], "pair_path: empty holds no images (.bmp, .jpeg"),
        ("joint", [*PAIR, "--pair-path", "./pictures/"], "pair_path: pictures is data.path itself"),
        ("joint", [*PAIR, "--pair-path", "depth"], "pair_name: 'depth' means maps here; if the"),
        ("joint", [*PAIR, "--pair-path", "two words"], "pair_name: 'two words' is no name here;"),
        ("joint", [*SKETCHES, "--pair-name", "image"], "pair_name: 'image' means something else"),
        ("joint", [*SKETCHES, "--pair-name", "a-channels"], "pair_name: 'a-channels' ends as the"),
        ("joint", [*SKETCHES, "--pair-name", "a/b"], "pair_name: 'a/b' is no name here; give ano"),
        (
            "joint",
            [*SHAPES, "--pair", "folder", "--pair-path", "sketches"],
            "pair_path: needs data.kind folder, but the data is of kind shapes",
        ),
        ("joint", ["flow"], "data.kind: flow is in no run folder that would tell its pictures"),
        ("joint", [*SHAPES, "--every", "3"], "every: 3 is more than the model's 2 blocks"),
        ("joint", [*SHAPES, "--rank", "33"], "rank: 33 is more than the 32 channels it maps"),
        ("joint", [*SHAPES, "--condition-rank", "33"], "condition_rank: 33 is more than the 32"),
        (
            "joint",
            [*SHAPES, "--projection", "fused", "--projection-rank", "65"],
            "projection_rank: 65 is more than the 64 channels it maps",
        ),
        ("joint", [*SHAPES, "--min-snr-gamma", "3"], "min_snr_gamma: 3 has no effect on a flow"),
        ("joint", [*SHAPES, "--class-dropout", "0.4"], "class_dropout: input should be less than"),
        ("joint", [*SHAPES, "--times.clean", "1.5"], "times.clean: input should be less than or"),
        ("joint", [*SHAPES, "--times.kind", "same"], "times.kind: 'same' is not one of 'independ"),
        ("joint", [*SHAPES, "--method", "lora"], "method: input should be 'joint' or 'channels'"),
        (
            "joint",
            [*SHAPES, "--train.batch-size", "6", "--train.accumulation", "4"],
            "train.accumulation: 4 does not divide train.batch_size 6",
        ),
        ("joint", [*SHAPES, "--data.size", "30x32"], "data.size: 30x32 is not divisible by"),
    ]
    idle = {
        "rank": "2",
        "condition-rank": "0",
        "every": "2",
        "projection": "shared",
        "projection-rank": "2",
        "joint-dropout": "0.5",
        "times.kind": "correlated",
    }
    for option, value in idle.items():
        field = option.split(".")[0].replace("-", "_")
        argv = [*SHAPES, "--method", "channels", f"--{option}", value]
        cases.append(("joint", argv, f"{field}: has no effect with method channels"))
    check_refused(cases, folder)


def test_what_can_be_is_taken(folder, monkeypatch):
    monkeypatch.chdir(folder)
    for argv in (
        ["chain", "--data.kind", "shapes", "--min-snr-gamma", "3"],
        [*SHAPES, "--pair", "outline", "--every", "2", "--rank", "32"],
        [*SHAPES, "--pair", "mine:HEIGHT"],
        [*PAIR, "--pair-path", "depth", "--pair-name", "hand_made-depth"],
        [*SKETCHES, "--method", "channels"],
    ):
        parse(JointConfig, argv, "joint")


def test_pictures_are_called_as_their_folder_unless_they_have_a_name(folder, monkeypatch):
    monkeypatch.chdir(folder / "sketches")
    for path, name, called in ((".", None, "sketches"), ("../depth", "near", "near")):
        config = JointConfig(source="x", pair="folder", pair_path=path, pair_name=name)
        assert config.called == called


def test_an_adapter_lies_in_the_run_of_its_model_or_beside_a_lone_pipeline(folder, monkeypatch):
    monkeypatch.chdir(folder)
    config = JointConfig(source="flow", data={"kind": "shapes"})
    assert config.settled("depth").out == Path("flow-joint/depth")
    with pytest.raises(UserError, match="out: gone/model is a model of the hub; give a folder for"):
        JointConfig(source="gone/model").place(config.settled("depth").source)
