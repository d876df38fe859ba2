"""The pipeline of a model of latents: sizes, outputs, with and without its VAE."""

import json

import diffusers
import numpy as np
import pytest
import torch

from diffgen import DiffGenPipeline, DiT
from diffgen.commands.load import load_pipeline
from diffgen.config.sampling import SamplingConfig
from diffgen.config.vae import own_format
from diffgen.models.vae import LatentSpace, load_vae
from diffgen.sampling.batches import draw_batches
from diffgen.sampling.schedulers import build_scheduler
from diffgen.seeding import image_noise

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

FORMAT = {"factor": 2, "mean": [0.5, 0.0, -1.0, 2.0], "std": [1.0, 0.5, 2.0, 1.0]}


def build(vae=None, latent_format=None, in_channels: int = 4) -> DiffGenPipeline:
    """A tiny model with every weight drawn from N(0, 0.1^2), trained at 8 x 8 of its pixels."""
    settings = {"sample_size": (8, 8), "hidden_size": 32, "depth": 1, "num_heads": 2}
    model = DiT(**settings, patch_size=2, num_classes=3, in_channels=in_channels)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.1 * torch.randn(p.shape, generator=generator))
    scheduler = build_scheduler("euler")
    pipe = DiffGenPipeline(model, scheduler, vae=vae, latent_format=latent_format)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe, labels=(0, 1, 2), **options):
    """Images as the model's own x0, two steps."""
    settings = {"num_inference_steps": 2, "seed": 11, "output_type": "latent", **options}
    return pipe(list(labels), **settings).images


@pytest.fixture(scope="module")
def latent(vae_folder) -> DiffGenPipeline:
    """A model of 4-channel latents at 8 x 8 with a VAE of factor 2, so of images of 16 x 16."""
    return build(load_vae(vae_folder))


@pytest.mark.parametrize(("height", "width"), [(16, 16), (8, 24), (None, 20), (4, None)])
def test_sizes_of_a_latent_model_are_image_pixels(latent, height, width):
    wanted = (height or 16, width or 16)
    (picture,) = draw(latent, [0], height=height, width=width, output_type="pil")
    assert picture.size == wanted[::-1]
    latents = draw(latent, [0], height=height, width=width)
    assert latents.shape == (1, 4, wanted[0] // 2, wanted[1] // 2)
    noise = image_noise(11, [0], latents.shape[1:])
    given = draw(latent, [0], seed=None, latents=noise, height=height, width=width)
    assert torch.equal(given, latents)


def test_output_types_of_a_latent_model_show_the_decoded_latents(latent):
    images = latent.decode(draw(latent))
    unit = (images / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(draw(latent, output_type="pt"), unit)
    np.testing.assert_allclose(
        draw(latent, output_type="np"), unit.permute(0, 2, 3, 1).numpy(), atol=1e-6
    )
    own = LatentSpace(latent.vae, own_format(dict(latent.vae.config)))
    assert torch.equal(images, own.decode(draw(latent)))
    assert images.shape == (3, 3, 16, 16)
    assert images.std() > 0.01


def test_a_latent_model_without_a_vae_draws_latents_only_and_can_be_given_one(
    latent, vae_folder, tmp_path
):
    vae = load_vae(vae_folder)
    whole = build(vae, FORMAT)
    without = build(None, FORMAT)
    assert torch.equal(draw(without), draw(whole))
    for output_type in ("pil", "np", "pt"):
        with pytest.raises(ValueError, match=r"model of latents .*vae="):
            draw(without, output_type=output_type)
    without.save_pretrained(tmp_path)
    assert not (tmp_path / "vae").exists()
    with pytest.raises(ValueError, match="model of latents"):
        DiffGenPipeline.from_pretrained(tmp_path)(num_inference_steps=1)
    for load in (DiffGenPipeline, diffusers.DiffusionPipeline):
        given = load.from_pretrained(str(tmp_path), vae=vae)
        given.set_progress_bar_config(disable=True)
        assert torch.equal(draw(given, output_type="pt"), draw(whole, output_type="pt"))
    assert not torch.allclose(draw(whole, output_type="pt"), draw(latent, output_type="pt"))
    pipe = load_pipeline(tmp_path, "cpu", vae=str(vae_folder)).pipe
    assert torch.equal(draw(pipe, output_type="pt"), draw(whole, output_type="pt"))


def test_channels_that_are_no_picture_are_refused_without_a_vae(vae_folder, tmp_path):
    """A model that does not even state its latents, as one saved by other means may not."""
    pipe = build()
    with pytest.raises(ValueError, match=r"4 channels\) without a VAE"):
        draw(pipe, output_type="pil")
    pipe.save_pretrained(tmp_path)
    given = DiffGenPipeline.from_pretrained(tmp_path, vae=load_vae(vae_folder))
    given.set_progress_bar_config(disable=True)
    assert draw(given, [0], output_type="pil")[0].size == (16, 16)


def test_a_saved_latent_pipeline_holds_its_vae_and_its_statistics(latent, vae_folder, tmp_path):
    pipe = build(load_vae(vae_folder), FORMAT)
    pipe.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["latent_format"] == FORMAT
    assert (tmp_path / "vae/diffusion_pytorch_model.safetensors").exists()
    loaded = diffusers.DiffusionPipeline.from_pretrained(str(tmp_path))
    loaded.set_progress_bar_config(disable=True)
    assert torch.equal(draw(loaded, output_type="pt"), draw(pipe, output_type="pt"))


def test_parts_that_do_not_fit_are_named(latent, make_vae):
    with pytest.raises(ValueError, match="transformer has 3 channels, but the latents 4"):
        build(latent.vae, in_channels=3)
    with pytest.raises(ValueError, match="vae has 4 latent channels at 1/4"):
        build(load_vae(make_vae(levels=3)), FORMAT)
    with pytest.raises(ValueError, match="2 means, but 1"):
        build(None, {"factor": 2, "mean": [0, 0], "std": [1]})
    with pytest.raises(ValueError, match=r"height 6 .* of 4, the VAE's factor 2 times the patch 2"):
        draw(latent, height=6)


def test_batches_of_a_latent_model_are_decoded_in_slices(latent):
    sizes: list[int] = []
    hook = latent.vae.decoder.register_forward_hook(lambda _, args, __: sizes.append(len(args[0])))
    config = SamplingConfig(scheduler="euler", steps=2, batch_size=4, decode_batch_size=3)
    try:
        batches = list(draw_batches(latent, config, [0, 1, 2, 0, 1], height=8, width=24, seed=3))
    finally:
        hook.remove()
    assert sizes == [3, 1, 1]
    assert [tuple(batch.images.shape) for batch in batches] == [(4, 3, 8, 24), (1, 3, 8, 24)]
    options = {"num_inference_steps": 2, "seed": 3, "height": 8, "width": 24}
    alone = draw(latent, [0, 1, 2, 0], output_type="pt", **options)
    difference = (batches[0].images.float() / 255 - alone).abs().max()
    assert difference <= 1.5 / 255
