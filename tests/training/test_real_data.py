"""Real images through the real command: photographs, digits as files, damage, datasets."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from diffgen import DiffGenPipeline
from diffgen.cli import launch
from diffgen.commands.train import train
from diffgen.config.train import TrainConfig
from diffgen.data.digits import Digits
from diffgen.data.pixels import to_pil, to_uint8
from diffgen.errors import UserError

# diffusers hands a tensor to numpy the old way.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


def settings(out: Path, images: int = 32, workers: int = 0, scored: int = 0, **data) -> TrainConfig:
    """A training of a tiny model in steps of 8 images."""
    return TrainConfig.model_validate(
        {
            "out": out,
            "device": "cpu",
            "data": {"size": "16x16", **data},
            "model": {"depth": 1, "hidden_size": 32, "num_heads": 2, "patch_size": 4},
            "schedule": {"warmup_images": 8},
            "train": {
                "images": images,
                "batch_size": 8,
                "workers": workers,
                "log_images": 8,
                "checkpoint_images": 16,
                "sample_images": 0,
            },
            "sampling": {"scheduler": "euler", "steps": 1},
            "report": {"sizes": ["16x16"], "num_images": scored},
        }
    )


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "pipeline/transformer/diffusion_pytorch_model.safetensors")


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    for name in first:
        assert torch.equal(first[name], second[name]), name
    assert first.keys() == second.keys()


def losses(out: Path) -> list[float]:
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Every photograph and drawing that ships inside scikit-image, of all sizes and kinds."""
    import skimage.data

    folder = tmp_path_factory.mktemp("photographs")
    for path in sorted(Path(skimage.data.__file__).parent.iterdir()):
        if path.suffix in (".png", ".jpg"):
            shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Sixty digits as PNG files, a folder for every class."""
    folder = tmp_path_factory.mktemp("digits")
    source = Digits(16, 16)
    for i in range(60):
        picture, label = source[i]
        path = folder / source.class_names[label] / f"{i:03}.png"
        path.parent.mkdir(exist_ok=True)
        to_pil(to_uint8(picture[None]))[0].save(path)
    return folder


@pytest.fixture
def damaged_digits(digits, tmp_path):
    """The same with three of sixty, 5 %, damaged: cut, emptied, and broken inside."""
    folder = tmp_path / "damaged"
    shutil.copytree(digits, folder)
    files = sorted(folder.rglob("*.png"))
    files[7].write_bytes(files[7].read_bytes()[:100])
    files[23].write_bytes(b"")
    content = bytearray(files[41].read_bytes())
    content[content.index(b"IDAT") + 6] ^= 0xFF
    files[41].write_bytes(content)
    return folder, [files[7], files[23], files[41]]


def test_photographs_of_all_kinds_train_and_sample(photographs, tmp_path):
    modes, sizes = set(), set()
    for path in photographs.iterdir():
        with Image.open(path) as image:
            modes.add(image.mode)
            sizes.add(image.size)
    assert {"L", "RGB", "RGBA"} <= modes
    assert len(sizes) >= 10
    train(settings(tmp_path / "run", kind="folder", path=photographs, crop="random"))
    assert len(losses(tmp_path / "run")) == 4
    pipe = DiffGenPipeline.from_pretrained(tmp_path / "run/pipeline")
    assert list(pipe.config.class_names) == [photographs.name]
    (picture,) = pipe(num_inference_steps=1, height=16, width=24).images
    assert picture.size == (24, 16)
    assert (tmp_path / "run/samples/sizes.png").exists()


def test_digits_as_files_are_the_digits_that_ship(digits, tmp_path):
    """The same classes and pixels, whichever way they come in."""
    train(settings(tmp_path / "run", kind="folder", path=digits))
    pipe = DiffGenPipeline.from_pretrained(tmp_path / "run/pipeline")
    assert list(pipe.config.class_names) == [str(digit) for digit in range(10)]
    assert len(pipe(class_labels=["3", "7"], num_inference_steps=1).images) == 2


def test_a_folder_with_damaged_files_trains_under_skip_and_says_which(
    damaged_digits, tmp_path, capfd
):
    folder, bad = damaged_digits
    data = {"kind": "folder", "path": folder, "on_error": "skip"}
    train(settings(tmp_path / "whole", images=64, **data))
    said = capfd.readouterr().err
    assert "data: 2 of 60 images cannot be read and are skipped" in said
    for path in bad:
        assert said.count(str(path)) == 1
    assert f"{bad[2]} is not a readable image" in said
    listed = (tmp_path / "whole/skipped.txt").read_text().splitlines()
    assert [line.split(": ")[0] for line in listed] == [str(bad[0]), str(bad[1])]


def test_it_is_scored_against_the_files_that_can_be_read(damaged_digits, tmp_path, capfd):
    """And, by the command, so is another set of pictures with damaged ones in it."""
    folder, bad = damaged_digits
    data = {"kind": "folder", "path": folder, "on_error": "skip", "subset": "0:50"}
    train(settings(tmp_path / "run", images=16, scored=16, **data))
    (file,) = (tmp_path / "run").glob("evaluation-*.json")
    found = json.loads(file.read_text())
    assert found["reference_data"]["subset"] == "0:50"
    lines = found["left_out"]["reference"]
    assert [line.split(": ")[0] for line in lines[:2]] == [str(path) for path in bad[:2]]
    assert found["counts"] == {"images": 16, "reference": 16, "floor": 16}

    argv = [str(folder), "--reference", str(folder), "--no-floor", "--device", "cpu"]
    assert launch("eval", argv, "eval") == 2
    assert "--on-error skip leaves such files out" in capfd.readouterr().err
    assert launch("eval", [*argv, "--size", "16x16"], "eval") == 2
    assert "2 of 60 images cannot be read" in capfd.readouterr().err
    out = tmp_path / "scores.json"
    assert launch("eval", [*argv, "--on-error", "skip", "--out", str(out)], "eval") == 0
    said = capfd.readouterr().err
    assert "source: 3 images cannot be read and are left out" in said
    assert "reference: 3 images cannot be read and are left out" in said
    found = json.loads(out.read_text())
    assert found["counts"]["images"] == found["counts"]["reference"] == 57
    assert found["scores"]["fid"] == pytest.approx(0, abs=1e-4)
    assert all(str(path) in "".join(found["left_out"]["images"]) for path in bad)


def test_resumed_after_damage_it_is_bit_for_bit_the_same(damaged_digits, tmp_path):
    folder, _ = damaged_digits
    data = {"kind": "folder", "path": folder, "on_error": "skip"}
    train(settings(tmp_path / "whole", images=64, **data))
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    shutil.rmtree(tmp_path / "killed/checkpoints/images-000000064")
    shutil.rmtree(tmp_path / "killed/pipeline")
    train(settings(tmp_path / "killed", images=64, workers=2, **data))
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert_same_weights(tmp_path / "killed", tmp_path / "whole")


def test_under_raise_damage_that_shows_stops_before_anything_is_made(damaged_digits, tmp_path):
    folder, bad = damaged_digits
    with pytest.raises(UserError) as caught:
        train(settings(tmp_path / "run", kind="folder", path=folder))
    assert "2 of 60 images cannot be read" in str(caught.value)
    assert str(bad[0]) in str(caught.value)
    assert not (tmp_path / "run/config.yaml").exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_under_raise_hidden_damage_ends_the_run_with_one_message(
    damaged_digits, tmp_path, workers, capfd
):
    """And once the damage may be skipped, the run goes on."""
    folder, bad = damaged_digits
    for path in bad[:2]:
        path.unlink()
    data = {"kind": "folder", "path": folder}
    with pytest.raises(UserError) as caught:
        train(settings(tmp_path / "run", images=64, workers=workers, **data))
    assert str(caught.value).startswith(f"{bad[2]} is not a readable image: ")
    assert len(str(caught.value).splitlines()) == 1
    assert "Traceback" not in capfd.readouterr().err
    train(settings(tmp_path / "run", images=64, workers=workers, on_error="skip", **data))
    assert len(losses(tmp_path / "run")) == 8


def test_empty_class_folders_and_other_formats_are_told(digits, tmp_path, capfd):
    folder = tmp_path / "data"
    shutil.copytree(digits, folder)
    (folder / "ten").mkdir()
    for name in ("a.gif", "b.GIF", "c.heic", "notes.txt"):
        (folder / "ten" / name).touch()
    train(settings(tmp_path / "run", images=8, kind="folder", path=folder))
    said = capfd.readouterr().err
    assert "data: no image is left of these class folders: ten" in said
    assert "data: 3 files of .gif, .heic are not read" in said


@pytest.mark.parametrize("streaming", [False, True], ids=["on disk", "streamed"])
def test_a_dataset_trains_resumes_and_samples(digits, tmp_path, streaming, monkeypatch, capfd):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    data = {"kind": "hub", "name": str(digits), "streaming": streaming, "shuffle_buffer": 16}
    train(settings(tmp_path / "whole", images=96, scored=8, **data))
    scores = list((tmp_path / "whole").glob("evaluation-*.json"))
    if streaming:
        assert "not scored: a stream has no held-out images" in capfd.readouterr().out
    else:
        (found,) = scores
        assert json.loads(found.read_text())["reference_data"]["name"] == str(digits)
    assert streaming != bool(scores)
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    shutil.rmtree(tmp_path / "killed/checkpoints/images-000000096")
    train(settings(tmp_path / "killed", images=96, workers=1, **data))
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert_same_weights(tmp_path / "killed", tmp_path / "whole")
    pipe = DiffGenPipeline.from_pretrained(tmp_path / "whole/pipeline")
    assert list(pipe.config.class_names) == [str(digit) for digit in range(10)]
    assert len(pipe(class_labels="7", num_inference_steps=1).images) == 1
    assert os.listdir(tmp_path / "whole/samples") == ["sizes.png"]


def test_what_shows_only_in_the_files_ends_with_code_2_and_one_message(
    digits, tmp_path, monkeypatch, capfd
):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "list.txt").write_text("3/none.png\n")
    (tmp_path / "bomb").mkdir()
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb/huge.png")
    (tmp_path / "mixed/cat").mkdir(parents=True)
    for name in ("a.png", "cat/b.png"):
        Image.new("L", (8, 8)).save(tmp_path / "mixed" / name)
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut/a.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    listed, subset = ["--data.files", str(tmp_path / "list.txt")], ["--data.subset", "10:80"]
    for kind, name, more, said in [
        ("folder", "bomb", [], "huge.png: many more pixels than data.max_pixels allows"),
        ("folder", "cut", [], "1 of 1 images cannot be read"),
        ("folder", "cut", ["--data.on-error", "skip"], "holds no image that can be read"),
        ("folder", "mixed", [], "put every image in a class folder, or none"),
        ("folder", digits, listed, "none.png: no such file"),
        ("folder", digits, subset, "data.subset: 10:80 reaches beyond the 60 images"),
        ("hub", digits, ["--data.image-column", "picture"], "it has image (Image), label (Class"),
    ]:
        where = "--data.name" if kind == "hub" else "--data.path"
        argv = ["--data.kind", kind, where, str(tmp_path / name), *more]
        code = launch("train", [*argv, "--out", str(tmp_path / "run")], "train")
        message = capfd.readouterr().err
        assert code == 2, (argv, message)
        assert message.count("train: ") == 1  # after the bars of a dataset's reading
        assert said in message
        assert "Traceback" not in message
        assert not (tmp_path / "run/config.yaml").exists()


def test_a_stream_trains_on_latents_measured_on_its_first_samples(
    digits, vae_folder, tmp_path, monkeypatch
):
    """Its length is not known ahead; the statistics may be of more samples than an epoch has."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    config = settings(tmp_path / "run", images=16, kind="hub", name=str(digits), streaming=True)
    vae = {"path": str(vae_folder), "normalise": "per_channel", "statistics_images": 70}
    values = config.model_dump() | {"vae": vae}
    train(TrainConfig.model_validate(values))
    stds = json.loads((tmp_path / "run/latents.json").read_text())["std"]
    assert all(0 < std < 100 for std in stds)
    assert len(losses(tmp_path / "run")) == 2
