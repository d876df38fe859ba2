"""eval/reference.py, and evaluations against the files it writes."""

import json
import pickle
import signal
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from diffgen.cli import launch
from diffgen.commands.real_images import mixed
from diffgen.config.npz import inspect_npz
from diffgen.config.profiles import DINOV2
from diffgen.data.pixels import to_pil, to_uint8
from diffgen.data.shapes import CLASS_NAMES, Shapes
from diffgen.metrics import load_extractor
from tests.e2e.forked import Running
from tests.metrics.conftest import inception_weights  # noqa: F401

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

REAL, SCORED = range(96), range(5000, 5080)
NEEDS_IMAGES = {"kid", "precision", "recall", "density", "coverage", "authenticity", "copied"}


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    """Shapes of 24x32: ``real`` in class folders, more reals than features, and ``scored.npz``."""
    folder = tmp_path_factory.mktemp("user")
    shapes = Shapes(24, 32, "train")
    for i in REAL:
        picture, label = shapes[i]
        file = folder / "real" / CLASS_NAMES[label] / f"{i:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        to_pil(to_uint8(picture[None]))[0].save(file)
    pixels = to_uint8(torch.stack([shapes[i][0] for i in SCORED])).permute(0, 2, 3, 1).numpy()
    names = sorted(CLASS_NAMES)  # as the folder's classes are numbered
    labels = [names.index(CLASS_NAMES[shapes[i][1]]) for i in SCORED]
    np.savez(folder / "scored.npz", pixels // 2, labels)
    return folder


def keep(user: Path, name: str, *argv: str) -> Path:
    """Write a reference file in this process."""
    out = user / f"{name}.npz"
    assert launch("reference", [*argv, "--out", str(out)], "reference") == 0
    assert not out.with_name(f"{out.name}.parts").exists()
    return out


def evaluate(user: Path, reference: Path | str, *argv: str) -> dict:
    """Score ``scored.npz``, or another source, against all of a reference."""
    source = () if argv and not argv[0].startswith("-") else (str(user / "scored.npz"),)
    out = user / "scores.json"
    given = [*source, *argv, "--reference", str(reference), "--no-floor", "--out", str(out)]
    assert launch("eval", given, "eval") == 0
    return json.loads(out.read_text())


def refusal(capsys, verb: str, *argv: str) -> str:
    """The one message of a refused command."""
    assert launch(verb, [*argv, "--out", "never.npz" if verb == "reference" else "x"], verb) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def test_a_reference_gives_the_figures_of_the_folder_it_is_made_of(user):
    file = keep(user, "whole", str(user / "real"))
    folder, stored = evaluate(user, user / "real"), evaluate(user, file)
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
    assert header["source"] == header["data"]["path"] == str(user / "real")
    assert header["extractors"] == {"reader": load_extractor().facts()}
    assert header["class_names"] == sorted(CLASS_NAMES)


def test_statistics_are_of_all_images_and_kept_ones_a_fixed_random_choice(user):
    whole, few = keep(user, "whole", str(user / "real")), user / "few.npz"
    keep(user, "few", str(user / "real"), "--keep-images", "20", "--batch-size", "7")
    found, expected = evaluate(user, few), evaluate(user, whole)
    assert found["scores"]["fid"] == pytest.approx(expected["scores"]["fid"], rel=1e-9)
    assert found["counts"] == {"images": 80, "reference": 20, "floor": 0}
    files = sorted((user / "real").rglob("*.png"))
    with np.load(few) as arrays:
        assert arrays["arr_0"].shape == (20, 24, 32, 3)
        shapes, names = Shapes(24, 32, "train"), sorted(CLASS_NAMES)
        for k, number in enumerate(mixed(96)[:20]):
            picture, label = shapes[int(files[number].stem)]
            assert (arrays["arr_0"][k] == to_uint8(picture).permute(1, 2, 0).numpy()).all()
            assert names[arrays["arr_1"][k]] == CLASS_NAMES[label]
        assert len(set(arrays["arr_1"].tolist())) > 4


def test_a_file_without_images_says_what_cannot_be_had(user):
    file = keep(user, "bare", str(user / "real"), "--keep-images", "0")
    with np.load(file) as arrays:
        assert set(arrays) == {"reader.mu", "reader.sigma", "header"}
    found = evaluate(user, file)
    expected = evaluate(user, user / "real")["scores"]
    assert found["scores"]["fid"] == pytest.approx(expected["fid"], rel=1e-9)
    for name in NEEDS_IMAGES:
        assert found["scores"][name] is None
        assert found["not_available"][name] == "the reference holds statistics, but no images"


def test_a_file_without_statistics_says_that_the_distance_is_to_its_images(user):
    pixels = np.load(keep(user, "whole", str(user / "real")))["arr_0"]
    np.savez(user / "images.npz", pixels[:70])
    found = evaluate(user, user / "images.npz")
    assert found["scores"]["precision"] is not None
    assert found["notes"] == [
        "FID: against 70 images; the reference file holds no statistics of a whole set for this "
        "network"
    ]


def test_drawn_images_are_those_an_evaluation_compares_with(user):
    argv = ("--size", "24x32", "--num-images", "80")
    file = keep(user, "digits", "digits", *argv)
    assert inspect_npz(file, "r").header["source"] == "digits, held-out split"
    found, expected = evaluate(user, file), evaluate(user, "digits", *argv)
    assert found["counts"] == expected["counts"]
    assert found["scores"]["fid"] == pytest.approx(expected["scores"]["fid"], rel=1e-9)
    assert found["scores"]["recall"] == expected["scores"]["recall"]
    assert keep(user, "shapes", "shapes", "--size", "16x16", "--num-images", "9").exists()


def test_another_size_network_resize_or_weights_are_refused_by_both_names(user, capsys):
    bare = keep(user, "bare", str(user / "real"), "--keep-images", "0")
    argv = (str(user / "scored.npz"), "--reference")
    said = refusal(capsys, "eval", *argv, str(bare), "--size", "32x32")
    assert "bare.npz is of images at 24x32, these are 32x32" in said
    weights = []
    for seed in range(2):
        torch.manual_seed(seed)
        weights.append(user / f"timm-{seed}.pth")
        torch.save(timm.create_model("test_efficientnet").state_dict(), weights[-1])
    network = ("--extractor", "test_efficientnet", "--weights", str(weights[0]))
    file = keep(user, "timm", str(user / "real"), *network, "--resize", "torch_bilinear")
    known = load_extractor("test_efficientnet", weights[0], "cpu", "torch_bilinear").weights_sha256
    for other in (
        ("--resize", "pil_bicubic"),
        ("--resize", "torch_bilinear", "--weights", str(weights[1])),
    ):
        said = refusal(capsys, "eval", *argv, str(file), *network, *other)
        assert "timm.npz holds statistics of test_efficientnet (torch_bilinear to" in said
        assert f"weights {known[:12]})" in said
        assert f"this evaluation sees its images through test_efficientnet ({other[1]} to" in said
    said = refusal(capsys, "eval", *argv, str(bare), *network)
    assert "bare.npz holds statistics of reader (x / 127.5 - 1" in said
    assert "through test_efficientnet (" in said
    headless = user / "headless.npz"  # as ADM's: statistics of its images' size
    np.savez(headless, np.load(user / "scored.npz")["arr_0"], mu=np.zeros(9), sigma=np.eye(9))
    said = refusal(capsys, "eval", *argv, str(headless), "--size", "16x16")
    assert "headless.npz is of images at 24x32, these are 16x16" in said


def test_one_pass_keeps_several_networks_and_each_is_found_again(user):
    torch.manual_seed(0)
    path = user / "further.pth"
    torch.save(timm.create_model("test_resnet").state_dict(), path)
    recipe = user / "two.yaml"
    recipe.write_text(f"further: [{{name: test_resnet, weights: {path}, resize: pil_bicubic}}]")
    file = keep(user, "networks", str(user / "real"), "--config", str(recipe))
    assert list(inspect_npz(file, "r").statistics) == ["reader", "test_resnet pil_bicubic"]
    argv = ("--extractor", "test_resnet", "--weights", str(path), "--resize", "pil_bicubic")
    found, expected = (evaluate(user, one, *argv) for one in (file, user / "real"))
    assert found["notes"][-1] == "FID: against stored statistics of 96 images"
    # 96 images are fewer than the features, so from moments the trace is good to about 1e-5.
    assert found["scores"]["fid"] == pytest.approx(expected["scores"]["fid"], rel=1e-4)


def test_statistics_of_pytorch_fid_keep_their_values_and_what_is_known(user, capsys):
    generator = np.random.default_rng(0)
    mean, cov = generator.standard_normal(2048), np.diag(generator.random(2048))
    np.savez(user / "fid.npz", mu=mean, sigma=cov)
    argv = ("--extractor", "inception", "--resize", "torch_bilinear", "--size", "24x32")
    file = keep(user, "converted", str(user / "fid.npz"), *argv)
    assert "inception: mean and covariance of 2,048 features of an unstated number" in (
        capsys.readouterr().out
    )
    with np.load(file) as arrays:  # as pytorch-fid and guided-diffusion read them
        np.testing.assert_array_equal(arrays["mu"], mean)
        np.testing.assert_array_equal(arrays["sigma"], cov)
    header = inspect_npz(file, "r").header
    facts = header["extractors"]["inception"]
    assert facts["preprocessing"] == "torch_bilinear to 299x299, then (x - 128) / 128"
    assert facts["weights_sha256"] is header["num_images"] is header["quantisation"] is None
    said = refusal(capsys, "reference", str(user / "fid.npz"))
    assert "give --profile adm or --extractor inception (got reader)" in said
    assert "is a reference file already" in refusal(capsys, "reference", str(file))


def test_statistics_of_edm2_become_a_reference_of_both_networks(user, capsys):
    sizes = {"fid": 2048, "fd_dinov2": 1024}
    content = {k: {"mu": np.full(n, 0.5), "sigma": 2 * np.eye(n)} for k, n in sizes.items()}
    path = user / "img64.pkl"
    path.write_bytes(pickle.dumps({"num_images": 50_000, **content}))
    file = keep(user, "edm2", str(path), "--profile", "edm2", "--size", "64x64")
    found = inspect_npz(file, "r")
    dino = f"{DINOV2} torch_bicubic_antialias 224x224"
    assert list(found.statistics) == ["inception", dino]
    assert (found.header["num_images"], found.header["profile"]) == (50_000, "edm2")
    with np.load(file) as arrays:
        np.testing.assert_array_equal(arrays[f"{dino}.sigma"], 2 * np.eye(1024))
    facts = found.header["extractors"]
    assert facts["inception"]["preprocessing"].startswith("tf1_bilinear to 299x299")
    assert facts[dino]["preprocessing"].startswith("torch_bicubic_antialias to 224x224, / 255")
    assert "give --profile edm2" in refusal(capsys, "reference", str(path))
    path.write_bytes(pickle.dumps({"num_images": 50_000}))
    said = refusal(capsys, "reference", str(path), "--profile", "edm2")
    assert "must hold num_images, and mu and sigma under fid or fd_dinov2" in said


def test_damaged_files_are_left_out_and_too_few_images_refused(user, capsys):
    folder = user / "some"
    folder.mkdir()
    for k, picture in enumerate(to_pil(torch.zeros(4, 3, 16, 16, dtype=torch.uint8))):
        picture.save(folder / f"{k}.png")
    (folder / "2.png").write_bytes(b"no picture")
    file = keep(user, "some", str(folder), "--on-error", "skip")
    assert inspect_npz(file, "r").header["num_images"] == inspect_npz(file, "r").count == 3
    said = capsys.readouterr()
    assert "source: 1 images cannot be read and are left out" in said.err
    assert "too few images for a covariance of full rank" in said.out
    assert "2.png is not a readable image" in refusal(capsys, "reference", str(folder))
    argv = ("--on-error", "skip", "--num-images", "4")
    assert "has 3 images, not 4" in refusal(capsys, "reference", str(folder), *argv)


def test_every_mistake_is_told_at_once(user, capsys):
    argv = ["nothing", "--out", str(user), "--weights", "w", "--keep-images", "-1"]
    assert launch("reference", argv, "reference") == 2
    said = capsys.readouterr().err
    for words in (
        "nothing is neither shapes",
        "is no name of an .npz",
        "keep_images",
        "w does not",
    ):
        assert words in said
    assert "comes in any size; give --size" in refusal(capsys, "reference", "shapes")
    source = str(user / "scored.npz")
    assert launch("reference", [source, "--out", source], "reference") == 2
    assert "is the source itself" in capsys.readouterr().err


def test_a_parquet_file_is_read_like_a_folder(user):
    datasets = pytest.importorskip("datasets")
    files = sorted((user / "real").rglob("*.png"))[:10]
    labels = datasets.ClassLabel(names=sorted(CLASS_NAMES))
    rows = datasets.Dataset.from_dict(
        {"image": [str(file) for file in files], "label": [file.parent.name for file in files]},
        datasets.Features({"image": datasets.Image(), "label": labels}),
    )
    rows.to_parquet(user / "rows.parquet")
    found = keep(user, "rows", str(user / "rows.parquet"), "--size", "24x32")
    header = inspect_npz(found, "r").header
    assert header["class_names"] == sorted(CLASS_NAMES)
    assert header["data"]["kind"] == "hub"
    with np.load(found) as arrays:
        assert arrays["arr_0"].shape == (10, 24, 32, 3)


def arrays_in(file: Path) -> dict[str, np.ndarray]:
    with np.load(file) as arrays:
        return dict(arrays)


def test_kill_9_and_again_and_two_processes_give_the_same_file(user):
    argv = ["shapes", "--size", "24x32", "--num-images", "1600", "--keep-images", "100"]
    alone = Running("eval/reference.py", *argv, "--out", "alone.npz", folder=user)
    assert alone.codes == [0], alone.said
    killed = Running("eval/reference.py", *argv, "--out", "killed.npz", folder=user)
    shards = "killed.npz.parts/*/[0-9]*.safetensors"
    killed.until(lambda: len(list(user.glob(shards))) > 1)
    killed.signal(signal.SIGKILL)
    assert killed.codes == [-signal.SIGKILL]
    assert not (user / "killed.npz").exists()
    assert 1 < len(list(user.glob(shards))) < 25
    again = Running("eval/reference.py", *argv, "--out", "killed.npz", folder=user)
    assert again.codes == [0], again.said
    assert "| 0/1600" not in again.said_in[0].read_text()  # it did not begin at the beginning
    two = Running("eval/reference.py", *argv, "--out", "two.npz", folder=user, world=2)
    assert two.codes == [0, 0], two.said
    assert "| 832/832" in two.said_in[0].read_text()  # half of the shards
    expected = arrays_in(user / "alone.npz")
    for name in ("killed.npz", "two.npz"):
        found = arrays_in(user / name)
        assert found.keys() == expected.keys()
        for key, values in expected.items():
            np.testing.assert_array_equal(found[key], values, err_msg=f"{name}: {key}")
        assert not (user / f"{name}.parts").exists()


@pytest.mark.slow
def test_inceptions_statistics_have_adms_names_and_serve_its_profile(
    user,
    inception_weights,  # noqa: F811
):
    argv = ("--profile", "adm", "--weights", str(inception_weights), "--batch-size", "8")
    source = user / "twelve.npz"
    np.savez(source, np.load(user / "scored.npz")["arr_0"][:12])
    file = keep(user, "adm", str(source), *argv)
    with np.load(file) as arrays:
        assert arrays["mu"].shape == (2048,)
        assert arrays["sigma_s"].shape == (2023, 2023)
        assert "arr_1" not in arrays  # its labels are not known
    found = evaluate(user, file, str(source), *argv)
    scale = np.trace(arrays_in(file)["sigma"])
    assert abs(found["scores"]["fid"]) < 1e-5 * scale  # the same images
    assert abs(found["scores"]["sfid"]) < 1e-5 * np.trace(arrays_in(file)["sigma_s"])
    assert found["profile"] == found["reference_file"]["profile"] == "adm"
