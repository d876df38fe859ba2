"""Joint drawing as a user meets it in ``sample/joint.py``."""

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffgen import DiffGenPipeline
from diffgen.cli import launch
from diffgen.config.data import FolderConfig
from diffgen.data.folder import Folder
from diffgen.lacon.conditions import DEPTH, EDGE, PALETTE
from diffgen.models.vae import load_vae
from tests.e2e.forked import Running
from tests.joint.adapters import save_adapter
from tests.tiny import build

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

COMMON = ["--batch-size", "2", "--steps", "3", "--device", "cpu"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run folder of a tiny model, with adapters for three conditions."""
    folder = tmp_path_factory.mktemp("tiny")
    pipe = build()
    pipe.save_pretrained(folder / "pipeline")
    for seed, condition in enumerate((DEPTH, EDGE, PALETTE)):
        save_adapter(pipe.transformer, condition, folder / "joint", seed)
    return folder


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    """The user's folder: three depth maps, a photograph, and a mask of its left half."""
    monkeypatch.chdir(tmp_path)
    Path("maps").mkdir()
    rng = np.random.default_rng(0)
    for k in range(3):
        Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(f"maps/{k}.png")
    Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save("photo.png")
    mask = np.zeros((8, 8), np.uint8)
    mask[:, :4] = 255
    Image.fromarray(mask).save("left.png")
    return tmp_path


def sampled(run: Path, out: str, *argv: str) -> dict[str, bytes]:
    """The PNGs of a run, by their names."""
    assert launch("joint-sample", [str(run), "--out", out, *COMMON, *argv], "joint") == 0
    return {str(p.relative_to(out)): p.read_bytes() for p in Path(out).rglob("*.png")}


def pictures(files: dict[str, bytes], branch: str) -> list[bytes]:
    return [content for name, content in sorted(files.items()) if f"/{branch}/" in name]


def levels(path: str | Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image).astype(int)


def shots(out: str, branch: str, size: str = "8x8") -> np.ndarray:
    """(n, H, W) or (n, H, W, 3) of a branch's pictures."""
    return np.stack([levels(path) for path in sorted(Path(out, size, branch).glob("*.png"))])


def settings(out: str) -> dict:
    return json.loads((Path(out) / "settings.json").read_text())


def test_pairs_are_drawn_into_parallel_folders(run, work):
    argv = ["--want", "image,depth", "--num-images", "3", "--size", "8x8", "--size", "4x12"]
    files = sampled(run, "pairs", *argv)
    for size in ("8x8", "4x12"):
        names = [f"{name}-seed0-0000{k}.png" for k, name in enumerate(("cat", "dog", "newt"))]
        for branch in ("image", "depth"):
            assert sorted(p.name for p in Path("pairs", size, branch).iterdir()) == names
    assert len(files) == 2 * (6 + 1)
    assert shots("pairs", "image", "4x12").shape == (3, 4, 12, 3)
    assert shots("pairs", "depth", "4x12").shape == (3, 4, 12)  # grey
    data = Folder(FolderConfig(path=Path("pairs/8x8/image"), size="8x8"))
    assert [path.name for path in data.files] == sorted(
        p.name for p in Path("pairs/8x8/depth").iterdir()
    )


def test_a_folder_of_maps_is_drawn_from_and_written_beside_the_images(run, work):
    files = sampled(run, "out", "--given", "depth=maps")
    assert np.array_equal(
        shots("out", "depth"), np.stack([levels(f"maps/{k}.png") for k in range(3)])
    )
    for k, name in enumerate(("cat", "dog", "newt")):
        argv = ["--given", f"depth=maps/{k}.png", "--num-images", "3"]
        alone = sampled(run, f"alone{k}", *argv)
        file = f"{k}-{name}-seed0-0000{k}.png"
        assert alone[f"8x8/image/{file}"] == files[f"8x8/image/{file}"]
    free = sampled(run, "free", "--want", "image,depth", "--num-images", "3")
    assert not set(pictures(free, "image")) & set(pictures(files, "image"))
    assert [pair["given"] for pair in settings("out")["pairs"]] == [
        {"depth": f"maps/{k}.png"} for k in range(3)
    ]


def test_drawn_maps_are_read_back_to_a_grey_level(run, work):
    sampled(run, "first", "--want", "image,depth,edge,palette", "--num-images", "2")
    again = [f"--given={name}=first/8x8/{name}" for name in ("depth", "palette")]
    sampled(run, "second", *again, "--given", "image=first/8x8/image", "--want", "edge")
    for branch in ("image", "depth", "palette"):
        assert np.array_equal(shots("second", branch), shots("first", branch))
    assert shots("second", "edge").shape == (2, 8, 8)


def test_the_map_of_a_photograph_at_its_size_without_a_class(run, work):
    sampled(run, "out", "--given", "image=photo.png", "--want", "depth", "--size", "16x16")
    (depth,) = Path("out/16x16/depth").iterdir()
    assert depth.name == "photo-seed0-00000.png"
    assert np.array_equal(levels(f"out/16x16/image/{depth.name}"), levels("photo.png"))
    argv = ["--given", "image=photo.png", "--want", "depth", "--size", "16x16"]
    sampled(run, "told", *argv, "--classes", "dog")
    assert not np.array_equal(levels("told/16x16/depth/photo-dog-seed0-00000.png"), levels(depth))


def test_coarse_draws_what_is_given_anew_from_a_noise_level(run, work):
    given = ["--given", "image=photo.png", "--given", "depth=maps/0.png"]
    sampled(run, "edited", *given, "--coarse", "0.5,0")
    sampled(run, "refined", *given, "--coarse", "0,0.5")
    assert np.array_equal(shots("edited", "depth")[0], levels("maps/0.png"))
    assert not np.array_equal(shots("edited", "image"), shots("refined", "image"))
    with Image.open("photo.png") as photo:
        small = np.array(photo.resize((8, 8), Image.Resampling.LANCZOS)).astype(int)
    assert np.array_equal(shots("refined", "image")[0], small)
    assert not np.array_equal(shots("refined", "depth")[0], levels("maps/0.png"))
    both = settings("edited")["given"]
    assert [(one["name"], one["coarse"]) for one in both] == [("image", 0.5), ("depth", 0.0)]


def test_what_is_given_and_drawn_anew_is_written_whatever_else_is_wanted(run, work):
    argv = ["--given", "image=photo.png", "--coarse", "0.6"]
    wanted = pictures(sampled(run, "all", *argv, "--want", "image,depth"), "image")
    files = sampled(run, "out", *argv, "--want", "depth")
    assert pictures(files, "image") == wanted
    assert len(pictures(files, "depth")) == 1


def test_a_condition_of_ones_own_is_found_in_a_picture(run, work, monkeypatch):
    monkeypatch.syspath_prepend(work)
    Path("dark_kind.py").write_text(
        "from diffgen.lacon.conditions import EDGE_F1, Condition\n"
        "def dark(pictures):\n"
        "    return (pictures.mean(1, keepdim=True) < 0).float()\n"
        "DARK = Condition('dark', 1, True, dark, EDGE_F1)\n"
    )
    from dark_kind import DARK

    save_adapter(build().transformer, DARK, work / "own")
    argv = ["--given", "dark_kind:DARK=photo.png", "--given-from", "picture", "--size", "16x16"]
    sampled(run, "out", *argv, "--adapters", "own")
    (found,) = shots("out", "dark", "16x16")
    mean = levels("photo.png").mean(axis=2)
    assert np.array_equal(found, (mean < 127.5) * 255)
    assert shots("out", "image", "16x16").shape == (1, 16, 16, 3)
    assert settings("out")["settings"]["given"] == ["dark_kind:DARK=photo.png"]


def test_the_known_part_of_either_branch_is_kept(run, work):
    given = ["--given", "image=photo.png", "--given", "depth=maps"]
    sampled(run, "out", *given, "--known", "image=left.png", "--size", "16x16", "--num-images", "2")
    left = shots("out", "image", "16x16")[:, :, :7]  # a column less: its mask is enlarged
    assert np.array_equal(left, np.stack([levels("photo.png")[:, :7]] * 2))
    right = shots("out", "image", "16x16")[:, :, 8:]
    assert abs(right - levels("photo.png")[None, :, 8:]).mean() > 5
    sampled(run, "map", "--given", "depth=maps", "--known", "depth=left.png")
    found, wanted = shots("map", "depth"), np.stack([levels(f"maps/{k}.png") for k in range(3)])
    assert np.array_equal(found[:, :, :4], wanted[:, :, :4])
    assert abs(found - wanted)[:, :, 4:].mean() > 5
    assert shots("map", "image").shape == (3, 8, 8, 3)


def test_options_of_the_joint_attention_reach_the_drawing(run, work):
    argv = ["--want", "image,depth,edge", "--num-images", "2"]
    usual = pictures(sampled(run, "usual", *argv), "image")
    for name, more in {
        "scaled": ["--condition-scale", "1"],
        "weighed": ["--weight", "1,0.5"],
        "apg": ["--guidance.kind", "apg", "--guidance.scale", "5"],
    }.items():
        assert pictures(sampled(run, name, *argv, *more), "image") != usual, name
    same = pictures(sampled(run, "same", *argv, "--weight", "1"), "image")
    assert same == usual


def test_edges_are_found_in_a_picture_and_written(run, work):
    argv = ["--given", "edge=photo.png", "--given-from", "picture", "--size", "16x16"]
    sampled(run, "out", *argv)
    (edges,) = shots("out", "edge", "16x16")
    assert set(edges.flatten()) == {0, 255}
    assert not np.array_equal(edges > 0, levels("photo.png")[..., 0] > 127)


def test_the_sheet_shows_what_is_given_above_what_is_drawn(run, work):
    sampled(run, "out", "--given", "depth=maps", "--num-images", "3")
    sheet = levels("out/sheet-8x8.png")  # pictures enlarged 12-fold, two rows of them
    assert sheet.shape[0] == 2 * (22 + 96 + 4)
    wanted = levels("maps/0.png")
    assert sheet[22 + 6, 4 + 6].tolist() == [wanted[0, 0]] * 3
    image = levels(next(Path("out/8x8/image").glob("0-cat*")))
    assert sheet[122 + 22 + 6, 4 + 6].tolist() == image[0, 0].tolist()
    sampled(run, "partly", "--given", "depth=maps", "--known", "depth=left.png")
    sheet = levels("partly/sheet-8x8.png")
    assert sheet.shape[0] == 3 * (22 + 96 + 4)
    assert sheet[22 + 6, 4 + 90].tolist() == [128] * 3  # not known


class TestAFolderHoldsOneRun:
    ASKED = ("--given", "depth=maps", "--known", "depth=left.png")

    def refused(self, run, capsys, *argv: str) -> str:
        before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*")}
        argv = [str(run), "--out", "out", *COMMON, *argv]
        assert launch("joint-sample", argv, "joint") == 2
        assert {path: path.stat().st_mtime_ns for path in Path("out").rglob("*")} == before
        return capsys.readouterr().err

    def test_what_is_missing_is_drawn_and_another_file_is_told(self, run, work, capsys):
        first = sampled(run, "out", *self.ASKED)
        Path("out/8x8/depth/0-cat-seed0-00000.png").unlink()
        assert sampled(run, "out", *self.ASKED) == first
        for file, said in (
            ("maps/1.png", "given 0, depth=maps/1.png: "),
            ("left.png", "known 0, depth=left.png: "),
        ):
            kept = Path(file).read_bytes()
            Image.fromarray(255 - levels(file).astype(np.uint8)).save(file)
            message = self.refused(run, capsys, *self.ASKED)
            assert said in message
            assert message.count(" there, ") == 1  # the file's digest, and nothing else
            Path(file).write_bytes(kept)
        for k in range(1, 3):
            Image.fromarray(255 - levels(f"maps/{k}.png").astype(np.uint8)).save(f"maps/{k}.png")
        message = self.refused(run, capsys, *self.ASKED)
        assert message.splitlines()[1:] == [
            "  given 0, depth: 2 files differ, the first is maps/1.png"
        ]

    def test_another_adapter_or_level_is_told(self, run, work, capsys):
        shutil.copytree(run / "joint", "adapters")
        asked = ["--given", "depth=maps", "--adapters", "adapters"]
        sampled(run, "out", *asked)
        assert "coarse: 0.0 there, 0.5 here" in self.refused(run, capsys, *asked, "--coarse", "0.5")
        save_adapter(build().transformer, DEPTH, Path("adapters"), seed=9)
        assert "adapter 0, depth: weights: " in self.refused(run, capsys, *asked)

    def test_the_same_adapter_elsewhere_goes_on_and_another_config_of_it_is_told(
        self, run, work, capsys
    ):
        asked = ["--given", "depth=maps"]
        first = sampled(run, "out", *asked)
        shutil.copytree(run / "joint", "adapters")
        Path("out/8x8/image/0-cat-seed0-00000.png").unlink()
        asked += ["--adapters", "adapters"]
        assert sampled(run, "out", *asked) == first
        file = Path("adapters/depth/adapter/config.json")
        file.write_text(json.dumps({**json.loads(file.read_text()), "extra": 1}))
        assert "adapter 0, depth: config: " in self.refused(run, capsys, *asked)

    def test_a_killed_run_goes_on_and_ends_with_the_same_pictures(self, run, work):
        argv = ["--want", "image,depth", "--num-images", "40", *COMMON]
        whole = sampled(run, "whole", *argv)
        running = Running("sample/joint.py", str(run), "--out", "cut", *argv, folder=work)
        running.until(lambda: len(list(Path("cut").rglob("*-seed*.png"))) >= 4)
        running.signal(signal.SIGTERM)
        assert running.codes == [143]
        there = len(list(Path("cut/8x8/depth").glob("*.png")))
        if there < 40:
            assert "of 40 pairs are in cut, the same command goes on" in running.said[0]
        assert sampled(run, "cut", *argv) == whole


def test_a_model_of_latents_draws_pairs_too(work, vae_folder):
    pipe = build(in_channels=4, sample_size=(4, 4))
    model = DiffGenPipeline(pipe.transformer, pipe.scheduler, ["a", "b", "c"], load_vae(vae_folder))
    model.save_pretrained("latents/pipeline")
    save_adapter(pipe.transformer, DEPTH, Path("latents/joint"))
    argv = ["--given", "depth=maps", "--given", "image=photo.png", "--coarse", "0,0.5"]
    sampled(Path("latents"), "out", *argv, "--known", "image=left.png", "--decode-batch-size", "1")
    assert np.array_equal(shots("out", "depth")[0], levels("maps/0.png"))
    with Image.open("photo.png") as photo:
        small = np.array(photo.resize((8, 8), Image.Resampling.LANCZOS)).astype(int)
    images = shots("out", "image")
    assert np.array_equal(images[:, :, :4], np.stack([small[:, :4]] * 3))
    assert not np.array_equal(images[0, :, 4:], small[:, 4:])


def test_two_processes_draw_what_one_draws(run, work):
    argv = [*COMMON, "--given", "depth=maps", "--given", "image=photo.png", "--coarse", "0.5"]
    argv += ["--num-images", "5", "--want", "image,depth,edge"]
    one = sampled(run, "one", *argv)
    both = Running("sample/joint.py", str(run), "--out", "two", *argv, folder=work, world=2)
    assert both.codes == [0, 0], both.said
    assert {str(p.relative_to("two")): p.read_bytes() for p in Path("two").rglob("*.png")} == one


def test_every_refusal_is_one_message_with_code_2_and_leaves_nothing(run, work, capsys):
    Path("broken.png").write_bytes((work / "photo.png").read_bytes()[:-300])
    Image.new("L", (8, 8), 255).save("white.png")
    Image.new("L", (8, 8)).save("black.png")
    save_adapter(build(hidden_size=64).transformer, DEPTH, work / "strange")
    save_adapter(build().transformer, DEPTH, work / "damaged")
    weights = next((work / "damaged/depth/adapter").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:100])
    save_adapter(build().transformer, EDGE, work / "renamed")
    (work / "renamed/edge").rename(work / "renamed/depth")
    depth = ["--given", "depth=maps"]
    cases = [
        (["--given", "depth=broken.png"], "given: depth=broken.png is not a readable image"),
        (
            ["--given", "edge=photo.png"],
            "given: edge=photo.png is a colour image (its channels differ by up to ",
        ),
        (["--given", "edge=photo.png"], "; --given-from picture finds the map in a picture"),
        (
            ["--given", "depth=photo.png", "--given-from", "picture"],
            "joint: given_from: depth cannot be found in pictures (photo.png); give its",
        ),
        ([*depth, "--known", "depth=white.png"], "known: depth=white.png is white everywhere"),
        ([*depth, "--known", "depth=black.png"], "known: depth=black.png is black everywhere"),
        ([*depth, "--adapters", "strange"], "strange/depth is the adapter of another model"),
        ([*depth, "--adapters", "damaged"], "damaged/depth/adapter cannot be loaded"),
        (
            [*depth, "--adapters", "renamed"],
            "is an adapter of edge, but depth is asked for; rename",
        ),
    ]
    before = sorted(work.rglob("*"))
    for argv, said in cases:
        code = launch("joint-sample", [str(run), *argv, *COMMON], "joint")
        message = capsys.readouterr().err
        assert code == 2, argv
        assert said in message, (argv, message)
        assert len(message.splitlines()) == 1, message
    assert sorted(work.rglob("*")) == before
