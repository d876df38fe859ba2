"""``train/nitro.py`` with teachers of every kind, and with pictures in the teacher's place."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, FlowMatchLCMScheduler, LCMScheduler

from diffgen import DiffGenPipeline
from diffgen.commands.nitro import adversarial, command
from diffgen.config.command_line import load
from diffgen.config.nitro import NitroConfig
from diffgen.config.process import DDPMConfig
from diffgen.data.shapes import CLASS_NAMES
from diffgen.errors import UserError
from tests.lacon_runs import pipeline, tiny_run
from tests.logs import curve
from tests.nitro.runs import nitro, scores

# diffusers hands a tensor to numpy the old way.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

FEW = ("--train.images", "16", "--train.checkpoint-images", "16", "--steps", "2")
ONCE = (*FEW, "--one-step", "0.5", "--regression.train.images", "16")


def distilled(teacher: Path, *more: str) -> DiffGenPipeline:
    """The student of two steps of the second stage, one of them of courses of two."""
    nitro(teacher, *ONCE, *more)
    out = teacher.with_name(f"{teacher.name}-nitro")
    assert [line["images"] for line in scores(out)] == [0, 16]
    (line,) = curve(out)
    assert torch.tensor([line["loss"], *line["losses"].values()]).isfinite().all()
    pipe = DiffGenPipeline.from_pretrained(out)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def drawn(pipe: DiffGenPipeline, label: Any = (0, 3), **options: Any) -> torch.Tensor:
    label = None if label is None else list(label)
    x0 = pipe(label, num_inference_steps=2, seed=1, output_type="latent", **options).images
    assert x0.isfinite().all()
    return x0


@pytest.mark.parametrize(
    ("prediction", "learned", "shift"),
    [("eps", False, 0.25), ("eps", True, 0.25), ("v", False, 1.0)],
)
def test_a_ddpm_teacher(tmp_path, prediction, learned, shift):
    """Of eps: the student is told the released shift, without being asked to."""
    chain = DDPMConfig(betas="cosine", learned_variance=learned)
    channels = {"out_channels": 6} if learned else {}
    teacher = tiny_run(tmp_path / "tiny", chain=chain, prediction=prediction, **channels)
    pipe = distilled(teacher, "--pairs.scheduler", "ddim")
    assert pipe.config.distilled == {"steps": [1, 2], "timestep_shift": shift}
    assert isinstance(pipe.scheduler, LCMScheduler)
    stated = load(NitroConfig, tmp_path / "tiny-nitro/config.yaml")
    assert stated.timestep_shift == shift
    told = []
    hook = pipe.transformer.t_embedder.register_forward_pre_hook(
        lambda _, args: told.append(args[0][0].item())
    )
    drawn(pipe)
    hook.remove()
    assert told == ([249, 124] if shift == 0.25 else [999, 499])


def test_a_flow_teacher_of_velocity_with_drawn_positions(tmp_path):
    drawing = {"kind": "rpe2d", "inference": "random"}
    teacher = tiny_run(tmp_path / "tiny", prediction="velocity", position=drawing)
    pipe = distilled(teacher, "--timestep-shift", "0.5")
    assert isinstance(pipe.scheduler, FlowMatchLCMScheduler)
    assert pipe.config.distilled["timestep_shift"] == 0.5
    drawn(pipe)


def test_a_teacher_of_latents_brings_its_vae_to_the_student(tmp_path, vae_folder):
    vae = AutoencoderKL.from_pretrained(vae_folder)
    pipe = distilled(tiny_run(tmp_path / "tiny", vae=vae, prediction="x0"))
    assert drawn(pipe).shape == (2, 4, 8, 8)
    assert pipe([0], 16, 24, seed=0).images[0].size == (24, 16)
    mine, theirs = (
        next((tmp_path / name / "pipeline/vae").glob("*.safetensors"))
        for name in ("tiny", "tiny-nitro")
    )
    assert mine.read_bytes() == theirs.read_bytes()


def test_a_teacher_of_latents_against_pictures(tmp_path, vae_folder):
    vae = AutoencoderKL.from_pretrained(vae_folder)
    teacher = tiny_run(tmp_path / "tiny", vae=vae, prediction="x0")
    assert drawn(distilled(teacher, "--real", "data")).shape == (2, 4, 8, 8)


def test_a_teacher_without_classes(tmp_path):
    model = pipeline(prediction="x0", num_classes=0).transformer
    folder = tmp_path / "tiny"
    DiffGenPipeline(model, pipeline().scheduler, []).save_pretrained(folder)
    pipe = distilled(folder)
    assert not pipe.config.class_names
    x0 = pipe(num_inference_steps=1, seed=1, output_type="latent")
    assert x0.images.shape[1:] == (3, 16, 16)


def test_a_teacher_without_classes_against_pictures_that_have_some(tmp_path):
    """Their labels are none of its own; no head is told less than the others."""
    teacher = tiny_run(tmp_path / "tiny", prediction="x0", num_classes=0)
    data = ("--data.kind", "shapes", "--data.size", "16x16")
    distilled(teacher, "--real", "data", *data)
    (line,) = curve(tmp_path / "tiny-nitro")
    assert sorted(line["losses"]) == ["gap global", "gap local", "heads global", "heads local"]


def test_a_grey_teacher_whose_encoding_counts_on_a_larger_grid(tmp_path):
    """Crops are those of the image's grid."""
    position = {"kind": "sincos", "trained_grid": "32x32"}
    teacher = tiny_run(tmp_path / "tiny", prediction="x0", in_channels=1, position=position)
    assert drawn(distilled(teacher)).shape == (2, 1, 16, 16)


def test_what_the_pairs_change_of_the_encoding_is_not_the_students(tmp_path, monkeypatch):
    kept = []

    def noting(distilling, pairs):
        kept.append(distilling.pipe.transformer.encoding.temperature)
        raise UserError("seen enough")

    monkeypatch.setattr(command, "regress", noting)
    teacher = tiny_run(tmp_path / "tiny", prediction="x0")
    nitro(teacher, "--pairs.temperature", "sqrt_log", expect=2)
    assert kept == ["none"]


def test_a_teacher_that_is_told_of_crops(tmp_path):
    teacher = tiny_run(tmp_path / "tiny", prediction="x0", micro="canvas", crop_coords=True)
    drawn(distilled(teacher))


def test_a_teacher_guided_by_a_weaker_model(tmp_path):
    tiny_run(tmp_path / "weak", prediction="x0", depth=1)
    guidance = ("--pairs.guidance.kind", "autoguidance", "--pairs.guidance.guide")
    teacher = tiny_run(tmp_path / "tiny", prediction="x0")
    drawn(distilled(teacher, *guidance, str(tmp_path / "weak")))


@pytest.mark.parametrize("loss", ["linear", "softplus"])
def test_other_losses_and_pools(tmp_path, loss):
    teacher = tiny_run(tmp_path / "tiny", prediction="x0")
    heads = ("--heads.loss", loss, "--no-heads.by-level", "--no-heads.unconditional")
    more = ("--heads.r1", "0.1", "--heads.share", "2", "--no-heads.local", "--heads.refresh", "0")
    pipe = distilled(teacher, *heads, *more, "--real", "teacher")
    drawn(pipe)
    (line,) = curve(tmp_path / "tiny-nitro")
    assert sorted(line["losses"]) == ["gap global", "heads global"]
    assert [one["head_age"]["mean"] for one in scores(tmp_path / "tiny-nitro")] == [0, 2]


class TestPictures:
    def test_the_heads_are_shown_those_the_teacher_was_trained_on(self, tmp_path, monkeypatch):
        seen = []
        judged = adversarial.Adversarial.judged

        def noting(self, turn, real, *rest):
            seen.append(real)
            return judged(self, turn, real, *rest)

        monkeypatch.setattr(adversarial.Adversarial, "judged", noting)
        distilled(tiny_run(tmp_path / "tiny", prediction="x0"), "--real", "data")
        assert torch.cat(seen).shape == (16, 3, 16, 16)
        assert all(x.abs().max() <= 1 for x in seen)  # the teacher's own go beyond

    def test_others_may_be_given_but_of_the_same_classes_alone(self, tmp_path, capsys):
        teacher = tiny_run(tmp_path / "tiny", prediction="x0", data={"kind": "shapes"})
        data = ("--real", "data", "--data.kind", "shapes", "--data.size", "16x16")
        drawn(distilled(teacher, *data))
        others = (*data[:2], "--data.kind", "digits", "--data.size", "16x16")
        nitro(teacher, *others, "--out", str(tmp_path / "other"), expect=2)
        said = capsys.readouterr().err
        assert "data: its classes are " in said
        assert f"the teacher's are {', '.join(CLASS_NAMES)}; they must be the same" in said
