"""JointPipeline: what is given stays, what is drawn follows the seed, and what is refused."""

import pytest
import torch

from diffgen import DiffGenPipeline
from diffgen.config.process import DDPMConfig
from diffgen.errors import UserError
from diffgen.guidance import APG, CFG, AutoGuidance, Interval
from diffgen.joint.course import Course
from diffgen.joint.pipeline import Given, JointPipeline
from diffgen.lacon.conditions import DEPTH, EDGE, MASK, PALETTE
from diffgen.models.vae import LatentSpace, load_vae
from diffgen.sampling.schedulers import build_scheduler
from diffgen.seeding import image_noise, stream_seed
from tests.joint.adapters import random_adapter, save_adapter
from tests.tiny import build, draw

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def joint_of(pipe, *conditions) -> JointPipeline:
    found = [(random_adapter(pipe.transformer, one, k), one) for k, one in enumerate(conditions)]
    return JointPipeline(pipe, found)


@pytest.fixture(scope="module")
def joint() -> JointPipeline:
    return joint_of(build(), DEPTH)


def drawn(joint, labels=(0, 1, 2), **options):
    settings = {"num_inference_steps": 4, "seed": 11, **options}
    return joint(list(labels) if labels is not None else None, **settings)


def noise(*shape, seed=5) -> torch.Tensor:
    """Uniform in [-1, 1]."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("scheduler", ["euler", "dpmpp"])
def test_what_is_given_as_it_is_comes_back_bit_for_bit(scheduler):
    joint = joint_of(build(scheduler), DEPTH, EDGE)
    maps = {"depth": noise(3, 1, 8, 8), "edge": (noise(1, 1, 8, 8, seed=6) > 0.3).float() * 0.7}
    found = drawn(joint, given={name: Given(x) for name, x in maps.items()})
    assert torch.equal(found.conditions["depth"], maps["depth"])
    assert torch.equal(found.conditions["edge"], maps["edge"].expand(3, -1, -1, -1))
    assert found.images.isfinite().all()
    picture = noise(3, 3, 8, 8)
    found = drawn(joint, given={"image": Given(picture)})
    assert torch.equal(found.images, picture)
    assert (found.conditions["edge"].min() >= 0) & (found.conditions["edge"].max() <= 1)


def test_the_map_that_is_given_changes_the_image_and_the_image_the_map(joint):
    free = drawn(joint)
    for name, shape in (("depth", (3, 1, 8, 8)), ("image", (3, 3, 8, 8))):
        one, other = (drawn(joint, given={name: Given(noise(*shape, seed=k))}) for k in (1, 2))
        if name == "depth":
            results = free.images, one.images, other.images
        else:
            results = (x.conditions["depth"] for x in (free, one, other))
        first, second, third = results
        assert min((first - second).abs().max(), (second - third).abs().max()) > 0.01


def test_without_joint_attention_the_images_are_the_models_own(joint):
    free = draw(joint.pipe)
    assert torch.allclose(drawn(joint, weights=[0]).images, free, atol=1e-5)
    assert not torch.allclose(drawn(joint).images, free, atol=1e-2)


def test_a_batch_of_four_equals_four_singles():
    joint = joint_of(build("dpmpp"), DEPTH, PALETTE)
    given = {"depth": Given(noise(4, 1, 8, 8), Course(0.5, 1))}
    labels = [0, 1, 2, 3]
    together = drawn(joint, labels, given=given)
    for k in labels:
        one = {"depth": Given(given["depth"].maps[k : k + 1], Course(0.5, 1))}
        alone = drawn(joint, [k], given=one, image_numbers=[k])
        assert torch.allclose(alone.images[0], together.images[k], atol=1e-4)
        for name, maps in together.conditions.items():
            assert torch.allclose(alone.conditions[name][0], maps[k], atol=1e-4)


def test_noise_follows_the_seed_the_image_and_the_condition(joint):
    first, again = drawn(joint, [0, 0]), drawn(joint, [0, 0])
    assert torch.equal(first.images, again.images)
    assert not torch.allclose(first.conditions["depth"][0], first.conditions["depth"][1])
    other = drawn(joint, [0, 0], seed=12)
    assert not torch.allclose(first.conditions["depth"], other.conditions["depth"])
    first_seen = []
    hook = joint.pipe.transformer.register_forward_pre_hook(
        lambda _, args: first_seen.append(args[0])
    )
    drawn(joint, [0, 0], image_numbers=[4, 7], guidance=CFG(1), num_inference_steps=1)
    hook.remove()
    images, maps = first_seen[0].chunk(2)
    assert torch.equal(images, image_noise(11, [4, 7], (3, 8, 8)))
    assert torch.equal(maps, image_noise(stream_seed(11, "depth", 0) % 2**32, [4, 7], (3, 8, 8)))


def test_a_condition_is_drawn_alike_whatever_else_is_drawn(joint):
    model, (depth,) = joint.pipe.transformer, joint.adapters
    both = JointPipeline(joint.pipe, [(random_adapter(model, EDGE, 1), EDGE), (depth, DEPTH)])
    found, alone = drawn(both, weights=[0, 1]), drawn(joint)
    assert torch.allclose(found.conditions["depth"], alone.conditions["depth"], atol=1e-4)
    assert torch.allclose(found.images, alone.images, atol=1e-4)
    found = drawn(both)  # by way of the image
    assert not torch.allclose(found.conditions["depth"], alone.conditions["depth"], atol=1e-3)


class TestCourses:
    def test_from_noise_on_nothing_but_the_known_part_of_what_is_given_counts(self, joint):
        free = drawn(joint)
        given = {"depth": Given(noise(1, 1, 8, 8), Course(0, 1))}
        assert torch.equal(drawn(joint, given=given).images, free.images)
        unknown = {"image": Given(noise(1, 3, 8, 8), known=torch.zeros(1, 1, 8, 8))}
        found = drawn(joint, given=unknown)
        assert torch.equal(found.images, free.images)
        assert torch.equal(found.conditions["depth"], free.conditions["depth"])

    def test_the_later_it_starts_the_nearer_it_stays(self, joint):
        picture = noise(3, 3, 8, 8)
        apart = []
        for start in (1, 0.75, 0.5, 0):
            given = {"image": Given(picture, Course(start, 1))}
            images = drawn(joint, given=given, num_inference_steps=8).images
            apart.append(float((images - picture).square().mean()))
        assert apart[0] == 0
        assert apart == sorted(apart)
        assert apart[1] > 0.001

    def test_a_start_at_half_the_way_is_noised_to_half(self, joint):
        seen = []
        picture = noise(1, 3, 8, 8)
        hook = joint.pipe.transformer.register_forward_pre_hook(
            lambda _, args: seen.append((args[0][:1].clone(), float(args[1][0])))
        )
        drawn(joint, [0], given={"image": Given(picture, Course(0.5, 1))}, guidance=CFG(1))
        hook.remove()
        x, t = seen[0]
        assert t == 500
        assert torch.allclose(x, 0.5 * picture + 0.5 * image_noise(11, [0], (3, 8, 8)))


class TestKnownParts:
    @pytest.mark.parametrize("scheduler", ["euler", "dpmpp"])
    def test_what_is_known_stays_exactly_and_the_rest_fits_it(self, scheduler):
        joint = joint_of(build(scheduler), MASK)
        picture, mask = noise(3, 3, 8, 8), noise(3, 1, 8, 8, seed=8) > 0
        maps = (noise(1, 1, 8, 8, seed=9) + 1) / 2
        half = torch.zeros(1, 1, 8, 8)
        half[..., :4] = 1
        given = {"image": Given(picture, known=mask.float()), "mask": Given(maps, known=half)}
        found = drawn(joint, given=given)
        kept = mask.expand_as(picture)
        assert torch.equal(found.images[kept], picture[kept])
        assert (found.images - picture)[~kept].abs().mean() > 0.1
        left = found.conditions["mask"][..., :4]
        assert torch.equal(left, maps[..., :4].expand(3, -1, -1, -1))
        assert not torch.equal(found.conditions["mask"][..., 4:], maps[..., 4:].expand_as(left))

    def test_what_is_known_changes_what_is_drawn_beside_it(self, joint):
        half = torch.zeros(1, 1, 8, 8)
        half[..., :4] = 1
        free = drawn(joint)
        found = drawn(joint, given={"image": Given(noise(1, 3, 8, 8), known=half)})
        assert (found.images - free.images)[..., 4:].abs().max() > 0.01
        assert (found.conditions["depth"] - free.conditions["depth"]).abs().max() > 0.01


class TestSizes:
    def test_any_size_the_patch_divides_and_that_of_what_is_given(self, joint):
        found = drawn(joint, height=4, width=12)
        assert (found.images.shape, found.conditions["depth"].shape) == (
            (3, 3, 4, 12),
            (3, 1, 4, 12),
        )
        found = drawn(joint, given={"depth": Given(noise(1, 1, 6, 10))}, time_shift="sqrt")
        assert found.images.shape == (3, 3, 6, 10)

    def test_as_many_are_drawn_as_are_given_and_no_class_is_told(self, joint):
        picture = noise(2, 3, 8, 8)
        found = joint(given={"image": Given(picture)}, num_inference_steps=2, seed=1)
        told = drawn(joint, [3, 3], given={"image": Given(picture)}, num_inference_steps=2, seed=1)
        assert torch.equal(found.conditions["depth"], told.conditions["depth"])


class TestGuidance:
    def test_condition_guidance_is_what_the_joint_attention_changes(self, joint):
        """One step of a flow from noise: x0 is the model's own, and linear in the scale."""
        once = {"num_inference_steps": 1, "guidance": CFG(1)}
        apart, usual = (drawn(joint, weights=[w], **once).images for w in (0, 1))
        found = drawn(joint, condition_scale=1.5, **once).images
        assert torch.allclose(found, usual + 1.5 * (usual - apart), atol=1e-4)

    def test_every_branch_is_guided(self, joint):
        plain, guided = drawn(joint, guidance=CFG(1)), drawn(joint, guidance_scale=4)
        assert not torch.allclose(plain.images, guided.images, atol=0.01)
        assert not torch.allclose(plain.conditions["depth"], guided.conditions["depth"], atol=0.01)
        assert drawn(joint, guidance=APG(4)).images.isfinite().all()

    def test_an_interval_that_no_branch_walks_through_is_told(self, joint):
        rule = Interval(CFG(4), low=2)  # times over 2 / 3
        given = {"image": Given(noise(1, 3, 8, 8), Course(0.5, 1))}
        assert drawn(joint, guidance=rule, given=given).images.isfinite().all()
        given["depth"] = Given(noise(1, 1, 8, 8))
        with pytest.raises(UserError, match="guidance: no step lies in the interval above 2"):
            drawn(joint, guidance=rule, given=given)


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("solver", ["ddim", "ddpm", "dpmpp"])
def test_a_chain_of_ddpm_is_walked_too_alone_and_in_a_batch(solver, learned):
    pipe = build(prediction="v", out_channels=6 if learned else None)
    chain = DDPMConfig(learned_variance=learned)
    joint = joint_of(
        DiffGenPipeline(pipe.transformer, build_scheduler(solver, process=chain)), EDGE
    )
    picture, corner = noise(3, 3, 8, 8), torch.zeros(1, 1, 8, 8)
    corner[..., :3, :5] = 1
    given = {"image": Given(picture, known=corner)}
    found = drawn(joint, given=given)
    assert torch.equal(found.images[..., :3, :5], picture[..., :3, :5])
    assert found.images.isfinite().all()
    alone = drawn(joint, [2], given={"image": Given(picture[2:], known=corner)}, image_numbers=[2])
    assert torch.allclose(alone.images[0], found.images[2], atol=1e-4)
    assert torch.allclose(alone.conditions["edge"][0], found.conditions["edge"][2], atol=1e-4)
    maps = noise(1, 1, 8, 8).abs()
    found = drawn(joint, given={"edge": Given(maps)})
    assert torch.equal(found.conditions["edge"][2:], maps)


def test_positions_that_are_drawn_are_the_same_alone_and_in_a_batch():
    position = {"kind": "rpe2d", "inference": "random", "range_rows": 8, "range_columns": 8}
    joint = joint_of(build(position=position), DEPTH)
    together = drawn(joint, [0, 1])
    alone = drawn(joint, [1], image_numbers=[1])
    assert torch.allclose(alone.images[0], together.images[1], atol=1e-4)


def test_the_adapters_compute_in_the_models_precision():
    pipe = build()
    pipe.transformer.bfloat16()
    found = drawn(joint_of(pipe, DEPTH), [0])
    assert found.images.dtype == torch.float32
    assert torch.allclose(found.images, drawn(joint_of(build(), DEPTH), [0]).images, atol=0.3)


@pytest.fixture(scope="module")
def latent(vae_folder) -> JointPipeline:
    """Of latents of four channels, at 4 x 4 of them."""
    model = build(in_channels=4, sample_size=(4, 4)).transformer
    return joint_of(
        DiffGenPipeline(model, build_scheduler("euler"), vae=load_vae(vae_folder)), DEPTH
    )


class TestLatents:
    def test_pictures_and_maps_are_encoded_and_what_is_given_comes_back(self, latent):
        maps = noise(1, 1, 8, 8)
        given = {"depth": Given(maps)}
        found = drawn(latent, given=given)
        assert found.images.shape == (3, 3, 8, 8)
        assert torch.equal(found.conditions["depth"], maps.expand(3, -1, -1, -1))
        z = drawn(latent, given=given, latent=True)
        space = LatentSpace(latent.pipe.vae, latent.pipe.latent_format)
        wanted = space.encode(maps.expand(1, 3, -1, -1))
        assert torch.allclose(z.conditions["depth"], wanted.expand(3, -1, -1, -1))
        assert torch.allclose(space.decode(z.images), found.images, atol=1e-5)
        one_by_one = drawn(latent, given=given, decode_batch_size=1)
        assert torch.allclose(one_by_one.images, found.images, atol=1e-4)

    def test_a_latent_counts_as_known_where_all_pixels_behind_it_are(self, latent):
        picture = noise(1, 3, 8, 8)
        known = torch.zeros(1, 1, 8, 8)
        known[..., :5, :] = 1  # two and a half of four rows of latents
        given = {"image": Given(picture, known=known)}
        found = drawn(latent, given=given)
        assert torch.equal(found.images[:, :, :4], picture[:, :, :4].expand(3, -1, -1, -1))
        assert not torch.isclose(found.images[:, :, 4], picture[:, :, 4]).any()
        z = drawn(latent, given=given, latent=True).images
        space = LatentSpace(latent.pipe.vae, latent.pipe.latent_format)
        wanted = space.encode(picture).expand(3, -1, -1, -1)
        assert torch.equal(z[:, :, :2], wanted[:, :, :2])

    def test_without_a_vae_there_are_latents_alone(self, latent):
        format = latent.pipe.latent_format.model_dump()
        pipe = DiffGenPipeline(
            latent.pipe.transformer, build_scheduler("euler"), latent_format=format
        )
        bare = joint_of(pipe, DEPTH)
        z = drawn(bare, latent=True)
        assert torch.equal(z.images, drawn(latent, latent=True).images)
        for options in ({}, {"given": {"depth": Given(noise(1, 1, 8, 8))}, "latent": True}):
            with pytest.raises(ValueError, match=r"a model of latents .4 channels. without a VAE"):
                drawn(bare, **options)


def test_8_bit_pictures_and_maps(joint):
    found = drawn(joint, [0], given={"depth": Given(torch.tensor([[-1.0, 1.0]] * 2)[None, None])})
    (image,), (depth,) = found.pil(), found.pil("depth")
    assert (image.mode, depth.mode) == ("RGB", "L")
    assert list(depth.tobytes()) == [0, 255] * 2
    masks = joint_of(joint.pipe, MASK)
    half = Given(torch.full((1, 1, 2, 2), 0.25))
    (mask,) = drawn(masks, [0], given={"mask": half}).pil("mask")
    assert set(mask.tobytes()) == {64}


def test_it_is_loaded_with_the_adapters_of_the_run(tmp_path):
    pipe = build()
    pipe.save_pretrained(tmp_path / "run/pipeline")
    save_adapter(pipe.transformer, DEPTH, tmp_path / "run/joint", seed=0)
    save_adapter(pipe.transformer, DEPTH, tmp_path / "others", seed=1)
    found = JointPipeline.from_pretrained(tmp_path / "run", ["depth"], device="cpu")
    wanted = drawn(joint_of(pipe, DEPTH), [0])
    assert torch.equal(drawn(found, [0]).images, wanted.images)
    other = JointPipeline.from_pretrained(tmp_path / "run", ["depth"], tmp_path / "others")
    assert not torch.allclose(drawn(other, [0]).images, wanted.images, atol=0.01)
    with pytest.raises(UserError, match=r"conditions: .*edge holds no adapter"):
        JointPipeline.from_pretrained(tmp_path / "run", ["edge"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"given": {"edge": Given(noise(1, 1, 8, 8))}}, "'edge' is not one of image, depth"),
        ({"given": {"depth": Given(noise(1, 3, 8, 8))}}, "depth has 3 channels, not 1"),
        ({"given": {"depth": Given(noise(1, 1, 8, 8))}, "width": 16}, "width 16 is not that of"),
        ({"given": {"depth": Given(noise(1, 1, 8, 9))}}, "width 9 is not a positive multiple"),
        (
            {"given": {"image": Given(noise(1, 3, 8, 8)), "depth": Given(noise(1, 1, 8, 4))}},
            "given: depth is 8x4, but image 8x8",
        ),
        ({"given": {"depth": Given(noise(2, 1, 8, 8))}}, "given: 2 maps of depth for 3 images"),
        ({"weights": [1, 2]}, "weights: 2 for 1 adapters"),
        ({"num_inference_steps": 0}, "num_inference_steps must be 1 or more"),
        ({"guidance": AutoGuidance(2)}, "guidance: joint generation takes no guide"),
        ({"image_numbers": [1]}, "image_numbers .1.: give one for each image"),
    ],
)
def test_arguments_that_do_not_fit_are_named(joint, options, said):
    with pytest.raises(ValueError, match=said):
        drawn(joint, **options)


def test_heun_evaluates_a_step_twice_and_is_refused():
    with pytest.raises(ValueError, match="heun evaluates a step twice"):
        drawn(joint_of(build("heun"), DEPTH))


def test_what_cannot_be_given_is_refused():
    maps = noise(1, 1, 8, 8)
    with pytest.raises(ValueError, match="known: a picture that stays as it is"):
        Given(maps, Course(1, 1), torch.ones(1, 1, 8, 8))
    with pytest.raises(ValueError, match=r"known must be \(B, 1, 8, 8\)"):
        Given(maps, known=torch.ones(1, 1, 4, 8))
    with pytest.raises(ValueError, match=r"maps must be \(B, channels, H, W\)"):
        Given(maps[0])


def test_two_adapters_of_one_condition_or_for_another_model_are_refused():
    pipe = build()
    one = random_adapter(pipe.transformer, DEPTH), DEPTH
    with pytest.raises(ValueError, match="each of another condition"):
        JointPipeline(pipe, [one, one])
    wider = random_adapter(build(hidden_size=64).transformer, DEPTH), DEPTH
    with pytest.raises(ValueError, match=r"width and depth \(64, 2\), not \(32, 2\)"):
        JointPipeline(pipe, [wider])
