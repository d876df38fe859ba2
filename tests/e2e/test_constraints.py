"""Late constraints as a user meets them in ``sample/generate.py``."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffgen.cli import launch
from diffgen.lacon import Aligner
from diffgen.lacon.conditions import EDGE, MASK
from diffgen.models.beside import fingerprint
from tests.e2e.forked import Running
from tests.tiny import build

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run folder of a tiny model, with aligners for edges and masks that nobody trained."""
    folder = tmp_path_factory.mktemp("tiny")
    pipe = build()
    pipe.save_pretrained(folder / "pipeline")
    for seed, condition in enumerate((EDGE, MASK)):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            aligner = Aligner.of(
                *(pipe.transformer, condition.name, condition.channels),
                backbone=fingerprint(pipe.transformer),
                image_std=0.5,
                until=0.2,
            )
        aligner.save_pretrained(folder / "aligners" / condition.name / "aligner")
    return folder


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    """The user's folder: a sketch, two masks, a picture, and the same with a hole."""
    monkeypatch.chdir(tmp_path)
    Path("masks").mkdir()
    Image.fromarray(np.eye(16, dtype=np.uint8) * 255).save("sketch.png")
    for k in range(2):
        levels = np.zeros((8, 8), np.uint8)
        levels[:, 4 * k : 4 * k + 4] = 255
        Image.fromarray(levels).save(f"masks/{k}.png")
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 4), np.uint8)
    noise[..., 3] = 255
    Image.fromarray(noise).convert("RGB").save("picture.png")
    noise[2:6, 2:6, 3] = 0
    Image.fromarray(noise).save("hole.png")
    return tmp_path


def sampled(run: Path, out: str, *argv: str) -> dict[str, bytes]:
    """The PNGs of three images drawn in three steps, by their names."""
    common = ["--num-images", "3", "--batch-size", "2", "--steps", "3", "--device", "cpu"]
    assert launch("sample", [str(run), "--out", out, *common, *argv], "sample") == 0
    return {str(p.relative_to(out)): p.read_bytes() for p in Path(out).rglob("*.png")}


def levels(path: str) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image.convert("RGB")).astype(int)


def settings(out: str) -> dict:
    return json.loads((Path(out) / "settings.json").read_text())


def only_pictures(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if not name.startswith("sheet")}


def test_scale_0_draws_bit_for_bit_what_is_drawn_without_a_constraint(run, work):
    free = sampled(run, "free")
    asked = ["--constraint", "edge=sketch.png", "--constraint", "mask=masks"]
    off = sampled(run, "off", *asked, "--constraint-scale", "0")
    assert only_pictures(off) == only_pictures(free)
    on = sampled(run, "on", *asked)
    assert only_pictures(on).keys() == only_pictures(free).keys()
    assert all(on[name] != free[name] for name in only_pictures(free))
    second = sampled(run, "second", *asked, "--constraint-scale", "0,1")
    assert only_pictures(second) not in (only_pictures(on), only_pictures(free))


def test_the_images_of_a_folder_are_taken_in_turn(run, work):
    turned = sampled(run, "turned", "--constraint", "mask=masks/")
    for k, name in enumerate(("8x8/cat-seed0-00000.png", "8x8/dog-seed0-00001.png")):
        alone = sampled(run, f"alone{k}", "--constraint", f"mask=masks/{k}.png")
        assert turned[name] == alone[name]
    assert alone["8x8/newt-seed0-00002.png"] != turned["8x8/newt-seed0-00002.png"]
    assert [image["conditions"] for image in settings("turned")["images"]] == [
        ["masks/0.png"],
        ["masks/1.png"],
        ["masks/0.png"],
    ]


def test_every_size_is_constrained_and_the_sheet_shows_by_what(run, work):
    sampled(run, "sizes", "--constraint", "mask=masks", "--size", "8x8", "--size", "16x16")
    (note,) = settings("sizes")["constraints"]
    assert (note["name"], note["scale"], note["until"]) == ("mask", 1.0, 0.2)
    sheet = levels("sizes/sheet-8x8.png")  # pictures enlarged 12-fold: a mask above each
    left_half, right_half = sheet[70, 4 + 24], sheet[70, 4 + 72]
    assert (left_half.tolist(), right_half.tolist()) == ([255] * 3, [0] * 3)
    assert sheet[70, 104 + 24].tolist() == [0] * 3  # of the second image the other way round
    assert levels("sizes/sheet-16x16.png").shape[0] > 2 * 96


def test_what_is_known_of_a_picture_stays(run, work):
    wanted = levels("hole.png")
    known = np.ones((8, 8), bool)
    known[2:6, 2:6] = False
    drawn = sampled(run, "whole", "--constraint", "inpaint=hole.png")
    for name in only_pictures(drawn):
        found = levels(f"whole/{name}")
        assert abs(found - wanted)[known].max() <= 1
        assert abs(found - wanted)[~known].max() > 20


class TestAFolderHoldsOneRun:
    ASKED = ("--constraint", "edge=sketch.png")

    def refused(self, run, capsys, *argv: str) -> str:
        common = ["--num-images", "3", "--batch-size", "2", "--steps", "3", "--device", "cpu"]
        before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*")}
        assert launch("sample", [str(run), "--out", "out", *common, *argv], "sample") == 2
        assert {path: path.stat().st_mtime_ns for path in Path("out").rglob("*")} == before
        return capsys.readouterr().err

    def test_the_same_sketch_draws_what_is_missing_and_another_is_told(self, run, work, capsys):
        first = sampled(run, "out", *self.ASKED)
        gone = next(name for name in only_pictures(first))
        Path("out", gone).unlink()
        assert sampled(run, "out", *self.ASKED, "--constraint-checkpointing") == first
        Image.fromarray(np.eye(16, dtype=np.uint8)[::-1] * 255).save("sketch.png")
        said = self.refused(run, capsys, *self.ASKED)
        assert "constraint 0, edge=sketch.png: " in said
        assert said.count(" there, ") == 1  # the file's digest, and nothing else
        other = sampled(run, "other", *self.ASKED)
        assert all(other[name] != first[name] for name in only_pictures(first))

    def test_another_aligner_under_the_same_name_is_told(self, run, work, capsys):
        shutil.copytree(run / "aligners", "aligners")
        asked = [*self.ASKED, "--aligners", "aligners"]
        sampled(run, "out", *asked)
        model = build().transformer
        fresh = Aligner.of(model, "edge", 1, backbone=fingerprint(model), until=0.3)
        fresh.save_pretrained("aligners/edge/aligner")
        said = self.refused(run, capsys, *asked)
        assert "constraint 0, edge: aligner_weights: " in said
        assert "constraint 0, edge: until: 0.2 there, 0.3 here" in said

    def test_settings_from_before_there_were_constraints_are_the_same_run(self, run, work, capsys):
        first = sampled(run, "out")
        content = settings("out")
        del content["constraints"]
        for name in [name for name in content["settings"] if "constraint" in name]:
            del content["settings"][name]
        del content["settings"]["aligners"]
        (work / "out/settings.json").write_text(json.dumps(content))
        assert sampled(run, "out") == first
        said = self.refused(run, capsys, *self.ASKED)
        assert "constraint: None there, ['edge=sketch.png'] here" in said


def test_every_refusal_is_one_message_with_code_2_and_leaves_nothing(run, work, capsys):
    Path("broken.png").write_bytes((work / "sketch.png").read_bytes()[:-30])
    Image.new("RGB", (8, 8), "red").save("red.png")
    model = build(hidden_size=64).transformer
    stranger = Aligner.of(model, "edge", 1, backbone=fingerprint(model))
    stranger.save_pretrained(work / "strange/edge/aligner")
    stranger.save_pretrained(work / "damaged/edge/aligner")
    weights = next((work / "damaged/edge/aligner").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:100])
    cases = [
        (["edge=broken.png"], "constraint: edge=broken.png is not a readable image"),
        (["edge=sketch.png", "--aligners", "strange"], "is the aligner of another model"),
        (["edge=sketch.png", "--aligners", "damaged"], "cannot be loaded"),
        (["mask=masks", "--constraint-where", "red.png"], "constraint_where: red.png is a colour"),
        (["nothing:X=sketch.png"], "nothing:X: No module named 'nothing'"),
    ]
    before = sorted(work.rglob("*"))
    for argv, said in cases:
        code = launch("sample", [str(run), "--constraint", *argv, "--device", "cpu"], "sample")
        message = capsys.readouterr().err
        assert code == 2, argv
        assert said in message, argv
        assert len(message.splitlines()) == 1, message
    assert sorted(work.rglob("*")) == before


def test_two_processes_draw_what_one_draws(run, work):
    argv = ["--constraint", "mask=masks", "--constraint", "inpaint=hole.png"]
    one = sampled(run, "one", *argv)
    common = ["--num-images", "3", "--batch-size", "2", "--steps", "3", "--device", "cpu"]
    argv = [str(run), "--out", "two", *common, *argv]
    both = Running("sample/generate.py", *argv, folder=work, world=2)
    assert both.codes == [0, 0], both.said
    assert {str(p.relative_to("two")): p.read_bytes() for p in Path("two").rglob("*.png")} == one
