"""kill -9 at random moments: the same command ends as one that was never killed."""

import random
from pathlib import Path

import pytest

from tests.e2e.faults import COMMANDS, OUT, Undisturbed, kill_after, undisturbed_of

KILLS = 6
"""Of every command, in each of the slow tests."""


@pytest.fixture(scope="module", params=COMMANDS)
def undisturbed(request, make_vae, tmp_path_factory) -> Undisturbed:
    return undisturbed_of(request.param, make_vae, tmp_path_factory)


def moments(kind: str, count: int) -> list[float]:
    """Random shares of the whole, one in each of ``count`` equal parts of it."""
    draw = random.Random(kind)
    return [round((part + draw.random()) / count, 3) for part in range(count)]


def kill_at_a_file(undisturbed: Undisturbed, folder: Path, share: float) -> None:
    """Before the file is touched that is at ``share`` of all that are."""
    at = 1 + int(share * len(undisturbed.touched))
    assert undisturbed.started(folder, f"touch:{at}").codes == [-9]


@pytest.mark.parametrize("share", moments("files", 2))
def test_killed_at_a_file_it_ends_as_undisturbed(undisturbed, tmp_path, share):
    kill_at_a_file(undisturbed, tmp_path, share)
    undisturbed.assert_again(tmp_path)


def test_killed_while_an_old_checkpoint_is_removed_it_leaves_no_half_of_one(
    make_vae, tmp_path_factory, tmp_path
):
    undisturbed = undisturbed_of("train", make_vae, tmp_path_factory)
    removed = [
        number
        for number, touched in enumerate(undisturbed.touched)
        if touched.startswith("shutil.rmtree") and "images-000000512" in touched
    ]
    assert undisturbed.started(tmp_path, f"touch:{removed[-1] + 4}").codes == [-9]
    assert not (tmp_path / OUT / "checkpoints/images-000000512").exists()
    undisturbed.assert_again(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("share", moments("more files", KILLS))
def test_killed_at_any_file_it_ends_as_undisturbed(undisturbed, tmp_path, share):
    kill_at_a_file(undisturbed, tmp_path, share)
    undisturbed.assert_again(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("share", moments("time", KILLS))
def test_killed_at_any_time_it_ends_as_undisturbed(undisturbed, tmp_path, share):
    running = undisturbed.started(tmp_path)
    kill_after(running, share * undisturbed.seconds)
    assert running.codes[0] in (-9, 0)  # a quick one may have ended just before
    undisturbed.assert_again(tmp_path)


@pytest.mark.slow
def test_killed_again_and_again_it_ends_as_undisturbed(undisturbed, tmp_path):
    """After so many files each time, in whatever it does then."""
    for share in moments("again", 4):
        running = undisturbed.started(
            tmp_path, f"touch:{1 + int(share * len(undisturbed.touched))}"
        )
        assert running.codes[0] in (-9, 0)  # there is less left to do each time
    undisturbed.assert_again(tmp_path)
