"""The pipeline as a user meets it: sizes, seeds, names, outputs, mistakes."""

import numpy as np
import pytest
import torch
from PIL import Image

from diffgen import DiffGenPipeline
from diffgen.guidance import CFG
from diffgen.seeding import image_noise
from tests.tiny import build, draw

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def pipe() -> DiffGenPipeline:
    return build()


@pytest.mark.parametrize(("height", "width"), [(8, 8), (4, 14), (12, 6), (2, 2)])
def test_sizes_come_out_exactly_as_asked(pipe, height, width):
    for picture in pipe([0, 1], height, width, num_inference_steps=2, seed=0).images:
        assert picture.size == (width, height)
    assert draw(pipe, height=height, width=width).shape == (3, 3, height, width)


def test_without_a_size_it_draws_as_trained():
    assert draw(build(sample_size=(4, 12))).shape == (3, 3, 4, 12)
    assert draw(build(sample_size=(4, 12)), height=6).shape == (3, 3, 6, 12)


@pytest.mark.parametrize("scheduler", ["euler", "heun", "dpmpp"])
def test_image_k_is_the_same_in_any_batch(scheduler):
    """Bit-equal at an equal batch, to 1e-4 alone; to one grey level as a picture."""
    pipe = build(scheduler)
    together = draw(pipe, [0, 1, 2, 0, 1])
    assert torch.equal(draw(pipe, [0, 1, 2, 0, 1]), together)
    torch.testing.assert_close(draw(pipe, [0, 1]), together[:2], rtol=0, atol=1e-4)
    alone = draw(pipe, [2], seed=None, latents=image_noise(11, [2], (3, 8, 8)))
    torch.testing.assert_close(alone, together[2:3], rtol=0, atol=1e-4)
    pictures = [np.array(i, int) for i in draw(pipe, [0, 1, 2], output_type="pil")]
    first = np.array(draw(pipe, [0], output_type="pil")[0], int)
    assert abs(first - pictures[0]).max() <= 1
    assert abs(pictures[1] - pictures[0]).max() > 10


def test_a_seed_is_the_noise_of_its_images(pipe):
    noise = image_noise(11, [0, 1, 2], (3, 8, 8))
    kept = noise.clone()
    assert torch.equal(draw(pipe, seed=None, latents=noise), draw(pipe))
    assert torch.equal(noise, kept)
    assert not torch.allclose(draw(pipe, seed=12), draw(pipe), atol=1e-2)


def test_generators_seed_as_in_any_diffusers_pipeline(pipe):
    noise = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    one = draw(pipe, seed=None, generator=torch.Generator().manual_seed(5))
    assert torch.equal(one, draw(pipe, seed=None, latents=noise))
    several = [torch.Generator().manual_seed(k) for k in range(3)]
    noise = torch.stack([torch.randn(3, 8, 8, generator=g) for g in several])
    several = [torch.Generator().manual_seed(k) for k in range(3)]
    out = draw(pipe, seed=None, generator=several)
    assert torch.equal(out, draw(pipe, seed=None, latents=noise))


def test_without_any_seed_two_draws_differ(pipe):
    assert not torch.allclose(draw(pipe, seed=None), draw(pipe, seed=None), atol=1e-2)


def test_latents_set_the_size_and_the_count(pipe):
    noise = torch.randn(2, 3, 4, 12, generator=torch.Generator().manual_seed(0))
    assert draw(pipe, [0, 1], seed=None, latents=noise).shape == noise.shape
    assert draw(pipe, None, seed=None, latents=noise).shape == noise.shape


def test_labels_may_be_numbers_names_or_a_tensor(pipe):
    expected = draw(pipe, [2, 0])
    assert torch.equal(draw(pipe, ["newt", "cat"]), expected)
    assert torch.equal(draw(pipe, ["newt", 0]), expected)
    tensor = pipe(torch.tensor([2, 0]), num_inference_steps=4, seed=11, output_type="latent")
    assert torch.equal(tensor.images, expected)
    for one in (2, "newt"):
        out = pipe(one, num_inference_steps=4, seed=11, output_type="latent").images
        assert out.shape == (1, 3, 8, 8)
        torch.testing.assert_close(out, expected[:1], rtol=0, atol=1e-4)
    assert not torch.allclose(draw(pipe, [1, 1]), expected, atol=1e-3)


def test_no_label_is_the_null_class(pipe):
    assert torch.equal(draw(pipe, None, num_images=2), draw(pipe, [3, 3]))
    assert draw(pipe, None).shape == (1, 3, 8, 8)


def test_an_unconditional_model_needs_no_labels():
    assert draw(build(num_classes=0), None, num_images=2).shape == (2, 3, 8, 8)


def test_output_types_show_one_picture(pipe):
    x0 = draw(pipe)
    unit = (x0 / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(draw(pipe, output_type="pt"), unit)
    array = draw(pipe, output_type="np")
    assert array.dtype == np.float32
    np.testing.assert_allclose(array, unit.permute(0, 2, 3, 1).numpy(), atol=1e-6)
    for picture, wanted in zip(draw(pipe, output_type="pil"), array, strict=True):
        assert isinstance(picture, Image.Image)
        assert picture.mode == "RGB"
        assert abs(np.array(picture) / 255 - wanted).max() <= 0.5 / 255 + 1e-6
    assert x0.std() > 0.1


def test_one_channel_gives_grey_pictures():
    (picture,) = draw(build(in_channels=1), [0], output_type="pil")
    assert (picture.mode, picture.size) == ("L", (8, 8))


def test_a_tuple_instead_of_a_dict(pipe):
    out = draw_tuple = pipe([0], num_inference_steps=1, seed=0, return_dict=False)
    assert isinstance(draw_tuple, tuple)
    assert len(out[0]) == 1


def count_passes(pipe, **options) -> list[int]:
    """Batch sizes the transformer really met."""
    sizes: list[int] = []
    handle = pipe.transformer.register_forward_hook(lambda _, args, __: sizes.append(len(args[0])))
    try:
        draw(pipe, **options)
    finally:
        handle.remove()
    return sizes


def test_guidance_1_and_nothing_to_guide_towards_run_a_single_pass(pipe):
    assert count_passes(pipe, guidance_scale=1.0) == [3] * 4
    assert count_passes(pipe, guidance_scale=2.0) == [6] * 4
    assert count_passes(pipe, labels=None, num_images=3, guidance_scale=2.0) == [3] * 4


def test_heun_evaluates_the_model_twice_a_step_but_for_the_last():
    assert count_passes(build("heun"), guidance_scale=1.0) == [3] * 7


def test_guidance_moves_away_from_the_null_class_and_a_rule_replaces_the_scale(pipe):
    """In one step from pure noise the result is the guided x0 itself."""
    one = {"num_inference_steps": 1}
    cond, null = draw(pipe, guidance_scale=1.0, **one), draw(pipe, [3, 3, 3], **one)
    guided = draw(pipe, guidance_scale=3.0, **one)
    torch.testing.assert_close(guided, null + 3 * (cond - null), rtol=0, atol=1e-5)
    assert torch.equal(draw(pipe, guidance=CFG(3.0), **one), guided)
    assert not torch.allclose(guided, cond, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"labels": [4]}, "class_labels: 4 is not in 0 to 3"),
        ({"labels": [-1]}, "class_labels: -1"),
        ({"labels": ["wolf"]}, r"class_labels: 'wolf' .*cat.*dog.*newt"),
        ({"labels": []}, "class_labels"),
        ({"labels": [1.5]}, "class_labels: 1.5 is neither a name nor a whole number"),
        ({"height": 7}, "height 7"),
        ({"width": 0}, "width 0"),
        ({"height": -4}, "height -4"),
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"output_type": "jpeg"}, "output_type 'jpeg'"),
        ({"generator": torch.Generator()}, "seed, generator"),
        ({"latents": torch.zeros(3, 3, 8, 8)}, "latents"),
        ({"seed": None, "latents": torch.zeros(2, 3, 8, 8)}, r"latents .*\(3, 3, 8, 8\)"),
        ({"seed": None, "latents": torch.zeros(3, 4, 8, 8)}, "latents"),
        ({"seed": None, "latents": torch.zeros(3, 3, 8, 7)}, "latents"),
        ({"seed": None, "latents": torch.zeros(3, 8, 8)}, "latents"),
        ({"seed": None, "latents": torch.zeros(3, 3, 8, 8), "height": 4}, "latents"),
        ({"seed": None, "generator": [torch.Generator()]}, "1 generators .* 3 images"),
    ],
)
def test_a_wrong_argument_is_named(pipe, options, named):
    with pytest.raises(ValueError, match=named):
        draw(pipe, **options)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"labels": None, "num_images": 0}, "num_images"),
        ({"labels": None, "num_images": -2}, "num_images"),
        ({"labels": [0, 1], "num_images": 5}, "num_images"),
        ({"guidance_scale": float("nan")}, "guidance_scale"),
        ({"guidance_scale": -1.0}, "guidance_scale"),
    ],
)
def test_a_wrong_count_or_scale_is_named_too(pipe, options, named):
    with pytest.raises(ValueError, match=named):
        draw(pipe, **options)
