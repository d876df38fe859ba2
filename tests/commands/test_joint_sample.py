"""Files that joint drawings are given: as maps and masks, in turn, at every size."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffgen import DiffGenPipeline
from diffgen.commands.condition_files import ConditionFile, fitted, picture, stored_map
from diffgen.commands.joint_drawing import LONGEST, given_stems
from diffgen.commands.joint_given import GivenFiles, kept
from diffgen.commands.joint_named import own_conditions, renamed
from diffgen.config.joint_sample import JointSampleConfig
from diffgen.errors import UserError
from diffgen.joint.course import Course
from diffgen.joint.pipeline import JointPipeline
from diffgen.lacon.conditions import CONDITIONS, DEPTH, EDGE, MASK, PALETTE
from diffgen.models.vae import load_vae
from diffgen.sampling.schedulers import build_scheduler
from tests.joint.adapters import random_adapter
from tests.tiny import build

KNOWN = {condition.name: condition for condition in CONDITIONS}


@pytest.fixture(scope="module")
def joint() -> JointPipeline:
    pipe = build()
    return JointPipeline(pipe, [(random_adapter(pipe.transformer, DEPTH), DEPTH)])


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    """The user's: three maps with a white line each, a photograph, and masks of a half each."""
    monkeypatch.chdir(tmp_path)
    for folder in ("maps", "masks"):
        Path(folder).mkdir()
    for k in range(3):
        levels = np.zeros((8, 8), np.uint8)
        levels[k] = 255
        Image.fromarray(levels).save(f"maps/{k}.png")
    for k in range(2):
        levels = np.zeros((8, 8), np.uint8)
        levels[:, 4 * k : 4 * k + 4] = 255
        Image.fromarray(levels).save(f"masks/{k}.png")
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(noise).save("photo.png")
    return tmp_path


def read(joint, *given, sizes=("8x8",), **options) -> list[GivenFiles]:
    config = JointSampleConfig(source="run", given=[*given], **options)
    return [
        GivenFiles.check(request, KNOWN.get(request.name), config, joint, sizes)
        for request in config.requests()
    ]


def file(path: str) -> ConditionFile:
    return ConditionFile.read(Path(path), "")


@pytest.mark.usefixtures("work")
class TestGiven:
    def test_image_k_takes_file_k_modulo_their_number(self, joint):
        (one,) = read(joint, "depth=maps")
        given = one.at("8x8", [4, 5, 6])
        assert given.maps.argmax(dim=2)[:, 0, 0].tolist() == [1, 2, 0]
        assert (given.way, given.known, given.whole) == (Course(1, 1), None, True)
        assert [one.file(k) for k in (0, 4)] == ["maps/0.png", "maps/1.png"]
        (one,) = read(joint, "depth=maps/2.png")
        assert one.at("8x8", [4, 5, 6]).maps.shape == (1, 1, 8, 8)

    def test_each_has_its_own_level(self, joint):
        first, second = read(joint, "image=photo.png", "depth=maps", coarse=[0.25, 0])
        assert (first.at("8x8", [0]).way, second.at("8x8", [0]).way) == (Course(0.75), Course(1))

    def test_maps_and_pictures_are_fitted_as_those_of_constraints(self, joint):
        image, depth, palette = read(
            joint, "image=photo.png", "depth=maps/1.png", "palette=photo.png", sizes=["4x4"]
        )
        assert torch.equal(image.at("4x4", [0]).maps, picture(file("photo.png"), (4, 4)))
        wanted = fitted(stored_map(file("maps/1.png"), DEPTH), DEPTH.shrink, (4, 4), (4, 4))
        assert torch.equal(depth.at("4x4", [0]).maps, wanted)
        wanted = fitted(stored_map(file("photo.png"), PALETTE), PALETTE.shrink, (4, 4), (4, 4))
        assert torch.equal(palette.at("4x4", [0]).maps, wanted)
        assert depth.at("16x16", [0]).maps.shape == (1, 1, 16, 16)

    def test_maps_are_found_in_pictures_when_asked_for(self, joint):
        given = ["edge=photo.png", "image=photo.png"]
        edge, image = read(joint, *given, given_from="picture", sizes=["16x16"], coarse=[0.5])
        photo = picture(file("photo.png"), (16, 16))
        assert torch.equal(edge.at("16x16", [0]).maps, EDGE.of(photo))
        assert torch.equal(image.at("16x16", [0]).maps, photo)
        assert (edge.note()["from"], image.note()["from"]) == ("picture", "map")

    def test_masks_are_taken_in_turn_too(self, joint):
        (one,) = read(joint, "depth=maps/0.png", known=["depth=masks"], num_images=3)
        given = one.at("8x8", [0, 1, 2])
        assert (len(given.maps), given.way) == (1, Course(0, 1))
        left, right = [1] * 4 + [0] * 4, [0] * 4 + [1] * 4
        assert given.known[:, 0, 0].tolist() == [left, right, left]

    def test_a_file_that_changes_while_it_is_drawn_from_is_told(self, joint):
        (one,) = read(joint, "depth=maps", known=["depth=masks/0.png"])
        one.at("8x8", [0, 1, 2])
        for path, said in (("maps/1.png", "given: depth="), ("masks/0.png", "known: depth=")):
            before = Path(path).read_bytes()
            Image.new("L", (8, 8), 9).save(path)
            with pytest.raises(UserError, match=f"{said}{path} has changed since the drawing"):
                one.at("8x8", [1])
            Path(path).write_bytes(before)

    def test_maps_that_cannot_be_found_in_pictures_are_told(self, joint):
        said = r"given_from: depth cannot be found in pictures \(photo.png\); give its map"
        with pytest.raises(UserError, match=f"^{said}$"):
            read(joint, "depth=photo.png", given_from="picture")

    def test_a_sheet_shows_what_is_not_known_in_grey(self, joint):
        (one,) = read(joint, "mask=maps/0.png", known=["mask=masks/0.png"])
        row = one.row("8x8")
        (shown,) = row.images
        assert row.title == "mask, given: 0.png"
        assert np.array(shown)[:2].tolist() == [[255] * 4 + [128] * 4, [0] * 4 + [128] * 4]

    def test_notes_tell_the_files_the_level_and_the_masks(self, joint):
        (one,) = read(joint, "depth=maps", known=["depth=masks/0.png"], coarse=[0.5])
        note, masks = one.note(), one.mask_note()
        assert list(note["files"]) == [f"maps/{k}.png" for k in range(3)]
        assert (note["name"], note["coarse"], note["from"]) == ("depth", 0.5, "map")
        assert {len(digest) for digest in (*note["files"].values(), *masks["files"].values())} == {
            64
        }
        assert list(masks["files"]) == ["masks/0.png"]


def test_names_of_given_files_are_their_paths_in_the_folder_cut_to_what_fits(tmp_path):
    (tmp_path / "cats").mkdir()
    for name in ("cats/a.b.png", "z" * 200 + ".png", "é" * 100 + ".png"):
        Image.new("L", (8, 8)).save(tmp_path / name)

    def stems(path: Path, count: int) -> list[str]:
        (request,) = JointSampleConfig(source="run", given=[f"depth={path}"]).requests()
        return given_stems(request, count)

    assert stems(tmp_path, 5) == ["cats_a.b", "z" * LONGEST, "é" * (LONGEST // 2)]
    assert stems(tmp_path, 1) == ["cats_a.b"]
    assert stems(tmp_path / "cats/a.b.png", 5) == ["a.b"]


class TestConditionsOfOnesOwn:
    @pytest.fixture(autouse=True)
    def module(self, tmp_path, monkeypatch):
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / "own_kinds.py").write_text(
            "from diffgen.lacon.conditions import EDGE_F1, Condition\n"
            "def dark(pictures):\n"
            "    return (pictures.mean(1, keepdim=True) < 0).float()\n"
            "DARK, TWIN = (Condition('dark', 1, True, dark, EDGE_F1) for _ in range(2))\n"
            "IMAGE = Condition('image', 3, False, None, EDGE_F1)\n"
        )
        yield
        sys.modules.pop("own_kinds", None)

    def test_they_are_called_by_their_own_names(self):
        asked = JointSampleConfig(
            source="run",
            given=["own_kinds:DARK=a=b.png", "image=c"],
            known=["own_kinds:DARK=m.png"],
            want=["depth", "own_kinds:DARK"],
        )
        own = own_conditions(asked)
        found = renamed(asked, own)
        assert own["own_kinds:DARK"].find is not None
        assert (found.given, found.known) == (["dark=a=b.png", "image=c"], ["dark=m.png"])
        assert found.conditions() == ["dark", "depth"]
        assert found.requests()[0].known == Path("m.png")

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"want": ["own_kinds:GONE"]}, "want: own_kinds:GONE: "),
            ({"given": ["own_kinds:IMAGE=a"]}, "given: own_kinds:IMAGE is called 'image', which"),
            (
                {"want": ["own_kinds:DARK", "own_kinds:TWIN"]},
                "want: own_kinds:TWIN and own_kinds:DARK are both called 'dark'",
            ),
            (
                {"given": ["own_kinds:DARK=a"], "want": ["dark"]},
                "given: own_kinds:DARK and dark are both called 'dark'",
            ),
        ],
    )
    def test_what_cannot_be_told_apart_is_refused(self, options, said):
        with pytest.raises(UserError, match=said):
            own_conditions(JointSampleConfig(source="run", **options))


class TestMasks:
    def mask(self, levels) -> ConditionFile:
        Image.fromarray(np.asarray(levels, np.uint8)).save("mask.png")
        return file("mask.png")

    def test_only_pixels_that_were_white_alone_are_kept_after_resizing(self, work):
        levels = np.zeros((8, 8))
        levels[:, :3] = 255
        mask = self.mask(levels)
        assert kept(mask, (8, 8))[0, 0, 0].tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
        assert kept(mask, (4, 4))[0, 0, 0].tolist() == [1, 0, 0, 0]
        assert kept(mask, (16, 16))[0, 0, 0].tolist() == [1] * 5 + [0] * 11

    def test_greys_count_as_the_nearer_of_white_and_black(self, work):
        assert kept(self.mask([[0, 127, 128, 253]]), (1, 4)).flatten().tolist() == [0, 0, 1, 1]

    def test_a_mask_that_keeps_no_latent_whole_is_told(self, work, vae_folder):
        model = build(in_channels=4, sample_size=(4, 4)).transformer
        pipe = DiffGenPipeline(model, build_scheduler("euler"), vae=load_vae(vae_folder))
        joint = JointPipeline(pipe, [(random_adapter(model, MASK), MASK)])
        self.mask(np.eye(8) * 255)
        with pytest.raises(UserError, match=r"known: mask=mask.png keeps no pixel of the model's"):
            read(joint, "mask=maps", known=["mask=mask.png"])
        self.mask(np.kron(np.eye(4), np.ones((2, 2))) * 255)
        assert len(read(joint, "mask=maps", known=["mask=mask.png"])) == 1
