"""A distilled model as a pipeline: drawn in the steps it was trained for, without guidance."""

import pytest
import torch

from diffgen import DiffGenPipeline
from diffgen.config.distilled import Distilled
from diffgen.config.process import FlowConfig
from diffgen.config.source import resolve
from diffgen.guidance import APG, CFG, AutoGuidance
from diffgen.processes.shift import shifted
from diffgen.sampling.schedulers import build_scheduler
from diffgen.seeding import image_noise
from tests.students import CHAIN, student
from tests.tiny import build

LABELS = [0, 1, 2]


def draw(pipe, labels=LABELS, **options) -> torch.Tensor:
    return pipe(labels, **{"seed": 11, "output_type": "latent", **options}).images


@pytest.mark.parametrize("process", [FlowConfig(), CHAIN], ids=["flow", "chain"])
def test_it_is_saved_and_loaded_with_all_it_says(process, tmp_path):
    pipe = student(process, shift=0.5, steps=(4, 1))
    pipe.save_pretrained(tmp_path)
    again = DiffGenPipeline.from_pretrained(tmp_path)
    assert again.distilled == Distilled(steps=(1, 4), timestep_shift=0.5)
    assert resolve(str(tmp_path)).distilled == again.distilled
    assert again.process_config.kind == process.kind
    assert torch.equal(draw(again, num_inference_steps=4), draw(pipe, num_inference_steps=4))


def test_an_ordinary_model_is_not_distilled(tmp_path):
    build().save_pretrained(tmp_path)
    assert DiffGenPipeline.from_pretrained(tmp_path).distilled is None
    assert resolve(str(tmp_path)).distilled is None


@pytest.mark.parametrize("process", [FlowConfig(), CHAIN], ids=["flow", "chain"])
def test_one_step_is_one_pass_at_the_shifted_time(process):
    """Without a word on steps it is what the model says of pure noise, to the bit."""
    pipe, calls = student(process, shift=0.25), []
    hook = pipe.transformer.register_forward_pre_hook(lambda _, given: calls.append(given))
    out = draw(pipe)
    hook.remove()
    ((noise, told, labels),) = calls
    assert torch.equal(noise, image_noise(11, LABELS, (3, 8, 8)))
    assert labels.tolist() == LABELS
    process = pipe.denoiser([]).process
    time = shifted(process, torch.ones(3), 0.25)
    assert torch.equal(told, process.own_time(time))
    with torch.no_grad():
        expected = process.denoise(pipe.transformer, noise, time, labels).x0
    assert torch.equal(out, expected)


@pytest.mark.parametrize("process", [FlowConfig(), CHAIN], ids=["flow", "chain"])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_an_image_depends_on_seed_and_number_alone(process, steps):
    pipe = student(process, shift=0.5)
    three = draw(pipe, num_inference_steps=steps)
    alone = draw(pipe, [2], num_inference_steps=steps, image_numbers=[2])
    torch.testing.assert_close(alone[0], three[2], rtol=0, atol=1e-4)
    other = draw(pipe, [2], num_inference_steps=steps, image_numbers=[3])
    assert (other[0] - three[2]).abs().max() > 0.01


def test_it_draws_at_any_size_its_patch_divides():
    pipe = student()
    assert draw(pipe, height=12, width=20).shape == (3, 3, 12, 20)


REFUSED = {
    "steps": ({"num_inference_steps": 3}, r"num_inference_steps: 3, .* to 1, 2 or 4 steps"),
    "scale": ({"guidance_scale": 2.0}, "guidance_scale: 2, .* teacher's guidance is built in"),
    "rule": ({"guidance": APG(8.0)}, "guidance: APG.* no unguided predictions to compare with"),
    "time shift": ({"time_shift": "sqrt"}, "time_shift: sqrt, .* noise levels it was trained for"),
    "constraints": ({"constraints": [object()]}, "constraints: are given, .* late constraints"),
}


@pytest.mark.parametrize(("options", "said"), REFUSED.values(), ids=REFUSED)
def test_what_it_cannot_do_is_refused_and_explained(options, said):
    with pytest.raises(ValueError, match=said):
        draw(student(), **options)


def test_no_guidance_may_be_asked_for_by_name():
    pipe = student()
    assert torch.equal(draw(pipe, guidance_scale=1.0), draw(pipe))
    assert torch.equal(draw(pipe, guidance=CFG(1.0)), draw(pipe))


def test_it_is_walked_by_no_other_solver():
    pipe = student()
    pipe.scheduler = build_scheduler("euler")
    with pytest.raises(ValueError, match="FlowMatchEulerDiscreteScheduler cannot walk a distilled"):
        draw(pipe)


def test_it_neither_has_nor_is_a_guide():
    with pytest.raises(ValueError, match="guide: is given, but the model is distilled"):
        draw(student(), guide=build())
    with pytest.raises(ValueError, match="guide: it is distilled"):
        draw(build(), guidance=AutoGuidance(CFG(2.0)), guide=student())


def test_an_ordinary_model_draws_in_20_steps_at_scale_2_as_before():
    pipe = build("euler")
    stated = draw(pipe, num_inference_steps=20, guidance_scale=2.0)
    assert torch.equal(draw(pipe), stated)


@pytest.mark.parametrize(
    "fields", [{"steps": []}, {"steps": [0]}, {"timestep_shift": 1.5}, {"n": 1}]
)
def test_wrong_fields_of_it_are_refused(fields):
    with pytest.raises(ValueError, match="Distilled"):
        DiffGenPipeline(build().transformer, build_scheduler("lcm"), distilled=fields)
