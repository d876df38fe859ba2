"""Pipelines of DDPM models: folders, seeds, solvers that add noise."""

import json

import pytest
import torch
from diffusers import DDIMScheduler

from diffgen import DiffGenPipeline, DiT
from diffgen.config.process import DDPMConfig
from diffgen.config.sampling import SamplingConfig
from diffgen.errors import UserError
from diffgen.sampling.batches import draw_batches
from diffgen.sampling.schedulers import build_scheduler
from diffgen.seeding import image_noise, step_generators

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SOLVERS = ("ddim", "ddpm", "dpmpp")


def build(scheduler: str = "ddpm", prediction: str = "v", **options) -> DiffGenPipeline:
    """A tiny model with every weight drawn from N(0, 0.1^2), trained at 8 x 8."""
    process = DDPMConfig(**options)
    model = DiT(
        sample_size=(8, 8),
        out_channels=6 if process.learned_variance else None,
        patch_size=2,
        hidden_size=32,
        depth=2,
        num_heads=2,
        num_classes=3,
        prediction=prediction,
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.1 * torch.randn(p.shape, generator=generator))
    pipe = DiffGenPipeline(model, build_scheduler(scheduler, process=process))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe, labels=(0, 1, 2), **options):
    """Images as the model's own x0, four steps."""
    settings = {"num_inference_steps": 4, "seed": 11, "output_type": "latent", **options}
    return pipe(list(labels), **settings).images


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("solver", SOLVERS)
def test_image_k_is_the_same_in_any_batch(solver, learned):
    """Also where the solver adds noise on the way: bit-equal at an equal batch, to 1e-4 alone."""
    pipe = build(solver, learned_variance=learned)
    together = draw(pipe, [0, 1, 2, 0, 1])
    assert torch.equal(draw(pipe, [0, 1, 2, 0, 1]), together)
    torch.testing.assert_close(draw(pipe, [0, 1]), together[:2], rtol=0, atol=1e-4)
    for k in (2, 4):
        alone = draw(pipe, [k % 3], image_numbers=[k])
        torch.testing.assert_close(alone, together[k : k + 1], rtol=0, atol=1e-4)
    assert not torch.allclose(draw(pipe, seed=12), together[:3], atol=1e-2)


@pytest.mark.parametrize("solver", SOLVERS)
def test_batches_of_any_size_draw_the_same_pictures(solver):
    pipe, drawn = build(), []
    for batch_size in (2, 5):
        config = SamplingConfig(scheduler=solver, steps=3, batch_size=batch_size)
        batches = draw_batches(pipe, config, [0, 1, 2, 0, 1], height=8, width=4, seed=3)
        drawn.append(torch.cat([batch.images for batch in batches]).int())
    assert drawn[0].shape == (5, 3, 8, 4)
    assert (drawn[0] - drawn[1]).abs().max() <= 1


def test_only_ancestral_sampling_adds_noise():
    noise = image_noise(11, [0, 1, 2], (3, 8, 8))
    for solver in SOLVERS:
        pipe = build(solver)
        several = [draw(pipe, seed=None, latents=noise) for _ in range(2)]
        assert torch.equal(*several) == (solver != "ddpm")


def test_generators_seed_the_start_and_the_noise_on_the_way():
    def generators():
        return [torch.Generator().manual_seed(k) for k in range(3)]

    pipe = build("ddpm")
    out = draw(pipe, seed=None, generator=generators())
    assert torch.equal(draw(pipe, seed=None, generator=generators()), out)
    one = draw(pipe, [1], seed=None, generator=generators()[1])
    torch.testing.assert_close(one, out[1:2], rtol=0, atol=1e-4)


def test_noise_on_the_way_is_none_of_the_noise_at_the_start():
    start = image_noise(0, [0, 1], (2, 3))
    way = torch.stack([torch.randn(2, 3, generator=g) for g in step_generators(0, [0, 1])])
    assert len(torch.cat([start, way]).unique()) == 24


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_folder_says_everything(tmp_path, solver, learned):
    pipe = build(solver, "eps", betas="cosine", num_train_timesteps=300, learned_variance=learned)
    pipe.save_pretrained(tmp_path)
    again = DiffGenPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert type(again.scheduler) is type(pipe.scheduler)
    assert again.process_config == pipe.process_config
    assert again.process_config.learned_variance == learned
    assert torch.equal(draw(again), draw(pipe))
    saved = json.loads((tmp_path / "scheduler/scheduler_config.json").read_text())
    assert saved["beta_schedule"] == "squaredcos_cap_v2"
    assert not saved.get("clip_sample", False)


def test_a_clip_of_x0_may_be_configured():
    pipe = build("ddim")
    assert draw(pipe).abs().max() > 1
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=True)
    assert draw(pipe).abs().max() <= 1


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"image_numbers": [0, 1]}, r"image_numbers \[0, 1\]"),
        ({"image_numbers": [0, 1, 2], "seed": None}, "image_numbers"),
    ],
)
def test_wrong_image_numbers_are_named(options, named):
    with pytest.raises(ValueError, match=named):
        draw(build(), **options)


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match="velocity does not go with"):
        draw(build("ddim", "velocity"))
    with pytest.raises(UserError, match="steps: 30 is more than the model's 25"):
        draw(build("ddim", num_train_timesteps=25), num_inference_steps=30)
    pipe = build()
    pipe.scheduler = build_scheduler("euler")
    with pytest.raises(UserError, match="prediction: v does not go with"):
        draw(pipe)
    batches = draw_batches(
        build(), SamplingConfig(scheduler="heun"), [0], height=8, width=8, seed=0
    )
    with pytest.raises(UserError, match="'heun' is not one of ddim, ddpm, dpmpp"):
        next(batches)
