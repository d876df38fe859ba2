"""Switches of a training: each is resumed bit for bit, and what must change nothing does not."""

import json

import pytest
import timm
import torch
from accelerate.state import AcceleratorState
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from diffgen.commands.train import train
from diffgen.config.ema import ConstantEMAConfig, PowerEMAConfig
from diffgen.errors import UserError
from diffgen.training.checkpoints import Checkpoints, seen_of
from diffgen.training.ema import EMA, constant_decay, gamma_of_width, power_decay
from tests.logs import curve
from tests.trainings import killed_at_a_preview, newest, settings

# diffusers hands a tensor to numpy the old way.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> str:
    """The weights of a tiny ViT."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("encoder") / "vit.safetensors"
    save_file(timm.create_model("test_vit", pretrained=False).state_dict(), file)
    return str(file)


def variant(name: str, encoder: str) -> dict:
    """Sections of a configuration."""
    route = {"share": 0.5, "first": 1, "last": 2}
    align = {"encoder": "test_vit", "weights": encoder, "image_size": 32, "block": 0, "hidden": 16}
    return {
        "ema": {"ema": {"kind": "power", "every": 3}},
        "route": {"model": {"depth": 3}, "train": {"route": route}},
        "align": {"align": align},
        "recomputed": {"train": {"gradient_checkpointing": True}},
        "measured": {"validation": {"every_images": 24, "images": 20, "fid_every_images": 48}},
        "milestones": {"train": {"milestone_images": 40}},
    }[name]


def everything(run) -> dict[str, torch.Tensor]:
    """Weights, averages and what the pipeline holds."""
    files = [*newest(run).glob("*.safetensors"), *run.glob("pipeline/*/*.safetensors")]
    found = {f"{file.name}/{k}": v for file in files for k, v in load_file(file).items()}
    assert len(found) > 80
    return found


def assert_equal(one, other) -> None:
    mine, theirs = everything(one), everything(other)
    assert mine.keys() == theirs.keys()
    assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []


NAMES = ["ema", "route", "align", "recomputed", "measured", "milestones"]


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_training_goes_on_as_if_nothing_had_happened(name, encoder, tmp_path, monkeypatch):
    def config(out: str):
        changes = variant(name, encoder)
        changes["train"] = {"sample_images": 24, **changes.get("train", {})}
        return settings(tmp_path / out, **changes)

    train(config("whole"))
    with killed_at_a_preview(monkeypatch, 72):
        train(config("run"))
    assert seen_of(newest(tmp_path / "run")) < 72
    train(config("run"))
    assert_equal(tmp_path / "run", tmp_path / "whole")
    assert curve(tmp_path / "run") == curve(tmp_path / "whole")
    for file in ("validation.jsonl", "samples/images-000000072.png"):
        one, other = tmp_path / "run" / file, tmp_path / "whole" / file
        assert one.exists() == other.exists() == (file.endswith("png") or name == "measured")
        assert not one.exists() or one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("name", ["recomputed", "measured", "milestones"])
def test_what_only_watches_or_saves_memory_changes_no_weight(name, encoder, tmp_path):
    train(settings(tmp_path / "plain"))
    train(settings(tmp_path / "switched", **variant(name, encoder)))
    assert_equal(tmp_path / "switched", tmp_path / "plain")


@pytest.mark.parametrize("name", ["route", "align"])
def test_what_trains_otherwise_changes_the_weights_but_not_the_model(name, encoder, tmp_path):
    changes = variant(name, encoder)
    train(settings(tmp_path / "switched", **changes))
    plain = {"model": changes["model"]} if "model" in changes else {}
    train(settings(tmp_path / "plain", **plain))
    one, other = (
        load_file(next((tmp_path / run).glob("pipeline/*/*.safetensors")))
        for run in ("switched", "plain")
    )
    assert one.keys() == other.keys()
    assert any(not torch.equal(one[name], other[name]) for name in one)
    losses = curve(tmp_path / "switched")[-1].get("losses", {})
    assert set(losses) == ({"denoising", "alignment"} if name == "align" else set())


def test_milestones_are_kept_beside_the_newest(tmp_path):
    train(settings(tmp_path, train={"milestone_images": 40, "keep_checkpoints": 1}))
    assert [seen_of(path) for path in Checkpoints(tmp_path).all()] == [40, 80, 96]


def test_measures_are_taken_as_often_as_asked_and_once_more_at_the_end(tmp_path):
    asked = {"every_images": 40, "images": 20, "bins": 4, "fid_every_images": 64, "fid_images": 8}
    train(settings(tmp_path, validation=asked))
    lines = [json.loads(line) for line in (tmp_path / "validation.jsonl").read_text().splitlines()]
    assert [(line["images"], "loss" in line, "fid" in line) for line in lines] == [
        (40, True, False),
        (64, False, True),
        (80, True, False),
        (96, True, True),
    ]
    assert all(len(line["bins"]) == 4 for line in lines if "bins" in line)
    assert lines[-1]["loss"] < lines[0]["loss"]


@pytest.mark.parametrize(
    "config", [PowerEMAConfig(every=3), ConstantEMAConfig(every=3)], ids=lambda c: c.kind
)
def test_averages_of_every_third_step_weigh_it_as_three(config):
    model = torch.nn.Linear(1, 1, bias=False).double()
    ema = EMA(config, model)
    expected = {average.name: float(model.weight.detach()) for average in ema.averages}
    for step in range(1, 11):
        with torch.no_grad():
            model.weight.fill_(step)
        ema.update(model, 8 * step, 8)
        for average, width in zip(ema.averages, (0.05, 0.10), strict=False):
            if step % 3 == 0:
                seen = 8 * step
                if isinstance(config, PowerEMAConfig):
                    beta = power_decay(gamma_of_width(width), seen, 24)
                else:
                    beta = constant_decay(config, seen, 24)
                expected[average.name] = beta * expected[average.name] + (1 - beta) * step
            assert float(average.weights["weight"]) == pytest.approx(expected[average.name])


def test_a_snapshot_bears_the_number_of_images_its_averages_know_of(tmp_path):
    train(settings(tmp_path, ema={"kind": "power", "every": 5, "export": 0.07}))
    assert sorted(int(file.stem) for file in (tmp_path / "snapshots").iterdir()) == [40, 80]


def test_an_average_that_could_not_be_rebuilt_is_refused_before_the_training(tmp_path):
    narrow = {"kind": "power", "export": 0.02}
    with pytest.raises(UserError, match=r"ema.export: width 0.02 could not be rebuilt at the end"):
        train(settings(tmp_path, ema=narrow))
    assert not (tmp_path / "checkpoints").exists()
    train(settings(tmp_path / "wider", ema={"kind": "power", "export": 0.09}))


def problems(tmp_path, **changes) -> list[str]:
    return list(settings(tmp_path, **changes).problems())


def test_what_does_not_go_together_is_told(tmp_path):
    adamw = {"optimizer": {"kind": "adamw"}}
    split = {"sharding": "full"}
    assert problems(tmp_path, ema={"kind": "power", "every": 12}) == []
    [told] = problems(tmp_path, ema={"kind": "power", "every": 13})
    assert told == "ema.every: 13, but the training has 12 steps"
    assert problems(tmp_path, **adamw, train=split) == []
    [told] = problems(tmp_path, train=split)
    assert told.startswith("train.sharding: full splits the matrices that Muon needs whole")
    mixed = {"crop": "none"}
    assert problems(tmp_path, **adamw, train=split, data=mixed) == []
    [told] = problems(tmp_path, **adamw, train={**split, "token_budget": 64}, data=mixed)
    assert told.startswith("train.token_budget: with train.sharding full")
    [told] = problems(tmp_path, train={"compile": True}, data=mixed)
    assert told.startswith("train.compile: packed batches")
    assert problems(tmp_path, train={"compile": True, "mixed": "padded"}, data=mixed) == []
    with pytest.raises(ValidationError, match=r"the two widths must differ"):
        settings(tmp_path, ema={"kind": "power", "widths": (0.1, 0.10000001)})


@pytest.fixture
def anew():
    """Accelerate reads its environment once for all trainings of a process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_a_launcher_that_would_compile_the_whole_model_is_refused(tmp_path, monkeypatch, anew):
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR")
    with pytest.raises(UserError, match=r"asks for a dynamo_backend.*--train.compile"):
        train(settings(tmp_path))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compiled_blocks_train_as_others_do_up_to_rounding(tmp_path):
    adamw = {"kind": "adamw", "lr": 0.001}
    train(settings(tmp_path / "compiled", optimizer=adamw, train={"compile": True}))
    train(settings(tmp_path / "plain", optimizer=adamw))
    one, other = everything(tmp_path / "compiled"), everything(tmp_path / "plain")
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=1e-4, atol=1e-4)
