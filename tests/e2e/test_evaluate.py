"""eval/evaluate.py on what users bring: npz files, folders, other networks, several processes."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from diffgen import DiffGenPipeline, DiT
from diffgen.cli import launch
from diffgen.data.pixels import to_pil, to_uint8
from diffgen.data.shapes import CLASS_NAMES, Shapes
from diffgen.metrics import load_extractor
from diffgen.metrics.inception import described
from diffgen.sampling.schedulers import build_scheduler

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ROOT = Path(__file__).parents[2]
COUNT = 48
UNBALANCED = ["circle"] * 20 + ["star"] * 6


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    """A folder with real shapes as PNGs (``real``), as npz, and a tiny model (``model``)."""
    folder = tmp_path_factory.mktemp("user")
    shapes = Shapes(32, 32, "held_out")
    items = sorted((shapes[i] for i in range(5000, 5000 + COUNT)), key=lambda item: item[1])
    pixels = to_uint8(torch.stack([picture for picture, _ in items]))
    labels = np.array([label for _, label in items])
    for k, picture in enumerate(to_pil(pixels)):
        # Folders are read in the order of names, which must be that of the labels here.
        file = folder / "real" / CLASS_NAMES[labels[k]] / f"{k:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture.save(file)
    pixels = pixels.permute(0, 2, 3, 1).numpy()
    order = [int(file.stem) for file in sorted((folder / "real").rglob("*.png"))]
    np.savez(folder / "real.npz", pixels[order], labels[order])
    np.savez(folder / "unlabelled.npz", pixels[order])

    torch.manual_seed(0)
    model = DiT(
        sample_size=(16, 16), patch_size=4, hidden_size=32, depth=1, num_heads=2, num_classes=8
    )
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.1)
    pipe = DiffGenPipeline(model, build_scheduler("euler"), list(CLASS_NAMES))
    pipe.save_pretrained(folder / "model")
    return folder


def evaluate(user: Path, name: str, *argv: str) -> dict:
    """Score in this process; the JSON it saved."""
    out = user / f"{name}.json"
    assert launch("eval", [*argv, "--out", str(out)], "eval") == 0
    return json.loads(out.read_text())


def refusal(capsys, *argv: str) -> str:
    """The one message of a refused command."""
    assert launch("eval", list(argv), "eval") == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def test_an_npz_scores_exactly_like_the_folder_of_the_same_pictures(user, capsys):
    folder = evaluate(user, "folder", str(user / "real"), "--num-images", "40")
    npz = evaluate(user, "npz", str(user / "real.npz"), "--num-images", "40")
    assert npz["scores"] == folder["scores"]
    assert npz["scores"]["class_accuracy"] >= 0.95  # its labels count the reference's classes
    assert npz["label_counts"] == folder["label_counts"]
    assert npz["size"] == "32x32"  # the file's own
    assert npz["labels"] == "as in the source"
    said = capsys.readouterr().out
    for words in ("by reader", "reader, 64 wide", npz["extractor"]["weights_sha256"]):
        assert words in said
    unlabelled = evaluate(user, "unlabelled", str(user / "unlabelled.npz"), "--num-images", "40")
    assert unlabelled["scores"]["fid"] == folder["scores"]["fid"]
    assert unlabelled["scores"]["class_accuracy"] is None
    assert unlabelled["label_counts"]["images"] == {"unlabelled": 40}


def test_an_npz_as_reference_is_dealt_in_halves_or_used_whole(user):
    argv = (str(user / "real"), "--reference", str(user / "real.npz"))
    halved = evaluate(user, "halved", *argv)
    assert halved["counts"] == {"images": 24, "reference": 24, "floor": 24}
    whole = evaluate(user, "whole", *argv, "--no-floor")
    assert whole["counts"] == {"images": 48, "reference": 48, "floor": 0}
    assert whole["floor"] is None
    assert whole["scores"]["fid"] == pytest.approx(0, abs=1e-9)  # the same pictures
    assert whole["scores"]["precision"] == whole["scores"]["recall"] == 1


def test_other_sizes_are_refused_by_both_names_unless_a_size_is_given(user, capsys):
    small = user / "small.npz"
    np.savez(small, np.zeros((9, 16, 24, 3), np.uint8))
    said = refusal(capsys, str(user / "real"), "--reference", str(small))
    for words in ("real is 32x32", "small.npz is 16x24", "--size 32x32"):
        assert words in said
    said = refusal(capsys, str(user / "model"), "--reference", str(user / "real"))
    for words in ("model is 16x16", "real is 32x32"):
        assert words in said
    cropped = evaluate(
        user, "cropped", str(small), "--reference", str(user / "real"), "--size", "16x16"
    )
    assert cropped["size"] == "16x16"
    mixed = user / "mixed"
    mixed.mkdir()
    for side in (16, 20):
        to_pil(torch.zeros(1, 3, side, 16, dtype=torch.uint8))[0].save(mixed / f"{side}.png")
    assert "(16.png is 16x16, 20.png is 20x16)" in refusal(capsys, str(mixed))


def test_a_timm_model_scores_without_class_accuracy(user, capsys):
    torch.manual_seed(0)
    path = user / "timm.pth"
    torch.save(timm.create_model("test_efficientnet").state_dict(), path)
    argv = ("--extractor", "test_efficientnet", "--weights", str(path), "--num-images", "8")
    found = evaluate(user, "timm", str(user / "real"), "--reference", str(user / "real"), *argv)
    assert found["extractor"]["num_features"] == 256  # more than there are images
    assert found["scores"]["fid"] == pytest.approx(0, abs=1e-12)  # the same pictures
    assert found["floor"]["scores"]["fid"] > 1e-9
    assert found["scores"]["class_accuracy"] is None
    unknown = "test_efficientnet does not know all of the classes"
    assert found["not_available"]["class_accuracy"] == unknown
    assert "8 images are too few for 256 features" in found["notes"][0]
    assert "by test_efficientnet" in capsys.readouterr().out
    assert "reader brings its own" in refusal(capsys, str(user / "real"), "--weights", str(path))


def test_statistics_alone_give_the_frechet_distance_alone(user, monkeypatch, capsys):
    """Against mu = 0, sigma = c²: d² = |m|² + tr S + c² D - 2 c tr S^{1/2}."""
    stored = user / "stored.npz"
    np.savez(stored, mu=np.zeros(64), sigma=4 * np.eye(64), mu_s=np.ones(3), sigma_s=np.eye(3))
    argv = (str(user / "real"), "--reference", str(stored))
    assert "give --extractor inception (got reader)" in refusal(capsys, *argv)
    # The reader stands in for Inception, whose 2,048 features take seconds.
    reader = replace(load_extractor(), name="inception", preprocessing=described("tf1_bilinear"))
    monkeypatch.setattr("diffgen.commands.bench.load_extractor", lambda *_: reader)
    found = evaluate(user, "stored", *argv, "--extractor", "inception")
    pixels = torch.from_numpy(np.load(user / "real.npz")["arr_0"]).permute(0, 3, 1, 2)
    features = reader(pixels).double().numpy()
    spectrum = np.linalg.eigvalsh(np.cov(features, rowvar=False)).clip(min=0)
    gap = (features.mean(0) ** 2).sum()
    expected = gap + spectrum.sum() + 4 * 64 - 2 * 2 * np.sqrt(spectrum).sum()
    assert found["scores"]["fid"] == pytest.approx(expected, rel=1e-6)
    assert found["scores"]["precision"] is found["scores"]["recall"] is found["floor"] is None
    for name in ("precision", "recall", "density", "coverage", "kid", "authenticity", "copied"):
        assert found["not_available"][name] == "the reference holds statistics, but no images"
    assert found["counts"] == {"images": 48, "reference": 0, "floor": 0}

    np.savez(stored, mu=np.zeros(7), sigma=np.eye(7))
    said = refusal(capsys, *argv, "--extractor", "inception")
    assert "mu and sigma of 7 features, but inception has 64" in said
    np.savez(stored, mu=np.zeros(64), sigma=np.triu(np.ones((64, 64))))
    assert "is no covariance" in refusal(capsys, *argv, "--extractor", "inception")


def test_a_model_draws_the_classes_of_an_unbalanced_reference(user):
    shapes, wanted = Shapes(16, 16, "held_out"), Counter(UNBALANCED)
    for i in range(400):
        name = CLASS_NAMES[shapes[i][1]]
        if wanted[name]:
            wanted[name] -= 1
            file = user / "unbalanced" / name / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            to_pil(to_uint8(shapes[i][0][None]))[0].save(file)
    argv = (str(user / "model"), "--steps", "1")
    found = evaluate(user, "follows", *argv, "--reference", str(user / "unbalanced"))
    assert found["counts"] == {"images": 13, "reference": 13, "floor": 13}
    assert found["label_counts"]["images"] == found["label_counts"]["reference"]
    assert len(found["label_counts"]["images"]) == 2
    assert "as in the reference" in found["labels"]
    found = evaluate(user, "turns", *argv, "--num-images", "8")
    assert found["label_counts"]["images"] == dict.fromkeys(CLASS_NAMES, 1)
    assert found["labels"] == "the classes in turn"


def test_every_mistake_is_told_at_once(user, capsys):
    said = refusal(capsys, "gone", "--reference", "none", "--out", str(user), "--weights", "w")
    for words in ("5 mistakes", "gone does not exist", "none is neither", "weights: w does not"):
        assert words in said
    assert f"out: {user} is a folder" in said
    assert launch("sample", ["gone", "--out", "/proc/x", "--steps", "0"], "sample") == 2
    said = capsys.readouterr().err
    for words in ("3 mistakes", "gone does not exist", "/proc/x is not writable", "steps"):
        assert words in said


TWO = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]


def launch_two(user: Path, *argv: str) -> subprocess.CompletedProcess:
    """eval/evaluate.py in two processes that talk by gloo."""
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    command = [*TWO, str(ROOT / "eval/evaluate.py"), *argv]
    environment |= {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, cwd=user, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_two_processes_score_as_one(user):
    """20 images in batches of 8: one process draws two batches, the other one."""
    threads = torch.get_num_threads()
    argv = ["model", "--num-images", "20", "--batch-size", "8", "--steps", "2"]
    try:
        torch.set_num_threads(1)
        one = evaluate(user, "one", str(user / "model"), *argv[1:])
    finally:
        torch.set_num_threads(threads)
    done = launch_two(user, *argv, "--out", "two.json")
    assert done.returncode == 0, done.stderr[-3000:]
    two = json.loads((user / "two.json").read_text())
    assert (one["processes"], two["processes"]) == (1, 2)
    assert done.stdout.count("saved as two.json") == 1
    assert "12/12" in done.stderr  # the main process's bar
    assert "8/8" not in done.stderr  # and no other
    for part in ("scores", "intervals"):
        for name, figure in one[part].items():
            assert two[part][name] == pytest.approx(figure, abs=1e-9), (part, name)
    assert two["floor"]["scores"] == pytest.approx(one["floor"]["scores"], abs=1e-9)
    assert two["reference_colour"] == one["reference_colour"]
    assert two["label_counts"] == one["label_counts"]


@pytest.mark.slow
def test_two_processes_tell_a_mistake_once(user):
    done = launch_two(user, "model", "--reference", "nothing")
    assert done.returncode != 0
    assert done.stderr.count("nothing is neither shapes, digits nor a folder") == 1


@pytest.mark.slow
def test_a_picture_one_process_cannot_read_stops_both_with_one_message(user):
    folder = user / "damaged"
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (16, 3, 16, 16), dtype=torch.uint8, generator=generator)
    for k, picture in enumerate(to_pil(pixels)):
        picture.save(folder / f"{k:02d}.png")
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0)).tolist()
    damaged = folder / f"{order[9]:02d}.png"  # in the second batch
    content = damaged.read_bytes()
    damaged.write_bytes(content[:200] + bytes(99) + content[299:])  # its header and end are whole
    argv = ["damaged", "--num-images", "16", "--batch-size", "8", "--size", "16x16"]
    done = launch_two(user, *argv, "--out", "damaged.json")
    assert done.returncode != 0
    assert done.stderr.count(f"damaged/{damaged.name} is not a readable image") == 1
    assert "[rank" not in done.stderr  # no process's traceback
    assert not (user / "damaged.json").exists()
