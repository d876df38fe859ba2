"""JointPipeline: what is given stays, and what is drawn follows the seed."""

import pytest
import torch

from diffgen.errors import UserError
from diffgen.guidance import APG, CFG, Interval
from diffgen.joint.course import Course
from diffgen.joint.pipeline import Given, JointPipeline
from diffgen.lacon.conditions import DEPTH, EDGE, MASK, PALETTE
from diffgen.seeding import image_noise, stream_seed
from tests.joint.adapters import drawn, joint_of, noise, random_adapter
from tests.tiny import build, draw

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def joint() -> JointPipeline:
    return joint_of(build(), DEPTH)


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
        assert found.images.shape == (3, 3, 4, 12)
        assert found.conditions["depth"].shape == (3, 1, 4, 12)
        found = drawn(joint, given={"depth": Given(noise(1, 1, 6, 10))}, time_shift="sqrt")
        assert found.images.shape == (3, 3, 6, 10)

    def test_as_many_are_drawn_as_there_are_known_parts_of_one_picture(self, joint):
        halves = torch.eye(2).repeat_interleave(4, 1)[:, None, None].expand(2, 1, 8, 8)
        picture = noise(1, 3, 8, 8)
        given = {"image": Given(picture, known=halves)}
        found = drawn(joint, None, given=given).images
        for k, columns in enumerate((slice(4), slice(4, 8))):
            assert torch.equal(found[k, ..., columns], picture[0, ..., columns])

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
