"""``prepare`` again after a kill, damaged files of its own, and damaged images."""

from pathlib import Path
from typing import Any

import pytest

import diffgen.commands.prepare as command
from diffgen.commands.prepare import prepare
from diffgen.config.latent_index import read_index
from diffgen.config.latents import LatentsConfig
from diffgen.data.folder import Folder
from diffgen.data.latents import Latents
from diffgen.errors import UserError
from tests.prepared import SECOND, WEIGHTS, content, made, pictures, refusal, settings


def stamps(folder) -> dict[str, tuple[int, int]]:
    """Inode and time of change of every file but the lock."""
    found = ((path, path.stat()) for path in folder.rglob("*") if path.name != ".lock")
    return {str(path): (state.st_ino, state.st_mtime_ns) for path, state in found if path.is_file()}


def test_the_same_command_again_writes_nothing(copy, vae_folder, monkeypatch):
    before = stamps(copy)

    def never(*_):
        raise AssertionError("something was encoded")

    monkeypatch.setattr(command, "build_encoding", never)
    prepare(settings(copy, vae_folder))
    assert stamps(copy) == before


def truncated(file):
    file.write_bytes(file.read_bytes()[:-4])


def changed(file):
    """One bit in the middle, which no size tells."""
    there = bytearray(file.read_bytes())
    there[len(there) // 2] ^= 1
    file.write_bytes(there)


def no_text(file):
    """A byte that no UTF-8 has."""
    there = bytearray(file.read_bytes())
    there[len(there) // 2] ^= 0x80
    file.write_bytes(there)


def gone(file):
    file.unlink()


@pytest.mark.parametrize("damage", [truncated, changed, no_text, gone])
@pytest.mark.parametrize(
    "name",
    [SECOND, "8x12/shard-00001.json", f"vae/{WEIGHTS}", "vae/config.json", "index.json"],
)
def test_the_same_command_again_mends_what_is_damaged(
    copy, whole, vae_folder, damage, name, capsys
):
    before = stamps(copy)
    damage(copy / name)
    if name == SECOND and damage in (truncated, gone):
        assert name in "".join(LatentsConfig(path=copy).problems())
    capsys.readouterr()
    prepare(settings(copy, vae_folder))
    told = f"{copy / SECOND} is not whole: it is encoded again" in capsys.readouterr().err
    assert told == (name == SECOND or (name.endswith("1.json") and damage is not gone))
    assert content(copy) == content(whole)
    other = str(copy / "8x12/shard-00000.safetensors")
    assert stamps(copy)[other] == before[other]


class Killed(BaseException):
    """As sudden as a signal."""


@pytest.mark.parametrize("place", ["write_shard", "index_of", "build_encoding"])
def test_killed_at_any_stage_it_goes_on_to_the_same_bytes(
    whole, tmp_path, vae_folder, monkeypatch, place
):
    real, calls = getattr(command, place), []

    def kill(*given):
        calls.append(place)
        if len(calls) == 2 or place != "write_shard":
            raise Killed
        return real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(command, place, kill)
        with pytest.raises(Killed):
            prepare(settings(tmp_path, vae_folder))
    with pytest.raises(UserError, match="not finished"):
        read_index(tmp_path)
    prepare(settings(tmp_path, vae_folder))
    assert content(tmp_path) == content(whole)


def test_a_mending_that_is_killed_leaves_the_folder_unfinished(copy, vae_folder, monkeypatch):
    """A changed bit shows by no size: until it is mended there is no index to train by."""
    changed(copy / SECOND)

    def kill(*_):
        raise Killed

    monkeypatch.setattr(command, "write_shard", kill)
    with pytest.raises(Killed):
        prepare(settings(copy, vae_folder))
    with pytest.raises(UserError, match="not finished"):
        read_index(copy)


@pytest.fixture
def images(tmp_path):
    """Ten in two classes: by class, a comes first with 0, 2, 4, 6, 8, then 1, 3, ..."""
    return pictures(tmp_path / "pictures", [(16, 16), (32, 32)] * 5)


def of(folder: Path, crop: str = "center", on_error: str = "skip") -> dict[str, Any]:
    size = {"size": "16x16", "crop": crop, "flip": False}
    return {"kind": "folder", "path": folder, "on_error": on_error, **size}


def spoil(file: Path, where: str) -> bytes:
    """Break the pixels, the end or the header of a PNG; what it was."""
    sound = file.read_bytes()
    middle = len(sound) // 2
    file.write_bytes(
        {
            "middle": sound[:middle] + bytes(40) + sound[middle + 40 :],
            "end": sound[:-200],
            "header": b"spoilt",
        }[where]
    )
    return sound


@pytest.mark.parametrize("where", ["middle", "end", "header"])
@pytest.mark.parametrize("crop", ["center", "none"])
def test_damaged_images_stop_it_or_are_left_out_and_listed(
    tmp_path, vae_folder, images, capsys, crop, where
):
    file, out = images / "b/003.png", tmp_path / "out"
    spoil(file, where)
    said = refusal(settings(out, vae_folder, of(images, crop, "raise")))
    assert str(file) in said
    assert "on_error skip" in said or "--data.on-error skip" in said
    prepare(settings(out, vae_folder, of(images, crop)))
    said = capsys.readouterr()
    assert (
        f"1 of 10 images cannot be read and are left out; all are in {out}/index.json" in said.err
    )
    assert f"  {file} is not a readable image: " in said.err
    assert "latents of 9 images (1 damaged left out) in " in said.out
    index = read_index(out)
    assert index.count == 9
    ((number, why),) = index.skipped.items()
    assert (number, why.split()[0]) == (6, str(file))
    found = Latents(LatentsConfig(path=out))
    assert [found[i][1] for i in range(9)] == [0] * 5 + [1] * 4


@pytest.mark.parametrize("where", ["middle", "end", "header"])
@pytest.mark.parametrize("crop", ["center", "none"])
def test_an_image_damaged_while_it_runs_and_mended_later_is_taken_up_by_the_same_command(
    tmp_path, vae_folder, images, monkeypatch, crop, where
):
    """Damaged between two kills, it is the same set of images; mended, it costs its file alone."""
    whole = made(tmp_path / "whole", vae_folder, of(images, crop), shard_images=3)
    config = settings(tmp_path / "out", vae_folder, of(images, crop), shard_images=3)
    real, done = command.write_shard, []

    def kill(*given):
        if done:
            raise Killed
        done.append(given)
        return real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(command, "write_shard", kill)
        with pytest.raises(Killed):
            prepare(config)
    sound = spoil(images / "b/003.png", where)
    prepare(config)
    assert list(read_index(config.out).skipped) == [6]
    before = stamps(config.out)
    prepare(config)
    assert stamps(config.out) == before
    (images / "b/003.png").write_bytes(sound)
    prepare(config)
    assert content(config.out) == content(whole)
    first = str(config.out / "8x8/shard-00000.safetensors")
    assert stamps(config.out)[first] == before[first]


def test_what_may_be_left_out_no_more_is_told(tmp_path, vae_folder, images):
    """The quick look at the files passes over damage in the middle; the note of a file knows."""
    spoil(images / "b/003.png", "middle")
    out = made(tmp_path / "out", vae_folder, of(images))
    said = refusal(settings(out, vae_folder, of(images, on_error="raise")))
    assert said.startswith(f"{images / 'b/003.png'} is not a readable image: ")
    assert said.endswith("(on_error skip passes over such images)")


@pytest.mark.parametrize("crop", ["center", "none"])
def test_a_failure_that_may_pass_is_no_damage(tmp_path, vae_folder, images, crop):
    """A file that is not there for a while, as behind a network; nothing is left out for ever."""
    names = sorted(str(path.relative_to(images)) for path in images.rglob("*.png"))
    (tmp_path / "list.txt").write_text("\n".join(names))
    data = {**of(images, crop), "files": tmp_path / "list.txt"}
    file = images / "b/003.png"
    away = file.rename(tmp_path / "away")
    said = refusal(settings(tmp_path / "out", vae_folder, data))
    assert said.startswith(f"{file} is not a readable image: no such file; that may pass")
    assert not (tmp_path / "out/index.json").exists()
    away.rename(file)
    assert read_index(made(tmp_path / "out", vae_folder, data)).count == 10


def test_a_header_that_promises_another_size_is_damage_with_a_name(
    tmp_path, vae_folder, images, monkeypatch
):
    file = images / "b/003.png"
    real = Folder.size
    monkeypatch.setattr(
        Folder, "size", lambda self, i: (16, 24) if self.files[i] == file else real(self, i)
    )
    out = made(tmp_path / "out", vae_folder, {**of(images, "none"), "size": "32x32"})
    assert read_index(out).skipped == {
        6: f"{file}: its header promises 16x24 pixels, but it gives 32x32"
    }
    before = stamps(out)
    made(out, vae_folder, {**of(images, "none"), "size": "32x32"})
    assert stamps(out) == before


def test_other_formats_and_classes_without_images_are_told(tmp_path, vae_folder, images, capsys):
    (images / "a/moving.gif").write_bytes(b"GIF89a")
    (images / "c").mkdir()
    for file in (images / "b").glob("*.png"):
        spoil(file, "header")
    index = read_index(made(tmp_path / "out", vae_folder, of(images)))
    said = capsys.readouterr().err
    assert "data: 1 files of .gif are not read" in said
    assert "data: no image is left of these class folders: c" in said
    assert "data: no image is left of these classes: b" in said
    assert (index.class_names, index.count) == (("a", "b"), 5)


@pytest.mark.parametrize("crop", ["center", "none"])
def test_only_damaged_images_are_refused_and_named(tmp_path, vae_folder, images, crop):
    sound = {file: spoil(file, "header") for file in images.rglob("*.png")}
    said = refusal(settings(tmp_path / "out", vae_folder, of(images, crop)))
    assert said.startswith("data: no image is left that can be read\n")
    assert all(f"  {file} is not a readable image: " in said for file in sound)
    for file, there in sound.items():
        file.write_bytes(there)
    assert read_index(made(tmp_path / "out", vae_folder, of(images, crop))).count == 10
