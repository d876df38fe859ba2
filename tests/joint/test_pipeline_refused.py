"""What JointPipeline refuses: arguments out of range, and what does not fit together."""

import pytest
import torch

from diffgen.guidance import AutoGuidance
from diffgen.joint.course import Course
from diffgen.joint.pipeline import Given, JointPipeline
from diffgen.lacon.conditions import DEPTH, EDGE
from tests.joint.adapters import drawn, joint_of, noise, random_adapter
from tests.tiny import build


@pytest.fixture(scope="module")
def joint() -> JointPipeline:
    return joint_of(build(), DEPTH)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"given": {"edge": Given(noise(1, 1, 8, 8))}}, "'edge' is not one of image, depth"),
        ({"given": {"depth": Given(noise(1, 3, 8, 8))}}, "depth has 3 channels, not 1"),
        ({"given": {"depth": Given(noise(1, 1, 8, 8))}, "width": 16}, "width 16 is not that of"),
        ({"given": {"depth": Given(noise(1, 1, 8, 9))}}, "width 9 is not a positive multiple"),
        (
            {"given": {"image": Given(noise(1, 3, 8, 8)), "depth": Given(noise(1, 1, 8, 4))}},
            r"given: depth is 8x4, but image 8x8 \(height x width\)",
        ),
        ({"given": {"depth": Given(noise(2, 1, 8, 8))}}, "given: 2 maps of depth for 3 images"),
        (
            {"given": {"depth": Given(noise(1, 1, 8, 8) * 2)}},
            r"given: depth must lie in \[-1, 1\], not -1.87 to 1.98",
        ),
        ({"given": {"depth": Given(noise(1, 1, 8, 8) * torch.nan)}}, "given: depth must lie in"),
        (
            {"given": {"image": Given((noise(1, 3, 8, 8) + 1) * 127.5)}},
            r"given: image must lie in about \[-1, 1\]",
        ),
        ({"given": {"image": Given(noise(1, 3, 8, 8) * torch.inf)}}, "given: image must lie in"),
        ({"given": {"depth": noise(1, 1, 8, 8)}}, r"given: depth is a Tensor; give Given\(maps\)"),
        ({"weights": [1, 2]}, "weights: 2 for 1 adapters"),
        ({"weights": [-0.5]}, "weights must be 0 or more, and finite, not -0.5"),
        ({"weights": [float("inf")]}, "weights must be 0 or more, and finite, not inf"),
        ({"condition_scale": -1.0}, "condition_scale must be 0 or more, and finite, not -1"),
        ({"condition_scale": float("nan")}, "condition_scale must be 0 or more, and finite, not"),
        ({"num_inference_steps": 0}, "num_inference_steps must be 1 or more"),
        ({"guidance": AutoGuidance(2)}, "guidance: joint generation takes no guide"),
        ({"image_numbers": [1]}, "image_numbers .1.: give one for each image"),
    ],
)
def test_arguments_that_do_not_fit_are_named(joint, options, said):
    with pytest.raises(ValueError, match=said):
        drawn(joint, **options)


def test_maps_of_edges_are_not_taken_from_minus_one_to_one():
    with pytest.raises(ValueError, match=r"given: edge must lie in \[0, 1\], not -0.9"):
        drawn(joint_of(build(), EDGE), given={"edge": Given(noise(1, 1, 8, 8))})


def test_images_a_little_out_of_range_as_drawn_ones_are_can_be_given(joint):
    picture = noise(1, 3, 8, 8) * 1.4
    found = drawn(joint, [0], given={"image": Given(picture)}, num_inference_steps=1)
    assert torch.equal(found.images, picture)


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
    with pytest.raises(ValueError, match=r"maps must be of floating point, not torch.uint8"):
        Given(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="maps must be a tensor, not a str"):
        Given("photo.png")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="known must be a tensor, not a str"):
        Given(maps, known="mask.png")  # type: ignore[arg-type]


def test_pictures_of_what_was_not_drawn_are_refused(joint):
    with pytest.raises(ValueError, match="name: 'edge' is not one of image, depth"):
        drawn(joint, [0], num_inference_steps=1).pil("edge")


def test_two_adapters_of_one_condition_or_for_another_model_are_refused():
    pipe = build()
    one = random_adapter(pipe.transformer, DEPTH), DEPTH
    with pytest.raises(ValueError, match="each of another condition"):
        JointPipeline(pipe, [one, one])
    wider = random_adapter(build(hidden_size=64).transformer, DEPTH), DEPTH
    with pytest.raises(ValueError, match=r"width and depth \(64, 2\), not \(32, 2\)"):
        JointPipeline(pipe, [wider])
