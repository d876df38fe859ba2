"""What a sampling configuration changes of a loaded pipeline, and what it leaves."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from diffgen.config.positions import PositionOverrides
from diffgen.config.process import DDPMConfig
from diffgen.config.sampling import SamplingConfig
from diffgen.errors import UserError
from diffgen.guidance import CFG
from diffgen.positions import Position
from diffgen.sampling.batches import set_up
from diffgen.sampling.schedulers import build_scheduler
from tests.tiny import build, draw


def large(pipe, **options):
    return draw(pipe, height=16, width=24, **options)


def test_scaling_and_temperature_are_of_the_drawing_alone():
    pipe = build(position={"kind": "rope", "additive": False})
    plain = large(pipe)
    set_up(pipe, SamplingConfig(scheduler="euler", scaling="ntk"))
    scaled = large(pipe)
    set_up(pipe, SamplingConfig(scheduler="euler", temperature="log_ratio"))
    warm = large(pipe)
    assert (scaled - plain).abs().max() > 1e-3
    assert (warm - plain).abs().max() > 1e-4
    assert not torch.equal(scaled, warm)
    trained = build(position={"kind": "rope", "additive": False, "scaling": "ntk"})
    assert torch.equal(large(trained), scaled)
    assert pipe.transformer.config.position == {"kind": "rope", "additive": False}
    set_up(pipe, SamplingConfig(scheduler="euler"))
    assert torch.equal(large(pipe), plain)


def test_at_the_trained_size_nothing_changes():
    pipe = build(position={"kind": "rope", "additive": False})
    plain = draw(pipe)
    set_up(pipe, SamplingConfig(scheduler="euler", scaling="pi", temperature="sqrt_log"))
    assert torch.equal(draw(pipe), plain)


def test_a_scaling_needs_a_rotation():
    with pytest.raises(ValueError, match="the model's is sincos"):
        build(position={"kind": "sincos"}).transformer.use_position(PositionOverrides(scaling="pi"))


def test_a_scheduler_of_the_same_class_is_kept_and_another_keeps_its_spacing():
    pipe = build(prediction="eps")
    saved = build_scheduler("ddim", process=DDPMConfig())
    pipe.scheduler = DDIMScheduler.from_config(
        saved.config, timestep_spacing="leading", clip_sample=True, steps_offset=1
    )
    set_up(pipe, SamplingConfig(scheduler="ddim"))
    assert pipe.scheduler.config.clip_sample
    set_up(pipe, SamplingConfig(scheduler="ddpm"))
    assert isinstance(pipe.scheduler, DDPMScheduler)
    assert pipe.scheduler.config.timestep_spacing == "leading"
    assert pipe.scheduler.config.steps_offset == 1


def test_guidance_may_act_on_the_first_channels_alone():
    """The others are those of a drawing whose guidance is off only as long as none reaches them."""
    pipe = build(guidance_channels=1)
    partly = draw(pipe, guidance_scale=4.0, num_inference_steps=1)
    whole = draw(build(), guidance_scale=4.0, num_inference_steps=1)
    off = draw(build(), guidance=CFG(1.0), num_inference_steps=1)
    torch.testing.assert_close(partly[:, :1], whole[:, :1])
    torch.testing.assert_close(partly[:, 1:], off[:, 1:])
    assert (whole[:, 1:] - off[:, 1:]).abs().max() > 1e-3


def test_an_encoding_put_into_a_model_stays_there():
    pipe = build(position={"kind": "rope", "additive": False})
    own = Position()
    pipe.transformer.encoding = own
    set_up(pipe, SamplingConfig(scheduler="euler"))
    assert pipe.transformer.encoding is own
    set_up(pipe, SamplingConfig(scheduler="euler", scaling="pi"))
    set_up(pipe, SamplingConfig(scheduler="euler"))
    assert pipe.transformer.encoding is own


def test_what_an_encoding_cannot_take_is_told():
    pipe = build(position={"kind": "rope"}, num_heads=8)
    with pytest.raises(UserError, match="heads of 8 channels or more"):
        set_up(pipe, SamplingConfig(scheduler="euler", scaling="ntk"))
    pipe = build(sample_size=(2, 2))
    with pytest.raises(UserError, match="more than one trained token"):
        set_up(pipe, SamplingConfig(scheduler="euler", temperature="log_ratio"))
