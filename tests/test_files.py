"""Folders are replaced whole, and two commands do not share one."""

import errno

import pytest
import torch
from safetensors.torch import save_file

from diffgen.errors import UserError
from diffgen.files import link_folder, locked, set_aside, weights_digest, write_file, write_folder


def fill(text):
    return lambda path: (path / "a.txt").write_text(text)


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path):
    """What it leaves: the old folder aside, the new one not yet in its place."""
    target = tmp_path / "pipeline"
    write_folder(target, fill("old"))
    target.rename(set_aside(target))

    def fail(path):
        raise OSError("no space")

    with pytest.raises(UserError, match="what was there is kept: no space"):
        write_folder(target, fail)
    assert (target / "a.txt").read_text() == "old"
    target.rename(set_aside(target))
    write_folder(target, fill("new"))
    assert (target / "a.txt").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["pipeline"]


def test_a_locked_folder_is_named(tmp_path):
    with (
        locked(tmp_path / "out"),
        pytest.raises(UserError, match="out: another command is writing to"),
        locked(tmp_path / "out"),
    ):
        pass
    with locked(tmp_path / "out"):  # free again
        pass


def test_a_digest_is_of_every_weight_file_and_nothing_else(tmp_path):
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae/w.safetensors").write_bytes(b"one")
    (tmp_path / "config.json").write_text("{}")
    before = weights_digest(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    assert weights_digest(tmp_path) == before
    (tmp_path / "vae/w.safetensors").write_bytes(b"two")
    assert weights_digest(tmp_path) != before
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no weights"):
        weights_digest(tmp_path, tmp_path / "empty")


def test_without_locks_of_the_file_system_there_is_none(tmp_path, monkeypatch):
    def unsupported(file, how):
        raise OSError(errno.ENOSYS, "not implemented")

    monkeypatch.setattr("diffgen.files.fcntl.flock", unsupported)
    with locked(tmp_path), locked(tmp_path):
        pass


def test_a_link_to_a_symbolic_link_is_one_to_its_file(tmp_path):
    """As in a snapshot of the hub, whose links are relative and break elsewhere."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs/1234").write_text("weights")
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot/a.bin").symlink_to("../blobs/1234")
    link_folder(tmp_path / "snapshot", tmp_path / "far/away/copy")
    copy = tmp_path / "far/away/copy/a.bin"
    assert not copy.is_symlink()
    assert copy.read_text() == "weights"
    assert copy.stat().st_ino == (tmp_path / "blobs/1234").stat().st_ino


def test_weights_have_the_mode_of_other_files(tmp_path):
    def write(folder):
        fill("other")(folder)
        save_file({"a": torch.zeros(2)}, folder / "w.safetensors")

    write_folder(tmp_path / "many", write)
    write_file(tmp_path / "one.safetensors", lambda path: save_file({"a": torch.zeros(2)}, path))
    modes = {path.stat().st_mode for path in tmp_path.rglob("*") if path.is_file()}
    assert len(modes) == 1
