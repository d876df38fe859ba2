import json
import runpy
import subprocess
import sys
from dataclasses import asdict
from importlib import resources
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from diffgen.data.digits import Digits
from diffgen.data.shapes import CLASS_NAMES, HELD_OUT
from diffgen.metrics.reader import READER_CLASSES, Reader, load_reader
from diffgen.metrics.reader_augment import jitter, jog
from diffgen.metrics.reader_training import (
    draw_batch,
    evaluate_digits,
    evaluate_shapes,
    train,
    training_batch,
)

ROOT = Path(__file__).parents[2]
FOLDER = resources.files("diffgen.metrics")


@pytest.fixture(scope="module")
def reader():
    return load_reader()


@pytest.fixture(scope="module")
def stated():
    return json.loads(FOLDER.joinpath("reader.json").read_text())


def test_the_classes_are_the_shapes_then_the_digits():
    assert READER_CLASSES[:8] == CLASS_NAMES
    assert READER_CLASSES[8:] == Digits.class_names


def test_the_weights_are_small():
    assert FOLDER.joinpath("reader.safetensors").stat().st_size < 2_000_000


@pytest.mark.parametrize("size", ["32x32", "32x64", "48x48"])
def test_held_out_shapes_are_read_as_stated(reader, stated, size):
    height, width = map(int, size.split("x"))
    measured, claimed = evaluate_shapes(reader, height, width, 400), stated["shapes"][size]
    assert measured.accuracy >= 0.98
    # 400 of the 2,000 pictures behind the claim.
    assert measured.accuracy == pytest.approx(claimed["accuracy"], abs=0.01)
    assert measured.iou == pytest.approx(claimed["iou"], abs=0.03)
    assert measured.depth_mae == pytest.approx(claimed["depth_mae"], rel=0.1)
    assert measured.depth_mae_objects == pytest.approx(claimed["depth_mae_objects"], rel=0.15)


def test_every_size_of_a_table_reaches_98_percent(stated):
    for size, figures in stated["shapes"].items():
        assert figures["count"] >= 1000
        if size != "16x16":
            assert figures["accuracy"] >= 0.98, size


@pytest.mark.parametrize("side", [16, 32])
def test_held_out_digits_are_read_as_stated(reader, stated, side):
    figures = evaluate_digits(reader, side, side)
    assert figures["accuracy"] >= 0.97
    claimed = stated["digits"][f"{side}x{side}"]
    assert figures["accuracy"] == pytest.approx(claimed["accuracy"], abs=0.005)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 31), (96, 48)])
def test_outputs_at_any_size(reader, height, width):
    images = draw_batch(HELD_OUT[:3], height, width).images
    seen = reader(images)
    assert seen.features.shape == (3, 64)
    assert seen.logits.shape == (3, 18)
    assert seen.mask.shape == seen.depth.shape == (3, 1, height, width)
    assert seen.depth.min() >= 1
    assert seen.depth.max() <= 10
    assert torch.equal(reader.classify(seen.features), seen.logits)
    assert {x.dtype for x in vars(seen).values()} == {torch.float32}


def test_reading_is_repeatable_frozen_and_independent_of_the_rest_of_the_batch(reader):
    images = draw_batch(HELD_OUT[:8], 32, 32).images
    first = reader(images)
    assert not reader.training
    assert not first.features.requires_grad
    again = load_reader()(images)
    assert torch.equal(first.features, again.features)
    assert torch.equal(first.mask, again.mask)
    single = reader(images[5:6])
    assert torch.allclose(first.features[5:6], single.features, atol=1e-4)


def test_features_use_many_directions_and_notice_blur(reader):
    images = draw_batch(HELD_OUT[:400], 32, 32).images
    features = reader(images).features
    spread = torch.linalg.eigvalsh(features.T.cov()).flip(0)
    assert spread[0] / spread.sum() < 0.5
    assert (spread > 1e-4 * spread.sum()).sum() >= 16
    soft = torch.nn.functional.avg_pool2d(images, 5, 1, 2, count_include_pad=False)
    shift = (reader(soft).features.mean(0) - features.mean(0)).square().sum()
    halves = (features[:200].mean(0) - features[200:].mean(0)).square().sum()
    assert shift > 2 * halves


def test_wrong_images_are_refused(reader):
    for shape in ((3, 32, 32), (1, 1, 32, 32), (1, 3, 15, 32)):
        with pytest.raises(ValueError, match="at least 16"):
            reader(torch.zeros(shape))


def test_training_batches_depend_on_seed_and_step_only():
    first, again = training_batch(3, 5), training_batch(3, 5)
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.labels, again.labels)
    other = training_batch(4, 5)
    assert first.images.shape != other.images.shape or not torch.equal(first.images, other.images)
    assert first.images.abs().max() <= 1
    shapes = len(first.mask)
    assert first.labels[:shapes].max() < 8 <= first.labels[shapes:].min()


def test_training_repeats_itself():
    readers = []
    for _ in range(2):
        torch.manual_seed(0)
        readers.append(Reader())
        losses = list(train(readers[-1], steps=2, seed=0))
    assert len(losses) == 2
    assert not readers[0].training
    for a, b in zip(readers[0].parameters(), readers[1].parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_disturbances_are_mild_and_follow_their_generator():
    images = draw_batch(HELD_OUT[:64], 24, 48).images
    first, again = (jitter(images, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, again)
    assert 0.01 < (first - images).abs().mean() < 0.1
    ones = torch.ones(200, 1, 20, 40)
    moved = jog(ones, torch.Generator().manual_seed(1))
    assert moved.min() >= -1 - 1e-6  # black comes in from outside
    assert (moved[:, :, 6:-6, 10:-10] > 0.99).all()


def test_a_turned_digit_keeps_its_shape_on_a_wide_canvas():
    disc = torch.stack(torch.meshgrid(torch.arange(40), torch.arange(80), indexing="ij")) + 0.5
    disc = (disc - torch.tensor([20.0, 40.0]).view(2, 1, 1)).norm(dim=0) < 12
    moved = jog(disc.float().expand(50, 1, 40, 80) * 2 - 1, torch.Generator().manual_seed(0)) > 0
    for picture in moved[:, 0]:
        rows, columns = picture.nonzero().unbind(1)
        assert abs((rows.max() - rows.min()) - (columns.max() - columns.min())) <= 1


def script(*arguments):
    command = [sys.executable, "train/reader.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_help_needs_no_torch(tmp_path):
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    code = (
        f"import sys, runpy; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = ['r', '--help']; "
        "runpy.run_path('train/reader.py', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--steps" in done.stdout


def test_wrong_options_end_with_code_2(tmp_path):
    (tmp_path / "file").write_text("")
    for option, value in (("--steps", "0"), ("--seed", "-1"), ("--out", str(tmp_path / "file"))):
        done = script(option, value)
        assert done.returncode == 2
        assert option in done.stderr
        assert value in done.stderr
        assert "Traceback" not in done.stderr


def test_the_script_writes_a_reader_that_loads_and_its_figures(tmp_path):
    main = runpy.run_path(str(ROOT / "train" / "reader.py"))["main"]
    main(["--steps", "2", "--images", "20", "--out", str(tmp_path)])
    stored = load_file(tmp_path / "reader.safetensors")
    assert stored["classify.weight"].dtype == torch.float16
    trained = Reader()
    trained.load_state_dict(stored)
    figures = json.loads((tmp_path / "reader.json").read_text())
    assert (figures["steps"], figures["seed"]) == (2, 0)
    repeated = evaluate_shapes(trained.eval(), 24, 24, 20)
    assert figures["shapes"]["24x24"] == pytest.approx(asdict(repeated), rel=1e-3)
