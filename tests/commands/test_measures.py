"""The loss on held-out images and FID of a training's averaged weights, by one process or two."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from diffgen import DiT
from diffgen.commands.evaluate import evaluate
from diffgen.commands.export import Exporter
from diffgen.commands.measures import open_measures
from diffgen.commands.periodic_fid import PeriodicFID
from diffgen.commands.train import build_objective, train
from diffgen.config.data import FolderConfig
from diffgen.config.evaluate import EvaluateConfig
from diffgen.config.train import TrainConfig
from diffgen.data.pixels import to_pil, to_uint8
from diffgen.data.shapes import CLASS_NAMES, Shapes
from diffgen.errors import UserError
from diffgen.group import ALONE, Group
from diffgen.metrics.extractor import load_extractor
from diffgen.metrics.moments import moments
from diffgen.metrics.stored import StoredSet, write_stored
from diffgen.training.checkpoint import TrainingState
from diffgen.training.ema import EMA
from diffgen.training.run_folder import RunFolder

CPU = torch.device("cpu")


def config(out: Path, **validation: Any) -> TrainConfig:
    """Of a tiny model; 40 images are fewer than the reader has features."""
    return TrainConfig.model_validate(
        {
            "out": out,
            "device": "cpu",
            "seed": 5,
            "data": {"kind": "shapes", "size": "16x16"},
            "model": {"depth": 1, "hidden_size": 32, "num_heads": 2, "patch_size": 4},
            "sampling": {"scheduler": "euler", "steps": 2, "batch_size": 16},
            "validation": {
                **{"every_images": 8, "images": 40, "bins": 4},
                **{"fid_every_images": 16, "fid_images": 40, **validation},
            },
        }
    )


def built(asked: TrainConfig) -> tuple[Exporter, DiT, TrainingState]:
    """What makes pipelines, the model that draws, and a state of other, drawn, weights."""
    names, options = tuple(CLASS_NAMES), {"num_classes": 8, "in_channels": 3}
    drawing, trained = (
        DiT.build(asked.model, sample_size=(16, 16), **options) for _ in ("drawing", "trained")
    )
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    averages = EMA(asked.ema, trained)
    state = TrainingState(
        model=trained,
        ema=averages,
        optimizers=[],
        schedules=[],
        class_names=names,
        num_images=None,
    )
    state.seen = 8
    return Exporter(asked, RunFolder(asked.out), names), drawing, state


def taken(asked: TrainConfig, group: Group = ALONE) -> list[Any]:
    """The lines of all measures, in a process of ``group``."""
    exporter, model, state = built(asked)
    objective = build_objective(asked, 8, CPU, None)
    measures = open_measures(asked, group, objective, exporter, model, CLASS_NAMES)
    return [measure.take(state) for measure in measures]


def fid_of(asked: TrainConfig, held_out: Any = None) -> float:
    exporter, model, state = built(asked)
    pipe = exporter.pipeline(model, state.ema.preview.weights)
    line = PeriodicFID(asked, ALONE, CPU, held_out).measure(pipe, 8)
    assert line is not None
    return line["fid"]


def evaluated(asked: TrainConfig, tmp_path: Path, **options: Any) -> float:
    """FID of the same weights by ``eval/evaluate.py``."""
    exporter, model, state = built(asked)
    exporter.folder.open(asked)
    exporter.save(model, state.ema.preview.weights)
    out = tmp_path / "scores.json"
    settings = {"reference": "shapes", "floor": False, "labels": "in_turn", "intervals": False}
    evaluate(
        EvaluateConfig(
            source=str(asked.out),
            num_images=asked.validation.fid_images,
            seed=asked.seed,
            device="cpu",
            out=out,
            **{**settings, **options},
            **asked.sampling.model_dump(),
        )
    )
    return json.loads(out.read_text())["scores"]["fid"]


@pytest.mark.parametrize("count", [40, 120])
def test_fid_is_that_of_the_evaluation(tmp_path, count):
    asked = config(tmp_path / "run", fid_images=count)
    found = fid_of(asked)
    assert found > 1
    assert found == pytest.approx(evaluated(asked, tmp_path), rel=1e-6)


@pytest.mark.slow
def test_two_processes_measure_what_one_does(tmp_path):
    """Two real processes, which talk over gloo."""
    from tests.e2e.forked import Running  # not there in the processes, which run this file

    running = Running(__file__, str(tmp_path), folder=tmp_path, world=2)
    assert running.codes == [0, 0], running.said
    main, other = (json.loads((tmp_path / f"2-{rank}.json").read_text()) for rank in (0, 1))
    assert other == [None, None]
    loss, fid = taken(config(tmp_path))
    assert main[0].keys() == {"images", "loss", "bins", "t"}
    assert main[0]["loss"] == pytest.approx(loss["loss"], rel=1e-6)
    assert main[0]["bins"] == pytest.approx(loss["bins"], rel=1e-6)
    assert main[1] == {**fid, "fid": pytest.approx(fid["fid"], rel=1e-6)}
    assert fid["fid_images"] == 40
    assert fid["extractor"] == "reader"


def test_measures_are_of_the_averaged_weights_and_take_no_random_number(tmp_path):
    asked = config(tmp_path)
    exporter, model, state = built(asked)
    objective = build_objective(asked, 8, CPU, None)
    before = torch.get_rng_state()
    loss, fid = open_measures(asked, ALONE, objective, exporter, model, CLASS_NAMES)
    first = [loss.take(state), fid.take(state)]
    assert [loss.take(state), fid.take(state)] == first  # whatever was measured in between
    with torch.no_grad():
        for parameter in state.model.parameters():
            parameter.zero_()
    assert [loss.take(state), fid.take(state)] == first
    for weights in state.ema.preview.weights.values():
        weights.mul_(0.5)
    changed = [loss.take(state), fid.take(state)]
    assert changed[0]["loss"] != first[0]["loss"]
    assert changed[1]["fid"] != first[1]["fid"]
    assert torch.equal(torch.get_rng_state(), before)


def test_only_what_is_asked_for_is_measured(tmp_path):
    assert taken(config(tmp_path, every_images=0, fid_every_images=0)) == []
    (loss,) = taken(config(tmp_path, fid_every_images=0))
    assert "loss" in loss
    (fid,) = taken(config(tmp_path, every_images=0))
    assert "fid" in fid


def test_stored_statistics_stand_for_their_images(tmp_path):
    reader = load_extractor()
    shapes = Shapes(16, 16, "held_out")
    pictures = to_uint8(torch.stack([shapes[i][0] for i in range(120)]))
    found = StoredSet(reader.facts(), {"features": moments(reader(pictures))})
    header = {"num_images": 120, "size": "16x16"}
    write_stored(tmp_path / "real.npz", {"reader": found}, header, {})
    stored = fid_of(config(tmp_path, fid_images=120, reference=str(tmp_path / "real.npz")))
    assert stored == pytest.approx(fid_of(config(tmp_path, fid_images=120)), rel=1e-6)


def pictures_in(place: Path, first: int, count: int) -> Path:
    """Held-out shapes as files in class folders."""
    shapes = Shapes(16, 16, "held_out")
    for number in range(first, first + count):
        image, label = shapes[number]
        folder = place / CLASS_NAMES[label]
        folder.mkdir(parents=True, exist_ok=True)
        to_pil(to_uint8(image[None]))[0].save(folder / f"{number}.png")
    return place


def test_a_held_out_folder_is_what_fid_compares_with(tmp_path):
    trained, other = pictures_in(tmp_path / "a", 200, 40), pictures_in(tmp_path / "b", 0, 40)
    data = FolderConfig(path=trained, size="16x16")
    asked = config(tmp_path / "run", data=str(other)).model_copy(update={"data": data})
    assert not list(asked.validation.misfits(asked.data))
    loss, fid = taken(asked)
    drawn = taken(config(tmp_path / "run"))
    assert fid["fid"] == pytest.approx(drawn[1]["fid"], rel=1e-6)  # the same 40 pictures
    assert loss["loss"] == pytest.approx(drawn[0]["loss"], rel=0.5)  # of them in another order


def test_a_reference_of_another_network_is_refused(tmp_path):
    facts = {**load_extractor().facts(), "weights_sha256": "0" * 64}
    found = StoredSet(facts, {"features": moments(torch.rand(80, 64))})
    write_stored(tmp_path / "x.npz", {"reader": found}, {"num_images": 80, "size": "16x16"}, {})
    with pytest.raises(UserError, match=r"reference: .*x\.npz holds statistics of reader"):
        fid_of(config(tmp_path, reference=str(tmp_path / "x.npz")))


def test_damaged_weights_are_told_with_the_option_of_a_training(tmp_path):
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"no weights")
    extractor = {"name": "test_vit", "weights": str(weights)}
    with pytest.raises(UserError, match=r"^validation\.fid_extractor\.weights: .* no readable"):
        fid_of(config(tmp_path, fid_extractor=extractor))


def test_a_damaged_picture_is_named(tmp_path):
    other = pictures_in(tmp_path / "b", 0, 12)
    Image.new("RGB", (16, 16)).save(other / CLASS_NAMES[0] / "z.png")
    (other / CLASS_NAMES[0] / "z.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"z\.png"):
        fid_of(config(tmp_path, reference=str(other)))


def test_a_training_is_bit_for_bit_the_same_with_and_without_them(tmp_path):
    trained = []
    for name, every in (("plain", 0), ("measured", 16)):
        asked = config(tmp_path / name, every_images=every, fid_every_images=every, fid_images=8)
        short = {"images": 32, "batch_size": 8, "sample_images": 0, "log_images": 16}
        sections = {"train": short, "report": {"num_images": 0, "sizes": ["16x16"]}}
        train(TrainConfig.model_validate({**asked.model_dump(), **sections}))
        trained.append(
            load_file(next((tmp_path / name).glob("pipeline/transformer/*.safetensors")))
        )
    assert all(torch.equal(trained[0][key], trained[1][key]) for key in trained[0])
    assert not (tmp_path / "plain" / "validation.jsonl").exists()
    lines = (tmp_path / "measured" / "validation.jsonl").read_text().splitlines()
    assert [json.loads(line)["images"] for line in lines] == [16, 32]
    assert all({"loss", "bins", "fid"} <= json.loads(line).keys() for line in lines)


if __name__ == "__main__":  # one of the two processes
    joined = Group.join(cpu=True)
    lines = taken(config(Path(sys.argv[1])), joined)
    place = Path(sys.argv[1]) / f"{joined.world}-{joined.rank}.json"
    place.write_text(json.dumps(lines))
    joined.leave()
