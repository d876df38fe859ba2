"""``prepare``: what is kept, mended, refused and left out, and the statistics of it all."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import diffgen.commands.prepare as command
from diffgen.cli import main
from diffgen.commands.prepare import prepare
from diffgen.config.latent_index import read_index
from diffgen.config.latents import LatentsConfig
from diffgen.data.latents import Latents
from diffgen.files import locked
from diffgen.models.vae import load_vae, vae_digest
from diffgen.signals import Interrupted
from tests.prepared import SECOND, WEIGHTS, content, made, pictures, refusal, settings


def test_the_index_counts_and_describes_what_is_there(whole, vae_folder):
    index = read_index(whole)
    assert index.count == sum(shard.count for shard in index.shards) == 20
    assert [shard.count for shard in index.shards] == [8, 8, 4]
    for shard in index.shards:
        file = whole / shard.file
        assert file.stat().st_size == shard.bytes
        moments = load_file(file)["moments"]
        assert moments.shape == (shard.count, 1, 8, shard.height, shard.width)
        assert moments.dtype == torch.float32
    assert (index.size, index.crop, index.flip, index.dtype) == (
        "16x24",
        "center",
        False,
        "float32",
    )
    assert index.vae.path == str(vae_folder)
    assert index.vae.weights == vae_digest(load_vae(whole))
    assert index.vae.format.std == pytest.approx([1 / 0.7] * 4)
    numbers = torch.cat([load_file(whole / shard.file)["index"] for shard in index.shards])
    assert numbers.tolist() == list(range(20))


@pytest.mark.parametrize("flip", [False, True])
def test_statistics_are_those_of_samples_of_all_posteriors(tmp_path, vae_folder, flip):
    """By the law of total variance, and by a million samples."""
    folder = pictures(tmp_path / "pictures", [(16, 16)] * 7)
    data = {"kind": "folder", "path": folder, "size": "16x16", "flip": flip}
    path = made(tmp_path / "out", vae_folder, data, shard_images=4)
    index = read_index(path)
    every = torch.cat([load_file(path / shard.file)["moments"] for shard in index.shards]).double()
    assert every.shape[:2] == (7, 1 + flip)
    mean, std = every.movedim(2, 0).flatten(1).chunk(2)
    assert index.statistics.mean == pytest.approx(mean.mean(1).tolist(), abs=1e-9)
    modes = mean.std(1, correction=0)
    assert index.statistics.mode_std == pytest.approx(modes.tolist(), abs=1e-6)
    total = (modes.square() + std.square().mean(1)).sqrt()
    assert index.statistics.std == pytest.approx(total.tolist(), abs=1e-6)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(300, *mean.shape, generator=generator, dtype=torch.float64)
    drawn = (mean + std * noise).movedim(1, 0).flatten(1)
    assert index.statistics.std == pytest.approx(drawn.std(1).tolist(), rel=0.01)
    form = index.per_channel(sample=True)
    assert (form.mean, form.std) == (index.statistics.mean, index.statistics.std)
    assert index.per_channel(sample=False).std == index.statistics.mode_std


def test_a_signal_tells_how_many_files_there_are(tmp_path, vae_folder, monkeypatch):
    real = command.write_shard

    def signalled(folder, name, *rest):
        if name == SECOND:
            raise Interrupted(15)
        return real(folder, name, *rest)

    monkeypatch.setattr(command, "write_shard", signalled)
    with pytest.raises(Interrupted) as caught:
        prepare(settings(tmp_path, vae_folder))
    assert str(caught.value) == f"1 of 3 files are in {tmp_path}, the same command goes on"


def test_a_folder_of_other_settings_is_refused_and_they_are_named(copy, vae_folder, make_vae):
    before = content(copy)
    said = refusal(settings(copy, vae_folder, dtype="float16", shard_images=16))
    assert said.startswith(f"out: {copy} holds latents prepared with other settings")
    assert said.splitlines()[1:] == [
        "  dtype: float32 there, float16 here",
        "  shard_images: 8 there, 16 here",
    ]
    data = {"kind": "shapes", "size": "16x24", "subset": ":21"}
    lines = refusal(settings(copy, vae_folder, data)).splitlines()[1:]
    assert lines == [
        "  data.subset: 0:20 there, 0:21 here",
        "  images.count: 20 there, 21 here",
    ]
    assert "vae.factor: 2 there, 4 here" in refusal(settings(copy, make_vae(levels=3)))
    scaled = make_vae(scaling_factor=0.5)
    assert "vae.std: [1.428" in refusal(settings(copy, scaled))
    assert content(copy) == before


def test_other_weights_of_the_vae_are_refused_but_not_another_place(copy, vae_folder, tmp_path):
    moved = shutil.copytree(vae_folder, tmp_path / "moved")
    prepare(settings(copy, moved))
    tensors = load_file(moved / WEIGHTS)
    tensors["quant_conv.bias"][0] += 1
    save_file(tensors, moved / WEIGHTS)
    assert "vae.weights: " in refusal(settings(copy, moved))


def test_other_images_under_the_same_names_of_settings_are_refused(tmp_path, vae_folder):
    folder = pictures(tmp_path / "pictures", [(16, 16)] * 4)
    data = {"kind": "folder", "path": folder, "size": "16x16"}
    out = made(tmp_path / "out", vae_folder, data)
    (folder / "a/000.png").rename(folder / "a/009.png")
    said = refusal(settings(out, vae_folder, data))
    assert [line.split(":")[0] for line in said.splitlines()[1:]] == ["  images.names"]


def test_a_folder_of_images_may_move_but_a_flat_one_not_change_its_name(tmp_path, vae_folder):
    """Its name is that of its only class."""
    folder = pictures(tmp_path / "pictures", [(16, 16)] * 4)
    data = {"kind": "folder", "path": folder, "size": "16x16"}
    out = made(tmp_path / "out", vae_folder, data)
    flat = made(tmp_path / "flat", vae_folder, {**data, "path": folder / "a"})
    before = content(out)
    moved = folder.rename(tmp_path / "moved")
    prepare(settings(out, vae_folder, {**data, "path": moved}))
    assert content(out) == before
    prepare(settings(flat, vae_folder, {**data, "path": moved / "a"}))
    said = refusal(settings(flat, vae_folder, {**data, "path": (moved / "a").rename(moved / "c")}))
    assert said.splitlines()[1:] == ["  images.class_names: ['a'] there, ['c'] here"]


def test_a_folder_of_something_else_and_one_in_use_are_refused(tmp_path, vae_folder):
    (tmp_path / "notes.txt").write_text("mine")
    said = refusal(settings(tmp_path, vae_folder))
    assert f"{tmp_path} holds notes.txt, but no latents" in said
    busy = tmp_path / "busy"
    with locked(busy):
        assert "another command is writing" in refusal(settings(busy, vae_folder))
    assert not (busy / "settings.json").exists()


def test_latents_too_large_for_the_numbers_stored_are_refused(tmp_path, vae_folder):
    loud = shutil.copytree(vae_folder, tmp_path / "loud")
    tensors = load_file(loud / WEIGHTS)
    tensors["quant_conv.bias"][0] = 1e5
    save_file(tensors, loud / WEIGHTS)
    said = refusal(settings(tmp_path / "out", loud, dtype="float16"))
    assert said == "dtype: float16 cannot hold the latents of this VAE; use float32"
    made(tmp_path / "other", loud, dtype="bfloat16")
    tensors["quant_conv.bias"][0] = float("nan")
    save_file(tensors, loud / WEIGHTS)
    said = refusal(settings(tmp_path / "none", loud))
    assert said == "vae: its latents of image 0 are infinite or no numbers (NaN)"


def test_options_that_cannot_be_met_are_refused_together(tmp_path, vae_folder, capsys):
    folder = pictures(tmp_path / "pictures", [(16, 16)] * 2)
    argv = ["prepare", "--vae.path", str(vae_folder), "--out", str(tmp_path / "out")]
    argv += ["--data.kind", "folder", "--data.path", str(folder), "--longest", "64x64"]
    assert main([*argv, "--data.crop", "random", "--data.size", "30x30", "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert "data.crop: random would show the same crop" in said
    assert "longest: 64x64 has no effect with data.crop random" in said
    assert "data.size: 30x30 is not divisible by 4" in said
    assert not (tmp_path / "out").exists()
    assert main([*argv[:1], *argv[3:5], "--vae.path", str(tmp_path / "none")]) == 2
    assert "vae.path" in capsys.readouterr().err


def test_readers_beside_the_encoder_change_no_byte(whole, tmp_path, vae_folder):
    assert content(made(tmp_path, vae_folder, workers=2)) == content(whole)


def test_digits_are_prepared_too(tmp_path, vae_folder):
    data = {"kind": "digits", "size": "8x8", "subset": ":6"}
    path = made(tmp_path, vae_folder, data)
    found = Latents(LatentsConfig(path=path))
    assert len(found) == 6
    assert found.class_names == tuple("0123456789")
    assert json.loads((path / "settings.json").read_text())["images"] == {"count": 6}
