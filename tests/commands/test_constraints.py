"""Condition files as tensors, and the constraints made of them."""

import subprocess
import sys
from io import BytesIO
from types import ModuleType
from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from diffgen.commands.condition_files import ConditionFile, cutout, fitted, picture, stored_map
from diffgen.commands.condition_kinds import cell_side
from diffgen.commands.constraints import build_constraints, read_constraints
from diffgen.commands.load import load_pipeline
from diffgen.config.condition_files import nearest_size, same_shape
from diffgen.config.constraints import ALIGNED, ConstraintsConfig
from diffgen.errors import UserError
from diffgen.guidance.late import Form
from diffgen.lacon import Aligned, Aligner, Inpaint, LowResolution
from diffgen.lacon.conditions import CONDITIONS, DEPTH, EDGE, MASK, PALETTE, Condition, averaged
from diffgen.lacon.load import fingerprint
from diffgen.models.vae import LatentSpace
from tests.tiny import build

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def file(image, kind="PNG", **options) -> ConditionFile:
    """An image, or the array of one, as a condition file."""
    image = image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image))
    stored = BytesIO()
    image.save(stored, kind, **options)
    return ConditionFile("x.png", "constraint: x.png", stored.getvalue())


def grey_image(values, dtype=np.uint8) -> Image.Image:
    return Image.fromarray(np.asarray(values).astype(dtype))


class TestMaps:
    def test_a_line_of_one_pixel_outlives_shrinking(self):
        levels = np.zeros((64, 64))
        levels[:, 21] = 255
        small = fitted(stored_map(file(grey_image(levels)), EDGE), EDGE.shrink, (8, 8), (8, 8))
        wanted = torch.zeros(1, 1, 8, 8)
        wanted[..., 2] = 1
        assert torch.equal(small, wanted)

    def test_a_mask_shrinks_to_the_share_it_covers(self):
        levels = np.zeros((8, 8))
        levels[:2, :1] = 255
        small = fitted(stored_map(file(grey_image(levels)), MASK), MASK.shrink, (2, 2), (2, 2))
        assert small.flatten().tolist() == [0.125, 0, 0, 0]

    def test_a_small_mask_grows_smoothly_and_a_small_palette_in_squares(self):
        levels = np.array([[0, 255]])
        mask = fitted(stored_map(file(grey_image(levels)), MASK), MASK.shrink, (2, 4), (2, 4))
        assert mask[0, 0, 0].tolist() == [0, 0.25, 0.75, 1]
        cells = np.zeros((1, 2, 3), np.uint8)
        cells[0, 1] = (255, 0, 255)
        shown = stored_map(file(cells), PALETTE)
        palette = fitted(shown, PALETTE.shrink, (2, 4), (2, 4))
        assert palette[0, :, 0].tolist() == [[-1, -1, 1, 1], [-1, -1, -1, -1], [-1, -1, 1, 1]]

    def test_black_is_near_and_white_is_far(self):
        found = stored_map(file(grey_image([[0, 255]])), DEPTH)
        assert torch.equal(found, DEPTH.from_stored(torch.tensor([[[[1.0, 10.0]]]])))

    def test_grey_of_16_bits_has_the_levels_of_8(self):
        deep = stored_map(file(grey_image([[0, 257 * 100, 65535]], np.uint16)), MASK)
        assert torch.equal(deep, stored_map(file(grey_image([[0, 100, 255]])), MASK))

    def test_a_rotated_photograph_of_a_map_lies_upright(self):
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by 90 degrees to the right
        turned = file(grey_image(np.eye(16)[:, :8] * 255), "PNG", exif=exif)
        assert stored_map(turned, MASK).shape == (1, 1, 8, 16)

    def test_a_grey_palette_is_a_palette_of_greys(self):
        found = stored_map(file(grey_image([[51]])), PALETTE)
        assert found.flatten().tolist() == pytest.approx([-0.6] * 3)

    def test_colour_is_refused_where_grey_is_needed_but_not_what_jpeg_leaves(self):
        image = np.full((4, 4, 3), 100, np.uint8)
        image[0, 0, 2] = 108
        assert stored_map(file(image), MASK).shape == (1, 1, 4, 4)
        image[0, 0, 2] = 109
        with pytest.raises(
            UserError, match=r"is a colour image.* up to 9 .*--constraint-from pict"
        ):
            stored_map(file(image), MASK)
        with pytest.raises(UserError, match=r"but a grey one is needed$"):
            stored_map(file(image), DEPTH)  # which no picture shows

    def test_black_edges_on_white_are_refused(self):
        with pytest.raises(UserError, match="edges are white on black; invert it"):
            stored_map(file(grey_image(255 - 255 * np.eye(8))), EDGE)
        assert stored_map(file(grey_image(255 - 255 * np.eye(8))), MASK).mean() == 0.875

    def test_white_on_transparent_is_a_mask_and_black_on_transparent_shows_nothing(self):
        layers = np.zeros((2, 2, 4), np.uint8)
        layers[0, 0] = (255, 255, 255, 255)
        assert stored_map(file(layers), MASK).flatten().tolist() == [1, 0, 0, 0]
        layers[0, 0] = (0, 0, 0, 255)
        with pytest.raises(UserError, match="shows nothing: its transparent parts count as black"):
            stored_map(file(layers), MASK)
        assert not stored_map(file(grey_image([[0]])), MASK).any()  # an empty mask is one

    def test_what_pillow_cannot_read_is_named(self):
        whole = file(grey_image(np.arange(64 * 64).reshape(64, 64) % 251))
        for data, why in ((b"hello", "no known image format"), (whole.data[:-60], "truncated")):
            broken = ConditionFile("x.png", "constraint: edge=x.png", data)
            with pytest.raises(UserError, match=f"edge=x.png is not a readable image: .*{why}"):
                stored_map(broken, MASK)


class TestCutouts:
    def cut(self, side, edge):
        """Red up to column ``edge``, then transparent green."""
        layers = np.zeros((side, side, 4), np.uint8)
        layers[:, :edge] = (255, 0, 0, 255)
        layers[:, edge:] = (0, 255, 0, 0)
        return file(layers)

    def test_only_opaque_pixels_are_known(self):
        layers = np.full((1, 3, 4), 200, np.uint8)
        layers[0, :, 3] = (255, 254, 0)
        pixels, known = cutout(file(layers), (1, 3))
        assert known.flatten().tolist() == [1, 0, 0]
        assert pixels[0, :, 0, 0].tolist() == pytest.approx([200 / 127.5 - 1] * 3)
        assert pixels[0, :, 0, 2].tolist() == [0, 0, 0]

    @pytest.mark.parametrize(
        ("side", "edge", "known_columns"), [(64, 20, 2), (40, 22, 4), (4, 2, 3)]
    )
    def test_nothing_of_the_unknown_bleeds_into_the_known(self, side, edge, known_columns):
        pixels, known = cutout(self.cut(side, edge), (8, 8))
        assert known[0, 0].sum(dim=1).tolist() == [known_columns] * 8
        red = torch.tensor([1.0, -1, -1]).view(1, 3, 1, 1).expand_as(pixels)
        inside = known.bool().expand_as(pixels)
        torch.testing.assert_close(pixels[inside], red[inside], rtol=0, atol=1e-5)

    def test_a_picture_that_is_all_opaque_or_all_transparent_is_refused(self):
        for edge, said in ((0, "transparent"), (4, "opaque")):
            with pytest.raises(UserError, match=f"is {said} everywhere"):
                cutout(self.cut(4, edge), (4, 4))


@pytest.mark.parametrize(
    ("own", "side"),
    [((32, 32), 4), ((48, 32), 4), ((12, 12), 2), ((8, 8), 1), ((24, 40), 4), ((34, 26), 2)],
)
def test_cells_divide_both_sides_and_leave_eight_along_the_shorter(own, side):
    assert cell_side(own) == side


def test_shapes_are_one_within_2_percent_and_a_size_next_to_the_one_asked_for_is_named():
    assert same_shape((100, 102), (32, 32))
    assert not same_shape((100, 103), (32, 32))
    assert nearest_size((512, 512), (48, 32), 4) == (48, 48)
    assert nearest_size((1080, 1920), (32, 32), 4) == (16, 28)
    assert nearest_size((1000, 10), (32, 32), 4) is None
    for shape in ((300, 200), (200, 300), (640, 480), (123, 456)):
        found = nearest_size(shape, (64, 64), 2)
        assert same_shape(shape, found)
        assert [side % 2 for side in found] == [0, 0]


def test_the_command_line_knows_the_conditions_and_forms_there_are():
    assert tuple(condition.name for condition in CONDITIONS) == ALIGNED
    assert ConstraintsConfig.model_fields["constraint_form"].annotation == Form
    assert len(get_args(Form)) == 5


def test_the_python_names_are_there_and_load_torch_only_when_used():
    program = (
        "import sys, diffgen.lacon as lacon; assert 'torch' not in sys.modules\n"
        "print(*(getattr(lacon, name).__name__ for name in lacon.__all__))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == [
        *("Aligned", "Aligner", "Condition", "Inpaint", "LowResolution"),
        *("condition_named", "load_aligner"),
    ], done.stderr


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """A tiny model, and aligners of edges, masks and palettes that nobody trained."""
    run = tmp_path_factory.mktemp("run")
    pipe = build()
    pipe.save_pretrained(run / "pipeline")
    for condition in (EDGE, MASK, PALETTE):
        mark = {"backbone": fingerprint(pipe.transformer), "until": 0.4, "image_std": 0.5}
        aligner = Aligner.of(pipe.transformer, condition.name, condition.channels, **mark)
        aligner.save_pretrained(run / "aligners" / condition.name / "aligner")
    return load_pipeline(run, "cpu")


@pytest.fixture
def folder(tmp_path):
    """Three masks, a picture, and a picture with a hole."""
    (tmp_path / "masks").mkdir()
    for k in range(3):
        levels = np.zeros((8, 8))
        levels[k] = 255
        grey_image(levels).save(tmp_path / f"masks/{k}.png")
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 4), np.uint8)
    noise[..., 3] = 255
    Image.fromarray(noise).convert("RGB").save(tmp_path / "picture.png")
    noise[2:5, 2:5, 3] = 0
    Image.fromarray(noise).save(tmp_path / "hole.png")
    return tmp_path


def config(*constraint, **options) -> ConstraintsConfig:
    return ConstraintsConfig(constraint=[*constraint], **options)


class TestConstraints:
    def test_image_k_takes_file_k_modulo_their_number(self, loaded, folder):
        constrain = build_constraints(config(f"mask={folder}/masks"), loaded, "8x8")
        (constraint,) = constrain([4, 5, 6])
        assert isinstance(constraint.loss, Aligned)
        assert constraint.loss.wanted.argmax(dim=2)[:, 0, 0].tolist() == [1, 2, 0]
        assert constraint.loss.wanted.shape == (3, 1, 8, 8)

    def test_each_constraint_has_its_own_scale_and_end_and_one_serves_all(self, loaded, folder):
        asked = [f"mask={folder}/masks", f"palette={folder}/picture.png", f"mask={folder}/masks"]
        own = config(*asked, constraint_scale=[0.5, 0, 2], constraint_until=[0.1, 0.2, 0.3])
        found = build_constraints(own, loaded, "8x8")([0])
        assert [(c.scale, c.until) for c in found] == [(0.5, 0.1), (0, 0.2), (2, 0.3)]
        assert found[0].loss.aligner is found[2].loss.aligner
        found = build_constraints(config(*asked, constraint_scale=[3]), loaded, "8x8")([0])
        assert [(c.scale, c.until, c.loss.until) for c in found] == [(3, None, 0.4)] * 3

    def test_maps_are_found_in_pictures_when_asked_for(self, loaded, folder):
        asked = config(f"edge={folder}/picture.png", constraint_from="picture")
        (constraint,) = build_constraints(asked, loaded, "16x16")([0, 1])
        read = ConditionFile.read(folder / "picture.png", "")
        assert torch.equal(constraint.loss.wanted, EDGE.of(picture(read, (16, 16))))
        assert constraint.loss.wanted.any()

    def test_where_tells_how_much_each_place_counts(self, loaded, folder):
        grey_image(np.tril(np.full((16, 16), 255))).save(folder / "where.png")
        asked = config(f"mask={folder}/masks", constraint_where=folder / "where.png")
        (constraint,) = build_constraints(asked, loaded, "8x8")([0])
        weight = constraint.loss.weight[0, 0]
        assert torch.equal(weight, torch.ones(8, 8).tril(-1) + 0.75 * torch.eye(8))
        grey_image(np.zeros((8, 8))).save(folder / "where.png")
        with pytest.raises(UserError, match=r"constraint_where: .*where.png is black"):
            build_constraints(asked, loaded, "8x8")

    def test_low_resolution_and_inpaint_ignore_the_form_and_meet_what_they_ask_for(
        self, loaded, folder
    ):
        asked = [f"low_resolution={folder}/picture.png", f"inpaint={folder}/hole.png"]
        low, part = build_constraints(config(*asked), loaded, "16x16")([7])
        assert (low.form, part.form) == ("none", "none")
        assert isinstance(low.loss, LowResolution)
        pixels = picture(ConditionFile.read(folder / "picture.png", ""), (16, 16))
        assert torch.equal(low.loss.wanted, F.avg_pool2d(pixels, 2))
        assert isinstance(part.loss, Inpaint)
        assert part.loss.known.sum() == 256 - 64  # the hole, and the rim that shared its colours

    def test_what_is_drawn_has_the_means_of_the_picture_and_its_known_part(self, loaded, folder):
        drawing = {"num_inference_steps": 3, "seed": 0, "height": 16, "width": 16}
        for name in ("low_resolution=picture.png", "inpaint=hole.png"):
            kind, _, path = name.partition("=")
            asked = config(f"{kind}={folder}/{path}")
            constraints = build_constraints(asked, loaded, "16x16")([0, 1])
            x0 = loaded.pipe([0, 1], **drawing, output_type="latent", constraints=constraints)[0]
            loss = constraints[0].loss
            if kind == "low_resolution":
                found, wanted = F.avg_pool2d(x0, 2), loss.wanted.expand(2, -1, -1, -1)
            else:
                found, wanted = x0 * loss.known, (loss.wanted * loss.known).expand_as(x0)
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)

    def test_checkpointing_is_switched_on_in_the_model(self, loaded, folder):
        model = loaded.pipe.transformer
        assert not model.gradient_checkpointing
        asked = config(f"mask={folder}/masks", constraint_checkpointing=True)
        build_constraints(asked, loaded, "8x8")
        assert model.gradient_checkpointing
        model.disable_gradient_checkpointing()

    def test_notes_tell_the_files_and_what_is_done_with_them(self, loaded, folder):
        asked = config(f"mask={folder}/masks", constraint_scale=[0.5])
        (one,) = read_constraints(asked, loaded, ["8x8", "16x16"], 2).asked
        note = one.note()
        assert list(note["files"]) == [f"{folder}/masks/0.png", f"{folder}/masks/1.png"]
        assert len(set(note["files"].values())) == 2
        assert (note["scale"], note["until"], note["form"], note["unit"]) == (0.5, 0.4, "rms", 0.5)
        assert note["shapes"] == {"8x8": [1, 8, 8], "16x16": [1, 16, 16]}
        assert len(note["aligner_weights"]) == 64

    def test_a_condition_of_ones_own_is_read_by_its_own_aligner(self, loaded, folder, monkeypatch):
        module = ModuleType("mine")
        module.RED = Condition("red", 1, False, lambda x: x[:, :1], DEPTH.fidelity)
        monkeypatch.setitem(sys.modules, "mine", module)
        mark = {"backbone": fingerprint(loaded.pipe.transformer)}
        aligner = Aligner.of(loaded.pipe.transformer, "red", 1, **mark)
        aligner.save_pretrained(folder / "aligners/red/aligner")
        asked = {"constraint_from": "picture", "aligners": folder / "aligners"}
        red = config(f"mine:RED={folder}/picture.png", **asked)
        (constraint,) = build_constraints(red, loaded, "8x8")([0])
        pixels = picture(ConditionFile.read(folder / "picture.png", ""), (8, 8))
        assert torch.equal(constraint.loss.wanted, averaged(pixels[:, :1], (8, 8)))


class TestRefusals:
    def refused(self, loaded, *asked, **options) -> str:
        with pytest.raises(UserError) as caught:
            build_constraints(config(*asked, **options), loaded, "8x8")
        return str(caught.value)

    def test_an_aligner_of_another_model_or_of_another_condition(self, loaded, folder, tmp_path):
        model = loaded.pipe.transformer
        stranger = Aligner.of(model, "mask", 1, backbone="of another")
        stranger.save_pretrained(folder / "strange/mask/aligner")
        misplaced = Aligner.of(model, "edge", 1, backbone=fingerprint(model))
        misplaced.save_pretrained(folder / "wrong/mask/aligner")
        asked = f"mask={folder}/masks"
        said = self.refused(loaded, asked, aligners=folder / "strange")
        assert "is the aligner of another model" in said
        said = self.refused(loaded, asked, aligners=folder / "wrong")
        assert "is an aligner for edge of 1 channels, but mask of 1 is asked for" in said

    def test_depth_in_a_picture_and_a_module_that_is_not_there(self, loaded, folder):
        model = loaded.pipe.transformer
        depth = Aligner.of(model, "depth", 1, backbone=fingerprint(model))
        depth.save_pretrained(folder / "aligners/depth/aligner")
        options = {"aligners": folder / "aligners", "constraint_from": "picture"}
        said = self.refused(loaded, f"depth={folder}/picture.png", **options)
        assert "depth cannot be found in pictures" in said
        said = self.refused(loaded, f"no_such_module:X={folder}/picture.png")
        assert said.startswith("constraint: no_such_module:X: No module named")


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
    asked = [f"low_resolution={folder}/picture.png", f"inpaint={folder}/hole.png"]
    low, part = build_constraints(config(*asked), model, "8x8")([0])
    space = LatentSpace(model.pipe.vae, model.pipe.latent_format)
    pixels = picture(ConditionFile.read(folder / "picture.png", ""), (8, 8))
    assert torch.equal(low.loss.wanted, space.encode(pixels))  # four cells a side are there
    assert part.loss.wanted.shape == (1, 4, 4, 4)
    wanted = torch.ones(4, 4)
    wanted[1:3, 1:3] = 0  # a latent pixel is known where all four pixels behind it are
    assert torch.equal(part.loss.known[0, 0], wanted)
