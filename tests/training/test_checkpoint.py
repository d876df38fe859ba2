"""Checkpoints: what is restored, what a kill leaves, and what a damaged one says."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from diffgen.config.ema import ConstantEMAConfig, PowerEMAConfig
from diffgen.config.optimizer import AdamWConfig, MuonConfig, ScheduleConfig
from diffgen.errors import UserError
from diffgen.files import write_file, write_folder, write_json
from diffgen.models.dit import DiT
from diffgen.training.checkpoint import TrainingState
from diffgen.training.checkpoints import Checkpoints, damage, seen_of
from diffgen.training.ema import EMA
from diffgen.training.optimizers import build_optimizers, build_schedules

BATCH = 8


def fresh(optimizer=None, ema=None, seed: int = 0, **options) -> TrainingState:
    torch.manual_seed(seed)
    settings = {"sample_size": (8, 8), "hidden_size": 16, "depth": 1, "num_heads": 2, **options}
    model = DiT(**settings)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape) * 0.1)
    optimizers = build_optimizers(optimizer or MuonConfig(), model)
    schedule = ScheduleConfig(warmup_images=50)
    schedules = build_schedules(schedule, optimizers, 400, BATCH)
    return TrainingState(model, EMA(ema or PowerEMAConfig(), model), optimizers, schedules)


def advance(state: TrainingState, steps: int = 2) -> None:
    """Optimiser steps on a loss that is a function of the images seen."""
    for _ in range(steps):
        generator = torch.Generator().manual_seed(state.seen)
        x = torch.randn(2, 3, 8, 8, generator=generator)
        loss = state.model(x, torch.tensor([10.0, 700.0]), torch.tensor([0, 5])).square().mean()
        loss.backward()
        for optimizer, schedule in zip(state.optimizers, state.schedules, strict=True):
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        state.seen += BATCH
        state.ema.update(state.model, state.seen, BATCH)
        state.window.total += loss.item()
        state.window.steps += 1


def everything(state: TrainingState) -> dict:
    """All a checkpoint must bring back, as one flat mapping."""
    flat = {f"model/{k}": v.clone() for k, v in state.model.state_dict().items()}
    for average in state.ema.averages:
        flat |= {f"{average.name}/{k}": v.clone() for k, v in average.weights.items()}
    for i, optimizer in enumerate(state.optimizers):
        content = optimizer.state_dict()
        for k, slots in content["state"].items():
            flat |= {f"optimizer{i}/{k}/{slot}": v.clone() for slot, v in slots.items()}
        flat |= {f"lr{i}/{j}": group["lr"] for j, group in enumerate(content["param_groups"])}
    flat |= {f"schedule{i}": s.last_epoch for i, s in enumerate(state.schedules)}
    return flat | {"seen": state.seen, "window": state.window}


def assert_same(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        same = torch.equal(value, other[name]) if torch.is_tensor(value) else value == other[name]
        assert same, name


@pytest.mark.parametrize("optimizer", [MuonConfig(), AdamWConfig()], ids=lambda c: c.kind)
@pytest.mark.parametrize("ema", [PowerEMAConfig(), ConstantEMAConfig()], ids=lambda c: c.kind)
def test_a_restored_training_goes_on_bit_for_bit(tmp_path, optimizer, ema):
    state = fresh(optimizer, ema)
    advance(state)
    state.save(tmp_path)
    restored = fresh(optimizer, ema, seed=1)
    restored.load(tmp_path)
    assert_same(everything(restored), everything(state))
    before = everything(state)
    for each in (state, restored):
        advance(each)
    assert_same(everything(restored), everything(state))
    moved = [k for k, v in before.items() if torch.is_tensor(v) and "model/" in k]
    assert any(not torch.equal(everything(state)[k], before[k]) for k in moved)


def test_the_files_are_safetensors_but_for_the_optimisers(tmp_path):
    fresh().save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "model.safetensors",
        "ema-power-0.05.safetensors",
        "ema-power-0.1.safetensors",
        "optimizer.pt",
        "state.json",
    }
    torch.load(tmp_path / "optimizer.pt", weights_only=True)  # raises on anything executable


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def scribble(path: Path) -> None:
    path.write_bytes(b"no checkpoint at all, but long enough to be mistaken for a header " * 9)


FILES = ["model.safetensors", "ema-power-0.1.safetensors", "optimizer.pt", "state.json"]


@pytest.mark.parametrize("damage", [truncate, empty, scribble, Path.unlink])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_checkpoint_is_named_and_nothing_deleted(tmp_path, name, damage):
    checkpoints = Checkpoints(tmp_path, keep=2)
    state = fresh()
    for seen in (8, 16):
        checkpoints.save(seen, state.save)
    folder = checkpoints.newest()
    damage(folder / name)
    before = {path: path.stat().st_size for path in tmp_path.rglob("*")}
    with pytest.raises(UserError, match=r"checkpoint .*images-000000016 cannot be read"):
        fresh(seed=1).load(folder)
    assert {path: path.stat().st_size for path in tmp_path.rglob("*")} == before
    fresh(seed=1).load(checkpoints.all()[0])  # the older one beside it is whole


@pytest.mark.parametrize("content", ["[]", "{}", '{"images_seen": 8, "window": {"sum": 1}}', "3"])
def test_a_progress_file_of_another_kind_is_named(tmp_path, content):
    fresh().save(tmp_path)
    (tmp_path / "state.json").write_text(content)
    with pytest.raises(UserError, match="cannot be read"):
        fresh().load(tmp_path)


def test_a_checkpoint_of_another_model_or_optimiser_is_refused(tmp_path):
    fresh().save(tmp_path)
    with pytest.raises(
        UserError, match=r"model.safetensors is of another model: .* has the shape"
    ) as met:
        fresh(hidden_size=32).load(tmp_path)
    assert len(str(met.value).splitlines()) == 1
    with pytest.raises(UserError, match="cannot be read"):
        fresh(AdamWConfig()).load(tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        fresh(ema=ConstantEMAConfig()).load(tmp_path)


def test_an_average_of_another_shape_is_refused_not_broadcast(tmp_path):
    """A tensor of one element would fit everywhere if it were merely copied in."""
    state = fresh()
    state.save(tmp_path)
    average = {name: w[:1].clone() for name, w in state.ema.averages[0].weights.items()}
    save_file(average, tmp_path / "ema-power-0.05.safetensors")
    with pytest.raises(UserError, match=r"is of another model: .* has the shape"):
        fresh().load(tmp_path)


class TestKeeping:
    def test_the_newest_are_kept_in_order(self, tmp_path):
        checkpoints = Checkpoints(tmp_path, keep=2)
        assert checkpoints.all() == []
        assert checkpoints.newest() is None
        for seen in (8, 1_000_000_000, 16, 24):  # ten digits sort as numbers
            checkpoints.save(seen, lambda path: (path / "f").write_text("x"))
        assert [seen_of(path) for path in checkpoints.all()] == [24, 1_000_000_000]
        assert seen_of(checkpoints.newest()) == 1_000_000_000

    def test_what_a_kill_left_behind_is_no_checkpoint(self, tmp_path):
        checkpoints = Checkpoints(tmp_path, keep=2)
        checkpoints.save(8, lambda path: (path / "f").write_text("x"))
        (checkpoints.folder / ".images-000000016.new").mkdir()
        (checkpoints.folder / "images-000000016.tmp").mkdir()
        (checkpoints.folder / "notes").mkdir()
        assert [path.name for path in checkpoints.all()] == ["images-000000008"]
        checkpoints.save(16, lambda path: (path / "f").write_text("y"))
        assert (checkpoints.newest() / "f").read_text() == "y"

    def test_a_save_that_fails_leaves_every_older_checkpoint(self, tmp_path):
        checkpoints = Checkpoints(tmp_path, keep=1)
        checkpoints.save(8, fresh().save)

        def fail(path):
            (path / "model.safetensors").write_bytes(b"half")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            checkpoints.save(16, fail)
        assert [path.name for path in checkpoints.all()] == ["images-000000008"]
        fresh().load(checkpoints.newest())

    def test_only_checkpoints_have_images_in_their_name(self, tmp_path):
        with pytest.raises(ValueError, match="is no checkpoint"):
            seen_of(tmp_path)

    def test_milestones_stay_for_good(self, tmp_path):
        def save(checkpoints, *times):
            for seen in times:
                checkpoints.save(seen, lambda path: (path / "f").write_text("x"), seen % 16 == 0)

        save(Checkpoints(tmp_path, keep=1), 8, 16, 24, 32, 40)
        for seen in (48, 56):  # by a run that is not asked for any
            Checkpoints(tmp_path, keep=1).save(seen, lambda path: (path / "f").write_text("x"))
        assert [seen_of(path) for path in Checkpoints(tmp_path).all()] == [16, 32, 56]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


class TestDamage:
    def saved(self, run: Path, *seen: int) -> Checkpoints:
        checkpoints = Checkpoints(run, keep=9)
        state = fresh()
        for images in seen:
            checkpoints.save(images, state.save)
        return checkpoints

    @pytest.mark.parametrize("harm", [truncate, empty, scribble, Path.unlink, flip])
    @pytest.mark.parametrize("name", FILES)
    def test_what_is_damaged_is_told_and_set_aside(self, tmp_path, name, harm):
        checkpoints = self.saved(tmp_path, 8, 16, 24)
        told: list[str] = []
        checkpoints.set_aside_damaged(told.append)
        assert told == []
        harm(checkpoints.newest() / name)
        checkpoints.set_aside_damaged(told.append)
        assert len(told) == 1
        assert f"images-000000024 is damaged ({name} " in told[0]
        assert [seen_of(path) for path in checkpoints.all()] == [8, 16]
        assert (checkpoints.folder / "damaged-images-000000024").is_dir()

    def test_several_in_a_row_are_passed_over_and_older_ones_not_looked_at(self, tmp_path):
        checkpoints = self.saved(tmp_path, 8, 16, 24, 32)
        for path in (checkpoints.place(8), checkpoints.place(24), checkpoints.place(32)):
            flip(path / "model.safetensors")
        told: list[str] = []
        checkpoints.set_aside_damaged(told.append)
        assert [line.split(" ")[0].rpartition("/")[2] for line in told] == [
            "images-000000032",
            "images-000000024",
        ]
        assert seen_of(checkpoints.newest()) == 16

    def test_where_none_is_whole_nothing_is_touched(self, tmp_path):
        checkpoints = self.saved(tmp_path, 8, 16)
        for path in checkpoints.all():
            (path / "optimizer.pt").unlink()
        with pytest.raises(UserError, match=r"no checkpoint in .* is whole .*optimizer.pt is miss"):
            checkpoints.set_aside_damaged(print)
        assert [seen_of(path) for path in checkpoints.all()] == [8, 16]

    @pytest.mark.parametrize("text", ["{", "[]", "3", '{"model.safetensors": {"bytes": 8}}'])
    def test_an_empty_folder_and_a_damaged_manifest_are_damage(self, tmp_path, text):
        checkpoints = self.saved(tmp_path, 8, 24)
        checkpoints.place(16).mkdir()
        (checkpoints.place(24) / "manifest.json").write_text(text)
        told: list[str] = []
        checkpoints.set_aside_damaged(told.append)
        assert len(told) == 2
        assert seen_of(checkpoints.newest()) == 8

    def test_a_file_that_the_disk_cannot_read_is_damage(self, tmp_path, monkeypatch):
        checkpoints = self.saved(tmp_path, 8)

        def broken(path):
            raise OSError(errno.EIO, "Input/output error", str(path))

        monkeypatch.setattr("diffgen.training.checkpoints.sha256", broken)
        assert "cannot be read: Input/output error" in damage(checkpoints.newest())
        assert damage(checkpoints.newest(), contents=False) is None
        assert "cannot be read" in damage(checkpoints.place(16))  # removed meanwhile


class Killed(BaseException):
    """As sudden as a signal."""


def put(text: str):
    def write(folder: Path) -> None:
        (folder / "a").write_text(text)
        (folder / "sub").mkdir()
        (folder / "sub/b").write_text(text)

    return write


def content(folder: Path) -> str:
    first, second = (folder / "a").read_text(), (folder / "sub/b").read_text()
    assert first == second
    assert {path.name for path in folder.iterdir()} == {"a", "sub"}
    return first


class TestWritingAFolder:
    def test_the_new_replaces_the_old_whole(self, tmp_path):
        target = tmp_path / "deep" / "pipeline"
        for text in ("old", "new"):
            write_folder(target, put(text))
            assert content(target) == text
        assert list(target.parent.iterdir()) == [target]  # nothing left over

    @pytest.mark.parametrize("error", [Killed(), OSError(28, "No space left on device")])
    def test_a_writer_that_fails_midway_leaves_the_old(self, tmp_path, error):
        target = tmp_path / "pipeline"
        write_folder(target, put("old"))

        def fail(folder):
            (folder / "a").write_text("half")
            raise error

        with pytest.raises((Killed, UserError)):
            write_folder(target, fail)
        assert content(target) == "old"
        write_folder(target, put("new"))
        assert content(target) == "new"
        assert list(tmp_path.iterdir()) == [target]

    def test_an_old_folder_is_there_at_every_rename(self, tmp_path, monkeypatch):
        """Killed before or after any rename, the target or what it was can still be found."""
        target = tmp_path / "pipeline"
        for moment in range(4):
            write_folder(target, put("old"))
            calls, rename = [], os.rename

            def interrupted(source, goal, calls=calls, moment=moment, rename=rename):
                calls.append(goal)
                if len(calls) > moment:
                    raise Killed
                rename(source, goal)

            with monkeypatch.context() as patch:
                patch.setattr(os, "rename", interrupted)
                try:
                    write_folder(target, put("new"))
                except Killed:
                    survivors = [path for path in tmp_path.iterdir() if path.is_dir()]
                    assert "old" in [content(path) for path in survivors]
            write_folder(target, put("old"))
            assert content(target) == "old"

    def test_a_rename_that_fails_leaves_the_old_in_its_place(self, tmp_path, monkeypatch):
        """The message says that what was there is kept, so it must be, under its own name."""
        target = tmp_path / "pipeline"
        write_folder(target, put("old"))
        rename = os.rename

        def refuse_the_new(source, goal):
            if Path(source).name.endswith(".new"):
                raise OSError(5, "Input/output error")
            rename(source, goal)

        monkeypatch.setattr(os, "rename", refuse_the_new)
        with pytest.raises(UserError, match="pipeline cannot be written"):
            write_folder(target, put("new"))
        assert content(target) == "old"


class TestWritingAFile:
    def test_the_new_replaces_the_old_and_a_failure_leaves_it(self, tmp_path):
        target = tmp_path / "deep" / "a.json"
        write_json(target, {"k": 1})
        assert json.loads(target.read_text()) == {"k": 1}

        def fail(path):
            path.write_text("half")
            raise Killed

        with pytest.raises(Killed):
            write_file(target, fail)
        assert json.loads(target.read_text()) == {"k": 1}
        write_json(target, {"k": 2})
        assert json.loads(target.read_text()) == {"k": 2}
        assert list(target.parent.iterdir()) == [target]

    def test_the_temporary_keeps_the_suffix_that_picks_a_format(self, tmp_path):
        seen = []
        write_file(tmp_path / "a.png", lambda path: (seen.append(path.suffix), path.touch()))
        assert seen == [".png"]
