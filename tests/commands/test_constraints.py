"""Constraints made of condition files and aligners, and what is refused."""

import sys
from types import ModuleType
from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from diffgen.commands.condition_files import ConditionFile, picture
from diffgen.commands.constraints import read_constraints
from diffgen.commands.load import load_pipeline
from diffgen.config.constraints import ALIGNED, Form
from diffgen.config.sample import SampleConfig
from diffgen.errors import UserError
from diffgen.guidance import Constraint
from diffgen.guidance.late import unit_step
from diffgen.lacon import Aligned, Aligner, Inpaint, LowResolution
from diffgen.lacon.conditions import CONDITIONS, DEPTH, EDGE, MASK, PALETTE, Condition, averaged
from diffgen.models.beside import fingerprint
from diffgen.models.vae import LatentSpace
from tests.tiny import build

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_the_command_line_knows_the_conditions_and_forms_there_are():
    assert tuple(condition.name for condition in CONDITIONS) == ALIGNED
    ones = torch.ones(1, 1, 1, 1)
    for form in get_args(Form):
        assert unit_step(form, ones, ones.flatten(), ones, ones, 0.5).isfinite().all()


def save_aligner(model, condition, folder, **stated):
    """A fresh aligner of ``model`` in ``folder``."""
    mark = {"backbone": fingerprint(model), **stated}
    aligner = Aligner.of(model, condition.name, condition.channels, **mark)
    aligner.save_pretrained(folder / condition.name / "aligner")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """A tiny model, and aligners of edges, masks and palettes that nobody trained."""
    run = tmp_path_factory.mktemp("run")
    pipe = build()
    pipe.save_pretrained(run / "pipeline")
    for condition in (EDGE, MASK, PALETTE):
        stated = {"until": 0.4, "image_std": 0.5}
        save_aligner(pipe.transformer, condition, run / "aligners", **stated)
    return load_pipeline(run, "cpu")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The user's: three masks, a picture, and a picture with a hole."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "masks").mkdir()
    for k in range(3):
        levels = np.zeros((8, 8), np.uint8)
        levels[k] = 255
        Image.fromarray(levels).save(f"masks/{k}.png")
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 4), np.uint8)
    noise[..., 3] = 255
    Image.fromarray(noise).convert("RGB").save("picture.png")
    noise[2:5, 2:5, 3] = 0
    Image.fromarray(noise).save("hole.png")
    return tmp_path


def read(loaded, *asked, sizes=("8x8",), **options):
    source = str(loaded.source.run)
    config = SampleConfig(source=source, constraint=[*asked], **options)
    return read_constraints(config, loaded, sizes)


def built(loaded, *asked, size="8x8", numbers=(0,), **options) -> list[Constraint]:
    """The constraints of the images ``numbers``."""
    return [one.at(size, numbers) for one in read(loaded, *asked, sizes=[size], **options)]


def pixels(side: int) -> torch.Tensor:
    with open("picture.png", "rb") as file:
        return picture(ConditionFile("", file.read()), (side, side))


@pytest.mark.usefixtures("folder")
class TestConstraints:
    def test_image_k_takes_file_k_modulo_their_number(self, loaded):
        (constraint,) = built(loaded, "mask=masks", numbers=[4, 5, 6])
        assert isinstance(constraint.loss, Aligned)
        assert constraint.loss.wanted.argmax(dim=2)[:, 0, 0].tolist() == [1, 2, 0]
        assert constraint.loss.wanted.shape == (3, 1, 8, 8)

    def test_each_constraint_has_its_own_scale_and_end_and_one_serves_all(self, loaded):
        asked = ["mask=masks", "palette=picture.png", "mask=masks"]
        own = {"constraint_scale": [0.5, 0, 2], "constraint_until": [0.1, 0.2, 0.3]}
        found = built(loaded, *asked, **own)
        assert [(c.scale, c.until) for c in found] == [(0.5, 0.1), (0, 0.2), (2, 0.3)]
        assert found[0].loss.aligner is found[2].loss.aligner
        found = built(loaded, *asked, constraint_scale=[3])
        assert [(c.scale, c.until) for c in found] == [(3, 0.4)] * 3

    def test_maps_are_found_in_pictures_when_asked_for(self, loaded):
        asked = {"constraint_from": "picture", "size": "16x16"}
        (constraint,) = built(loaded, "edge=picture.png", **asked, numbers=[0, 1])
        assert torch.equal(constraint.loss.wanted, EDGE.of(pixels(16)))
        assert constraint.loss.wanted.any()

    def test_where_tells_how_much_each_place_counts(self, loaded, folder):
        Image.fromarray(np.tril(np.full((16, 16), 255, np.uint8))).save("where.png")
        where = {"constraint_where": folder / "where.png"}
        (constraint,) = built(loaded, "mask=masks", **where)
        weight = constraint.loss.weight[0, 0]
        assert torch.equal(weight, torch.ones(8, 8).tril(-1) + 0.75 * torch.eye(8))
        Image.new("L", (8, 8)).save("where.png")
        with pytest.raises(UserError, match=r"constraint_where: .*where.png is black"):
            built(loaded, "mask=masks", **where)

    def test_low_resolution_and_inpaint_ignore_the_form_and_meet_what_they_ask_for(self, loaded):
        asked = ["low_resolution=picture.png", "inpaint=hole.png"]
        low, part = built(loaded, *asked, size="16x16", numbers=[7])
        assert [(one.form, one.until) for one in (low, part)] == [("none", 0)] * 2
        assert isinstance(low.loss, LowResolution)
        assert torch.equal(low.loss.wanted, F.avg_pool2d(pixels(16), 2))
        assert isinstance(part.loss, Inpaint)
        assert part.loss.known.sum() == 256 - 64  # the hole, and the rim that shared its colours

    def test_checkpointing_is_switched_on_in_the_model(self, loaded):
        model = loaded.pipe.transformer
        assert not model.gradient_checkpointing
        built(loaded, "mask=masks", constraint_checkpointing=True)
        assert model.gradient_checkpointing
        model.disable_gradient_checkpointing()

    def test_notes_tell_the_files_and_what_is_done_with_them(self, loaded):
        (one,) = read(loaded, "mask=masks", constraint_scale=[0.5], num_images=2)
        note = one.note()
        assert list(note["files"]) == ["masks/0.png", "masks/1.png"]
        assert len(set(note["files"].values())) == 2
        assert (note["scale"], note["until"], note["form"], note["unit"]) == (0.5, 0.4, "rms", 0.5)
        assert len(note["aligner_weights"]) == 64

    def test_a_condition_of_ones_own_is_read_by_its_own_aligner(self, loaded, folder, monkeypatch):
        module = ModuleType("mine")
        module.RED = Condition("red", 1, False, lambda x: x[:, :1], DEPTH.fidelity)
        monkeypatch.setitem(sys.modules, "mine", module)
        save_aligner(loaded.pipe.transformer, module.RED, folder / "aligners")
        asked = {"constraint_from": "picture", "aligners": folder / "aligners"}
        (constraint,) = built(loaded, "mine:RED=picture.png", **asked)
        assert torch.equal(constraint.loss.wanted, averaged(pixels(8)[:, :1], (8, 8)))


class TestRefusals:
    def refused(self, loaded, *asked, **options) -> str:
        with pytest.raises(UserError) as caught:
            built(loaded, *asked, **options)
        return str(caught.value)

    def test_an_aligner_of_another_condition(self, loaded, folder):
        save_aligner(loaded.pipe.transformer, EDGE, folder)
        (folder / "edge").rename(folder / "mask")
        said = self.refused(loaded, "mask=masks", aligners=folder)
        assert "is an aligner of edge of 1 channels, but mask of 1 is asked for" in said

    def test_an_aligner_that_has_learnt_nothing_unless_a_time_is_given(self, loaded, folder):
        save_aligner(loaded.pipe.transformer, MASK, folder, until=1.0)
        said = self.refused(loaded, "mask=masks", aligners=folder)
        assert said.startswith(
            f"constraint_until: the aligner in {folder}/mask has learnt nothing that"
        )
        assert "give one to use it anyway" in said
        (constraint,) = built(loaded, "mask=masks", aligners=folder, constraint_until=[0.5])
        assert constraint.until == 0.5

    def test_times_below_those_that_the_aligner_was_trained_at(self, loaded, folder):
        save_aligner(loaded.pipe.transformer, MASK, folder, until=0.6, r2={"0.3": 0.9, "1": 0.0})
        asked = {"aligners": folder, "constraint_until": [0.25]}
        said = self.refused(loaded, "mask=masks", **asked)
        assert said.startswith("constraint_until: 0.25 is below 0.3, the smallest time that the")
        asked["constraint_until"] = [0.3]
        assert [one.until for one in built(loaded, "mask=masks", **asked)] == [0.3]

    def test_depth_in_a_picture(self, loaded, folder):
        save_aligner(loaded.pipe.transformer, DEPTH, folder)
        asked = {"aligners": folder, "constraint_from": "picture"}
        assert "cannot be found in pictures" in self.refused(loaded, "depth=picture.png", **asked)


def test_latents_are_constrained_as_the_vae_encodes_the_picture(folder, vae_folder):
    from diffusers import AutoencoderKL

    from diffgen import DiffGenPipeline
    from diffgen.sampling.schedulers import build_scheduler

    vae = AutoencoderKL.from_pretrained(vae_folder)
    pipe = DiffGenPipeline(
        build(in_channels=4).transformer, build_scheduler("euler"), ["a", "b", "c"], vae
    )
    pipe.save_pretrained(folder / "latents/pipeline")
    model = load_pipeline(folder / "latents", "cpu")
    low, part = built(model, "low_resolution=picture.png", "inpaint=hole.png")
    space = LatentSpace(model.pipe.vae, model.pipe.latent_format)
    assert torch.equal(low.loss.wanted, space.encode(pixels(8)))  # four cells a side are there
    assert part.loss.wanted.shape == (1, 4, 4, 4)
    wanted = torch.ones(4, 4)
    wanted[1:3, 1:3] = 0  # a latent pixel is known where all four pixels behind it are
    assert torch.equal(part.loss.known[0, 0], wanted)
