"""A full disk under every command: code 2, one message, and with space again the same end."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.faults import COMMANDS, OUT, Undisturbed, contents, newest, undisturbed_of
from tests.e2e.forked import Running


class Disk:
    """A file system of its own in the memory, at ``place``."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def mount(self, size: int) -> None:
        """With room for ``size`` bytes."""
        self.place.mkdir()
        options = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(self.place)]
        if os.geteuid() != 0 or subprocess.run(["mount", *options]).returncode:
            pytest.skip("no file system can be mounted here")

    def grow(self) -> None:
        """To 64 MiB."""
        subprocess.run(["mount", "-o", "remount,size=64m", str(self.place)], check=True)

    def unmount(self) -> None:
        """Give the memory back."""
        if os.path.ismount(self.place):
            subprocess.run(["umount", "-l", str(self.place)], check=True)


@pytest.fixture
def disk(tmp_path) -> Iterator[Disk]:
    """Where the commands write."""
    disk = Disk(tmp_path / OUT)
    yield disk
    disk.unmount()


@pytest.fixture(scope="module", params=COMMANDS)
def undisturbed(request, make_vae, tmp_path_factory) -> Undisturbed:
    return undisturbed_of(request.param, make_vae, tmp_path_factory)


def assert_refused(running: Running, reason: str) -> None:
    assert running.codes == [2], running.said
    told = [line for line in running.said[0].splitlines() if line.startswith("diffgen ")]
    assert len(told) == 1, running.said
    assert reason in told[0]
    assert "Traceback" not in running.said[0]


@pytest.mark.parametrize("share", [0.3, pytest.param(0.7, marks=pytest.mark.slow)])
def test_a_full_disk(undisturbed, disk, tmp_path, share):
    """That has room for a share of what the command leaves."""
    pages = sum(-(-len(content) // 4096) for content in contents(undisturbed.folder / OUT).values())
    disk.mount(int(share * 4096 * pages))
    assert_refused(undisturbed.started(tmp_path), "No space left on device")
    saved = newest(tmp_path)
    disk.grow()
    said = undisturbed.assert_again(tmp_path)
    if saved:
        assert f"resuming {OUT} at {saved:,} images" in said


def test_no_file_may_grow(undisturbed, tmp_path):
    """Beyond half of the largest that the command writes; this needs nothing to be mounted."""
    if undisturbed.command[0] == "train":
        pytest.skip("tests/training/test_full_disk.py does the same to a training")
    largest = max(len(content) for content in contents(undisturbed.folder / OUT).values())
    assert_refused(undisturbed.started(tmp_path, f"largest:{largest // 2}"), "cannot be written")
    undisturbed.assert_again(tmp_path)
