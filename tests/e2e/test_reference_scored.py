"""Evaluations against files of eval/reference.py."""

import json
from hashlib import sha256

import numpy as np
import pytest
import timm
import torch

from diffgen.commands.compare_entries import read_entries
from diffgen.commands.compare_tables import apart, tables
from diffgen.commands.real_images import mixed
from diffgen.config.evaluate import EvaluateConfig
from diffgen.config.npz import inspect_npz
from diffgen.data.pixels import to_uint8
from diffgen.data.shapes import CLASS_NAMES, Shapes
from diffgen.metrics import load_extractor
from tests.e2e.references import arrays_in, evaluate, keep, refusal

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
NEEDS_IMAGES = {"kid", "precision", "recall", "density", "coverage", "authenticity", "copied"}


def test_a_reference_gives_the_figures_of_the_folder_it_is_made_of(work):
    file = keep(work, "whole", str(work / "real"))
    folder, stored = evaluate(work, work / "real"), evaluate(work, file)
    for name, value in folder["scores"].items():
        if value is None:
            assert stored["scores"][name] is None
        elif name != "fid_infinity":  # of the images alone where the moments are stored
            assert stored["scores"][name] == pytest.approx(value, rel=1e-9), name
    assert folder["scores"]["fid"] > 1
    assert stored["notes"] == ["FID: against stored statistics of 96 images"]
    assert folder["notes"] == []
    assert stored["label_counts"] == folder["label_counts"]
    header = stored["reference_file"]
    assert header == inspect_npz(file, "r").header
    assert (header["size"], header["num_images"], header["kept_images"]) == ("24x32", 96, 96)
    assert header["source"] == header["data"]["path"] == str(work / "real")
    assert header["extractors"] == {"reader": load_extractor().facts()}
    assert header["class_names"] == sorted(CLASS_NAMES)


def test_statistics_are_of_all_images_and_kept_ones_a_fixed_random_choice(work):
    whole = keep(work, "whole", str(work / "real"))
    few = keep(work, "few", str(work / "real"), "--keep-images", "20", "--batch-size", "7")
    found, expected = evaluate(work, few), evaluate(work, whole)
    assert found["scores"]["fid"] == pytest.approx(expected["scores"]["fid"], rel=1e-9)
    assert found["counts"] == {"images": 80, "reference": 20, "floor": 0}
    files = sorted((work / "real").rglob("*.png"))
    with np.load(few) as arrays:
        assert arrays["arr_0"].shape == (20, 24, 32, 3)
        shapes, names = Shapes(24, 32, "train"), sorted(CLASS_NAMES)
        for k, number in enumerate(mixed(96)[:20]):
            picture, label = shapes[int(files[number].stem)]
            assert (arrays["arr_0"][k] == to_uint8(picture).permute(1, 2, 0).numpy()).all()
            assert names[arrays["arr_1"][k]] == CLASS_NAMES[label]
        assert len(set(arrays["arr_1"].tolist())) > 4


def test_a_file_without_images_says_what_cannot_be_had(work):
    file = keep(work, "bare", str(work / "real"), "--keep-images", "0")
    with np.load(file) as arrays:
        assert set(arrays) == {"reader.mu", "reader.sigma", "header"}
    found = evaluate(work, file)
    expected = evaluate(work, work / "real")["scores"]
    assert found["scores"]["fid"] == pytest.approx(expected["fid"], rel=1e-9)
    for name in NEEDS_IMAGES:
        assert found["scores"][name] is None
        assert found["not_available"][name] == "the reference holds statistics, but no images"


def test_a_file_without_statistics_says_that_the_distance_is_to_its_images(work):
    pixels = np.load(keep(work, "whole", str(work / "real")))["arr_0"]
    np.savez(work / "images.npz", pixels[:70])
    found = evaluate(work, work / "images.npz")
    assert found["scores"]["precision"] is not None
    assert found["notes"] == [
        "FID: against 70 images; the reference file holds no statistics of a whole set for this "
        "network"
    ]


def test_drawn_images_are_those_an_evaluation_compares_with(work):
    argv = ("--size", "24x32", "--num-images", "80")
    file = keep(work, "digits", "digits", *argv)
    assert inspect_npz(file, "r").header["source"] == "digits, held-out split"
    found, expected = evaluate(work, file), evaluate(work, "digits", *argv)
    assert found["counts"] == expected["counts"]
    assert found["scores"]["fid"] == pytest.approx(expected["scores"]["fid"], rel=1e-9)
    assert found["scores"]["recall"] == expected["scores"]["recall"]
    assert keep(work, "shapes", "shapes", "--size", "16x16", "--num-images", "9").exists()


def test_another_size_network_resize_or_weights_are_refused_by_both_names(work, capsys):
    bare = keep(work, "bare", str(work / "real"), "--keep-images", "0")
    argv = (str(work / "scored.npz"), "--reference")
    said = refusal(capsys, "eval", *argv, str(bare), "--size", "32x32")
    assert "bare.npz is of images at 24x32, these are 32x32" in said
    weights = []
    for seed in range(2):
        torch.manual_seed(seed)
        weights.append(work / f"timm-{seed}.pth")
        torch.save(timm.create_model("test_efficientnet").state_dict(), weights[-1])
    network = ("--extractor", "test_efficientnet", "--weights", str(weights[0]))
    file = keep(work, "timm", str(work / "real"), *network, "--resize", "torch_bilinear")
    known = load_extractor("test_efficientnet", weights[0], "cpu", "torch_bilinear").weights_sha256
    for other in (
        ("--resize", "pil_bicubic"),
        ("--resize", "torch_bilinear", "--weights", str(weights[1])),
    ):
        said = refusal(capsys, "eval", *argv, str(file), *network, *other)
        assert "timm.npz holds statistics of test_efficientnet (torch_bilinear to" in said
        assert f"weights {known[:12]})" in said
        assert f"this evaluation sees its images through test_efficientnet ({other[1]} to" in said
    for kept in ("0", "20"):  # a headline against a few kept images is none against the file
        some = keep(work, "bare", str(work / "real"), "--keep-images", kept)
        said = refusal(capsys, "eval", *argv, str(some), *network)
        assert "bare.npz holds statistics of reader (x / 127.5 - 1" in said
        assert "through test_efficientnet (" in said
        assert "eval/reference.py IMAGES --extractor test_efficientnet --out FILE.npz makes" in said
    headless = work / "headless.npz"  # as ADM's: statistics of its images' size
    np.savez(headless, np.load(work / "scored.npz")["arr_0"], mu=np.zeros(9), sigma=np.eye(9))
    said = refusal(capsys, "eval", *argv, str(headless), "--size", "16x16")
    assert "headless.npz is of images at 24x32, these are 16x16" in said


def test_a_further_network_that_the_file_lacks_is_scored_against_its_images_and_says_so(work):
    torch.manual_seed(0)
    path, recipe = work / "more.pth", work / "more.yaml"
    torch.save(timm.create_model("test_resnet").state_dict(), path)
    recipe.write_text(f"further: [{{name: test_resnet, weights: {path}}}]")
    file = keep(work, "lacking", str(work / "real"), "--keep-images", "20")
    found = evaluate(work, file, "--config", str(recipe))
    (further,) = found["further"]
    assert found["against"]["features"]["count"] == 96
    assert further["against"]["features"] == {"count": 20, "sha256": None}
    assert further["notes"][-1].startswith("FID: against 20 images; the reference file holds no")


def test_against_statistics_there_is_no_floor_and_no_image_is_spared_for_one(work):
    file = keep(work, "whole", str(work / "real"))
    found = evaluate(work, file, floor="--floor")
    assert found["counts"] == {"images": 80, "reference": 96, "floor": 0}
    assert found["floor"] is None
    assert "no floor: the statistics in the reference file are of all its images" in found["notes"]


def test_two_files_of_one_path_with_other_statistics_are_never_put_into_one_column(work):
    file = keep(work, "changed", str(work / "real"))
    arrays = arrays_in(file)
    saved = []
    for name, shift in (("first", 0), ("again", 0), ("other", 1e-3)):
        np.savez(file, **{**arrays, "reader.mu": arrays["reader.mu"] + shift})
        saved.append(work / f"{name}.json")
        saved[-1].write_text(json.dumps(evaluate(work, file)))
    first, again, other = (one for path in saved for one in read_entries(path))
    assert first.common == again.common
    assert apart(tables([first, other], [])).keys() == {"against.features.sha256"}
    expected = sha256(arrays["reader.mu"].tobytes() + arrays["reader.sigma"].tobytes())
    assert first.common["against.features.sha256"] == expected.hexdigest()
    assert first.common["against.features.count"] == "96"


def test_a_resize_that_a_file_does_not_state_is_taken_for_adms_alone(work, capsys):
    file = work / "silent.npz"
    np.savez(file, mu=np.zeros(2048), sigma=np.eye(2048))
    argv = (str(work / "scored.npz"), "--reference", str(file), "--profile")
    said = refusal(capsys, "eval", *argv, "clean")
    assert "resize, and is taken for tf1_bilinear, as ADM's files are, not for pil_bicubic" in said
    assert f"eval/reference.py {file} --profile clean --out FILE.npz writes a reference" in said
    stated = keep(work, "stated", str(file), "--profile", "clean", "--size", "24x32")
    for accepted, profile in ((file, "adm"), (stated, "clean")):
        config = EvaluateConfig(source=argv[0], reference=str(accepted), profile=profile)
        assert list(config.problems()) == []
