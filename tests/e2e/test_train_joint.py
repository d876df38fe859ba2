"""``train/joint.py`` as a user runs it: trained, stopped, resumed, in two processes, refused."""

import json
import re
import shutil
import signal
from pathlib import Path

import pytest
from PIL import Image

from diffgen import DiffGenPipeline
from diffgen.cli import launch
from diffgen.commands.next_command import next_command
from diffgen.commands.train_joint import train_joint
from diffgen.config.command_line import load
from diffgen.config.joint import JointConfig
from diffgen.errors import UserError
from diffgen.joint.load import load_adapter
from tests.e2e.forked import Running
from tests.joint_runs import settings, tensors
from tests.lacon_runs import tiny_run
from tests.logs import curve

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

QUICK = [
    *("--train.images", "240", "--train.batch-size", "8", "--train.sample-images", "0"),
    *("--train.log-images", "80", "--train.checkpoint-images", "80"),
    *("--schedule.warmup-images", "0"),
]


def started(folder: Path, *more: str, world: int = 1) -> Running:
    """The training of 30 steps for ``folder/tiny``."""
    return Running("train/joint.py", "tiny", *QUICK, *more, folder=folder, world=world)


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A folder with the run ``tiny``, whose adapter of depth is trained."""
    folder = tmp_path_factory.mktemp("work")
    tiny_run(folder / "tiny")
    run = started(folder)
    assert run.codes == [0], run.said
    (folder / "said").write_text(run.said[0])
    return folder


def photographs(folder: Path, count: int, square: int = 6) -> Path:
    """``count`` pictures in a folder of their own, of a square on plain ground."""
    folder.mkdir()
    for i in range(count):
        picture = Image.new("RGB", (16, 16), (40 * i, 9, 9))
        picture.paste((255, 255, 40 * i), (3, 3 + i, 3 + square, 3 + i + square))
        picture.save(folder / f"{i}.png")
    return folder


def test_an_adapter_is_trained_beside_its_model_and_the_next_command_is_printed(work):
    out = work / "tiny/joint/depth"
    assert [line["images"] for line in curve(out)] == [80, 160, 240]
    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == {
        *("adapter", "checkpoints", "samples", "config.yaml", "metrics.jsonl"),
        *("origin.json", "report.json"),
    }
    model = DiffGenPipeline.from_pretrained(work / "tiny").transformer
    assert load_adapter(out, model)[1].name == "depth"
    said = (work / "said").read_text()
    assert "depth drawn from 64 held-out pictures: depth_error " in said
    assert said.endswith("next\n  python sample/joint.py tiny --given depth=MAP.png")


@pytest.mark.slow
def test_a_finished_training_is_not_measured_again_by_the_same_command(work, tmp_path, capsys):
    """But where the report is of another length, or its figures are gone, it is."""
    out = tmp_path / "depth"
    shutil.copytree(work / "tiny/joint/depth", out)
    argv = [str(work / "tiny"), *QUICK, "--device", "cpu", "--out", str(out)]
    files = [out / "report.json", *out.glob("samples/*"), *out.glob("adapter/*")]
    before = [file.stat().st_mtime_ns for file in files]
    assert launch("joint", argv, "joint") == 0
    said = capsys.readouterr().out
    assert f"finished before; {out}/report.json is there\n" in said
    assert "depth drawn from 64 held-out pictures: depth_error " in said
    assert said.endswith(f" --adapters {tmp_path} --given depth=MAP.png\n")
    assert [file.stat().st_mtime_ns for file in files] == before
    whole = (out / "report.json").read_text()
    for other in (whole.replace(": 240", ": 160"), whole[:50]):
        (out / "report.json").write_text(other)
        assert launch("joint", argv, "joint") == 0
        assert "finished before" not in capsys.readouterr().out
        assert json.loads((out / "report.json").read_text())["images_seen"] == 240


def test_the_next_command_moves_nothing_into_a_folder_that_is_there(work, tmp_path):
    model, there = work / "tiny", work / "tiny/joint/depth"

    def told(out: Path) -> list[str]:
        settled = settings(model, out=out).settled("depth")
        return next_command(settled, "depth", "sample/joint.py", "adapters", "--given x")

    draw = f"  python sample/joint.py {model}"
    mine, beside = tmp_path / "mine", tmp_path / "depth"
    wanted = [f"  mv {mine} {beside}", f"{draw} --adapters {tmp_path} --given x"]
    assert told(mine) == wanted
    beside.mkdir()
    for new in (tmp_path / "mine-adapters", there.parent / "mine-adapters"):
        out = new.with_name("mine")
        moved = [f"  mkdir -p {new}", f"  mv {out} {new}/depth"]
        assert told(out) == [*moved, f"{draw} --adapters {new} --given x"]
    assert told(there) == [f"{draw} --given x"]
    (tmp_path / "mine-adapters/depth").mkdir(parents=True)
    assert told(mine)[0] == f"  mkdir -p {tmp_path}/mine-adapters2"


def test_channels_that_cannot_be_measured_here_name_the_evaluation_that_can(work, capsys):
    argv = [str(work / "tiny"), *QUICK, "--device", "cpu", "--method", "channels"]
    assert launch("joint", argv, "joint") == 0
    said = capsys.readouterr().out
    assert "\nnot measured here: depth cannot be found in pictures without a reader\n" in said
    assert said.endswith(f"\n  python eval/joint.py {work}/tiny --conditions depth\n")


@pytest.mark.slow
def test_two_processes_reach_the_weights_of_one(work, tmp_path):
    """A signal to one stops both; resumed, they end where one process does."""
    more = ("--out", str(tmp_path / "two"))
    run = started(work, *more, world=2)
    run.until((tmp_path / "two/metrics.jsonl").exists)
    run.signal(signal.SIGTERM, rank=1)
    assert run.codes == [143, 143]
    assert "the same command goes on from it" in run.said[0]
    assert run.said[1] == ""
    run = started(work, *more, world=2)
    assert run.codes == [0, 0], run.said
    assert run.said[1] == ""
    one = work / "tiny/joint/depth"
    mine, theirs = tensors(one), tensors(tmp_path / "two")
    assert mine.keys() == theirs.keys()
    assert max((mine[name] - theirs[name]).abs().max().item() for name in mine) < 1e-3
    for a, b in zip(curve(one), curve(tmp_path / "two"), strict=True):
        assert (a["processes"], b["processes"]) == (1, 2)
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
        assert a["losses"] == pytest.approx(b["losses"], rel=1e-4)


def test_pictures_of_two_folders_are_trained_on(work, tmp_path, capsys):
    photographs(tmp_path / "photographs", 5)
    shutil.copytree(tmp_path / "photographs", tmp_path / "sketches")
    pair = ["--pair", "folder", "--pair-path", str(tmp_path / "sketches")]
    data = ["--data.kind", "folder", "--data.path", str(tmp_path / "photographs")]
    argv = [str(work / "tiny"), *pair, *data, "--data.size", "16x16", *QUICK, "--device", "cpu"]
    assert launch("joint", argv, "joint") == 0
    out = work / "tiny/joint/sketches"
    stated = load(JointConfig, out / "config.yaml")
    assert stated.pair_path == tmp_path / "sketches"
    said = capsys.readouterr().out
    assert "sketches drawn from 5 training pictures: colour_error " in said
    assert "these data set no pictures apart" in said
    assert "--given sketches=MAP.png" in said


def test_help_names_every_field_and_a_dry_run_leaves_nothing(work, capsys):
    for argv, wanted in (
        (["--help"], ["SOURCE", "--times.clean", "joint/NAME in the model's run folder"]),
        ([str(work / "tiny"), "--dry-run", "--pair", "mask"], ["pair: mask", "kind: independent"]),
    ):
        with pytest.raises(SystemExit) as stop:
            launch("joint", argv, "joint")
        assert stop.value.code == 0
        said = capsys.readouterr().out
        plain = " ".join(said.split())
        assert all(text in plain for text in wanted), said
        if argv == ["--help"]:
            options = {name.split(".")[0] for name in re.findall(r"(?m)^  --([\w.-]+)", said)}
            fields = {name.replace("_", "-") for name in JointConfig.model_fields}
            assert options >= fields - {"source"}
    assert not (work / "tiny/joint/mask").exists()


def test_wrong_input_is_refused_with_one_message(work, tmp_path, capsys):
    run, depth = str(work / "tiny"), work / "tiny/joint/depth"
    some = photographs(tmp_path / "some", 4)
    photographs(tmp_path / "five", 5)
    folder = ["--data.kind", "folder", "--data.path", str(some), "--data.size", "16x16"]
    shapes = ["--data.kind", "shapes", "--data.size", "16x24"]
    before = {path: path.stat().st_mtime_ns for path in depth.rglob("*")}
    cases = [
        (["--pair", "nowhere:MINE"], "pair: nowhere:MINE: No module named 'nowhere'"),
        (
            folder,
            "pair: depth cannot be found in pictures; it needs data that brings it, or --pair",
        ),
        (folder, "or --pair-path DIR, a folder of its maps, with --data.kind folder"),
        (
            [*folder, "--pair", "folder", "--pair-path", str(tmp_path / "five")],
            f"pair_path: 1 picture is of no image in {some}: {tmp_path}/five/4.png",
        ),
        (["--out", run], "is the folder of a model; what is trained needs one of its own"),
        (["--out", str(depth), "--rank", "3"], f"out: {depth} holds a run with other settings"),
        (["--out", str(depth), *shapes], "data.size: 16x16 there, 16x24 here"),
        (["--out", str(depth), "--method", "channels"], "method: joint there, channels here"),
    ]
    for argv, expected in cases:
        assert launch("joint", [run, *QUICK, "--device", "cpu", *argv], "joint") == 2
        before_it, said = capsys.readouterr()
        assert before_it == "" or argv[0] == "--out", before_it
        assert said.startswith("joint: "), said
        assert expected in said
        assert "Traceback" not in said
    assert {path: path.stat().st_mtime_ns for path in depth.rglob("*")} == before


def test_an_adapter_of_another_model_is_not_gone_on_with(work, tmp_path):
    other = tiny_run(tmp_path / "other", depth=3)
    out, train = work / "tiny/joint/depth", {"images": 240, "log_images": 80}
    with pytest.raises(UserError, match=r"source: .*other is another model than .*depth was"):
        train_joint(settings(other, out=out, train=train, schedule={"warmup_images": 0}))


def test_maps_that_are_all_alike_are_refused_before_the_training(work, tmp_path):
    plain = photographs(tmp_path / "plain", 4, square=0)
    data = {"kind": "folder", "path": str(plain), "size": "16x16"}
    config = settings(work / "tiny", out=tmp_path / "out", data=data, pair="mask")
    said = "pair: all 4 pictures have the same map of mask; there is nothing to learn"
    with pytest.raises(UserError, match=said):
        train_joint(config)
    assert not (tmp_path / "out").exists()


def test_a_bad_loss_stops_the_training(work, tmp_path):
    at_once = {"optimizer": {"lr": 1e30, "muon_lr": 1e30}, "schedule": {"warmup_images": 0}}
    with pytest.raises(UserError, match=r"NaN or infinite .*none was saved yet; lower --optimizer"):
        train_joint(settings(work / "tiny", out=tmp_path / "bad", **at_once))
    assert not (tmp_path / "bad/adapter").exists()
