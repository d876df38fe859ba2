"""eval/reference.py: what it keeps of images, and how it goes on."""

import signal

import numpy as np
import pytest
import timm
import torch

from diffgen.cli import launch
from diffgen.commands.real_images import Part
from diffgen.config.hub import HubConfig
from diffgen.config.npz import inspect_npz
from diffgen.data.hub import Hub
from diffgen.data.pixels import to_pil
from diffgen.data.shapes import CLASS_NAMES
from tests.e2e.forked import Running
from tests.e2e.references import arrays_in, evaluate, keep, refusal

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_one_pass_keeps_several_networks_and_each_is_found_again(work):
    torch.manual_seed(0)
    path = work / "further.pth"
    torch.save(timm.create_model("test_resnet").state_dict(), path)
    recipe = work / "two.yaml"
    recipe.write_text(f"further: [{{name: test_resnet, weights: {path}, resize: pil_bicubic}}]")
    file = keep(work, "networks", str(work / "real"), "--config", str(recipe))
    assert list(inspect_npz(file, "r").statistics) == ["reader", "test_resnet pil_bicubic"]
    argv = ("--extractor", "test_resnet", "--weights", str(path), "--resize", "pil_bicubic")
    found, expected = (evaluate(work, one, *argv) for one in (file, work / "real"))
    assert found["notes"][-1] == "FID: against stored statistics of 96 images"
    # 96 images are fewer than the features, so from moments the trace is good to about 1e-5.
    assert found["scores"]["fid"] == pytest.approx(expected["scores"]["fid"], rel=1e-4)


def test_damaged_files_are_left_out_and_too_few_images_refused(work, capsys):
    folder = work / "some"
    folder.mkdir()
    for k, picture in enumerate(to_pil(torch.zeros(4, 3, 16, 16, dtype=torch.uint8))):
        picture.save(folder / f"{k}.png")
    (folder / "2.png").write_bytes(b"no picture")
    file = keep(work, "some", str(folder), "--on-error", "skip")
    assert inspect_npz(file, "r").header["num_images"] == inspect_npz(file, "r").count == 3
    said = capsys.readouterr()
    assert "source: 1 images cannot be read and are left out" in said.err
    assert "too few images for a covariance of full rank" in said.out
    assert "2.png is not a readable image" in refusal(capsys, "reference", str(folder))
    argv = ("--on-error", "skip", "--num-images", "4")
    assert "has 3 images, not 4" in refusal(capsys, "reference", str(folder), *argv)


def test_every_mistake_is_told_at_once(work, capsys):
    argv = ["nothing", "--out", str(work), "--weights", "w", "--keep-images", "-1"]
    assert launch("reference", argv, "reference") == 2
    said = capsys.readouterr().err
    for words in ("nothing is neither", "is no name of an .npz", "keep_images", "w does not"):
        assert words in said
    assert "comes in any size; give --size" in refusal(capsys, "reference", "shapes")
    source = str(work / "scored.npz")
    assert launch("reference", [source, "--out", source], "reference") == 2
    assert "is the source itself" in capsys.readouterr().err


def test_a_parquet_file_is_read_like_a_folder(work):
    datasets = pytest.importorskip("datasets")
    files = sorted((work / "real").rglob("*.png"))[:10]
    labels = datasets.ClassLabel(names=sorted(CLASS_NAMES))
    rows = datasets.Dataset.from_dict(
        {"image": [str(file) for file in files], "label": [file.parent.name for file in files]},
        datasets.Features({"image": datasets.Image(), "label": labels}),
    )
    rows.to_parquet(work / "rows.parquet")
    found = keep(work, "rows", str(work / "rows.parquet"), "--size", "24x32")
    header = inspect_npz(found, "r").header
    assert header["class_names"] == sorted(CLASS_NAMES)
    assert header["data"]["kind"] == "hub"
    with np.load(found) as arrays:
        assert arrays["arr_0"].shape == (10, 24, 32, 3)


def test_a_parquet_file_that_was_written_anew_is_another_set_of_images(tmp_path):
    datasets = pytest.importorskip("datasets")

    def write(grey: int) -> None:
        pictures = np.full((3, 16, 16, 3), grey, np.uint8)
        features = datasets.Features({"image": datasets.Image()})
        datasets.Dataset.from_dict({"image": list(pictures)}, features).to_parquet(file)

    def facts() -> dict:
        return Part.whole(Hub(HubConfig(name=str(file), size="16x16"))).facts("16x16")

    file = tmp_path / "rows.parquet"
    write(10)
    first = facts()
    assert facts() == first
    write(20)
    assert facts() != first


@pytest.mark.slow
def test_kill_9_and_again_and_two_processes_give_the_same_file(work):
    argv = ["shapes", "--size", "24x32", "--num-images", "1600", "--keep-images", "100"]
    alone = Running("eval/reference.py", *argv, "--out", "alone.npz", folder=work)
    assert alone.codes == [0], alone.said
    killed = Running("eval/reference.py", *argv, "--out", "killed.npz", folder=work)
    shards = "killed.npz.parts/*/[0-9]*.safetensors"
    killed.until(lambda: len(list(work.glob(shards))) > 1)
    killed.signal(signal.SIGKILL)
    assert killed.codes == [-signal.SIGKILL]
    assert not (work / "killed.npz").exists()
    assert 1 < len(list(work.glob(shards))) < 25
    again = Running("eval/reference.py", *argv, "--out", "killed.npz", folder=work)
    assert again.codes == [0], again.said
    assert "| 0/1600" not in again.said_in[0].read_text()  # it did not begin at the beginning
    two = Running("eval/reference.py", *argv, "--out", "two.npz", folder=work, world=2)
    assert two.codes == [0, 0], two.said
    assert "| 832/832" in two.said_in[0].read_text()  # half of the shards
    expected = arrays_in(work / "alone.npz")
    for name in ("killed.npz", "two.npz"):
        found = arrays_in(work / name)
        assert found.keys() == expected.keys()
        for key, values in expected.items():
            np.testing.assert_array_equal(found[key], values, err_msg=f"{name}: {key}")
        assert not (work / f"{name}.parts").exists()


@pytest.mark.slow
def test_inceptions_statistics_have_adms_names_and_serve_its_profile(work, inception_weights):
    argv = ("--profile", "adm", "--weights", str(inception_weights), "--batch-size", "8")
    source = work / "twelve.npz"
    np.savez(source, np.load(work / "scored.npz")["arr_0"][:12])
    file = keep(work, "adm", str(source), *argv)
    with np.load(file) as arrays:
        assert arrays["mu"].shape == (2048,)
        assert arrays["sigma_s"].shape == (2023, 2023)
        assert "arr_1" not in arrays  # its labels are not known
    found = evaluate(work, file, str(source), *argv)
    scale = np.trace(arrays_in(file)["sigma"])
    assert abs(found["scores"]["fid"]) < 1e-5 * scale  # the same images
    assert abs(found["scores"]["sfid"]) < 1e-5 * np.trace(arrays_in(file)["sigma_s"])
    assert found["profile"] == found["reference_file"]["profile"] == "adm"
