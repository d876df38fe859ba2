"""A diffusers DiTPipeline's folder: the same pictures here as there."""

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    DPMSolverMultistepScheduler,
    PNDMScheduler,
)
from PIL import Image

from diffgen import DiffGenPipeline
from diffgen.cli import main
from diffgen.config.source import resolve
from diffgen.errors import UserError
from diffgen.models import load_released

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

LABELS = [3, 417, 999]


def transformer(seed: int = 0) -> DiTTransformer2DModel:
    """Every weight drawn; the embedders of all blocks shared, as in the released folders."""
    model = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=8,
        num_layers=3,
        sample_size=8,
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.15 * torch.randn(p.shape, generator=generator))
        first = model.transformer_blocks[0].norm1.emb.state_dict()
        for block in model.transformer_blocks:
            block.norm1.emb.load_state_dict(first)
    return model.eval()


def autoencoder() -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(
        block_out_channels=(16, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=4,
        scaling_factor=0.18215,
    ).eval()


def edit(path, **fields):
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.fixture(scope="module")
def peer():
    pipe = DiTPipeline(transformer(), autoencoder(), DDIMScheduler())
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def folder(peer, tmp_path_factory):
    path = tmp_path_factory.mktemp("peer") / "dit"
    peer.save_pretrained(path)
    names = {str(k): f"thing {k % 999}, name {k}" for k in range(1000)}  # as released folders do
    edit(path / "model_index.json", id2label=names)
    return path


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def theirs(peer, steps, scale):
    generator = torch.Generator().manual_seed(5)
    return peer(
        LABELS, guidance_scale=scale, generator=generator, num_inference_steps=steps,
        output_type="np",
    ).images  # fmt: skip


def ours(pipe, steps, scale):
    latents = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    pipe.set_progress_bar_config(disable=True)
    return pipe(
        LABELS, guidance_scale=scale, latents=latents, num_inference_steps=steps, output_type="np"
    ).images


@pytest.mark.parametrize(("steps", "scale"), [(10, 1.0), (10, 4.0), (7, 4.0)])
def test_the_pictures_are_those_of_diffusers(peer, folder, steps, scale):
    """Within one grey level, by the folder's own DDIM, which clips and spaces as it states."""
    expected, found = (
        theirs(peer, steps, scale),
        ours(DiffGenPipeline.from_pretrained(folder), steps, scale),
    )
    assert expected.std() > 0.02
    assert np.abs(expected - found).max() < 1 / 255


@torch.no_grad()
def test_the_transformer_alone(peer, folder):
    model = load_released(folder)
    x = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    t, y = torch.tensor([0, 500, 999]), torch.tensor([0, 999, 1000])
    expected = peer.transformer(x, t, y).sample
    torch.testing.assert_close(model(x, t.float(), y), expected, rtol=1e-5, atol=1e-5)
    for field, plain in (("time_freq_shift", 0), ("mlp_norm_eps", 1e-6)):  # both matter
        other = type(model)(**{**model.config, field: plain})
        other.load_state_dict(model.state_dict())
        assert (other(x, t.float(), y) - expected).abs().max() > 2e-6


def test_saving_what_was_read_keeps_every_convention(folder, tmp_path):
    pipe = DiffGenPipeline.from_pretrained(folder)
    assert pipe.config.class_names[417] == "thing 417"
    assert pipe.config.class_names[999] == "thing 0, name 999"  # two share the short name
    assert pipe.transformer.config.guidance_channels is None
    assert pipe.transformer.num_classes == 1000
    pipe.save_pretrained(tmp_path / "own")
    again = DiffGenPipeline.from_pretrained(tmp_path / "own")
    assert np.array_equal(ours(again, 4, 4.0), ours(pipe, 4, 4.0))


def test_a_folder_is_known_without_loading_it(folder):
    source = resolve(str(folder))
    assert source.diffusers
    assert (source.num_classes, source.sample_size, source.factor) == (1000, (16, 16), 2)
    assert source.process.kind == "ddpm"
    assert source.process.learned_variance


def test_another_scheduler_becomes_ddim(peer, tmp_path, caplog):
    pipe = DiTPipeline(peer.transformer, peer.vae, PNDMScheduler(beta_end=0.02, beta_start=1e-4))
    pipe.save_pretrained(tmp_path / "pndm")
    found = DiffGenPipeline.from_pretrained(tmp_path / "pndm")
    assert isinstance(found.scheduler, DDIMScheduler)
    assert "PNDMScheduler" in caplog.text


def damage(folder, change):
    """Save the transformer of ``folder`` again after ``change``."""
    model = transformer()
    change(model)
    model.save_pretrained(folder / "transformer")


def test_embedders_that_differ_are_refused_by_name(copy):
    def change(model):
        table = model.transformer_blocks[2].norm1.emb.class_embedder.embedding_table
        with torch.no_grad():
            table.weight[0, 0] += 1

    damage(copy, change)
    with pytest.raises(UserError, match=r"transformer_blocks\.2\.norm1\.emb\.class_embedder"):
        DiffGenPipeline.from_pretrained(copy)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("norm_type", "ada_norm_single", "norm_type"),
        ("activation_fn", "gelu", "activation_fn"),
        ("norm_elementwise_affine", True, "norm_elementwise_affine"),
        ("num_layers", 4, r"transformer_blocks\.3"),
        ("num_layers", 2, r"transformer_blocks\.2"),
        ("num_attention_heads", 3, "shape"),
        ("sample_size", None, "sample_size"),
        ("sample_size", 9, "no multiple of its patch"),
        ("out_channels", "8", "out_channels '8'"),
        ("norm_eps", "x", "norm_eps 'x'"),
        ("_class_name", "UNet2DModel", "UNet2DModel"),
    ],
)
def test_configurations_that_are_not_dits_are_refused(copy, field, value, told):
    edit(copy / "transformer/config.json", **{field: value})
    with pytest.raises(UserError, match=told):
        DiffGenPipeline.from_pretrained(copy)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("_class_name", "FlowMatchEulerDiscreteScheduler", "a flow's scheduler"),
        ("num_train_timesteps", "x", "is damaged"),
        ("prediction_type", ["x"], "prediction_type"),
        ("timestep_spacing", "foo", "timestep_spacing 'foo'"),
        ("steps_offset", 1000, "steps_offset 1000"),
        ("beta_schedule", "scaled_linear", "betas"),
    ],
)
def test_schedulers_that_cannot_walk_are_refused(copy, field, value, told):
    edit(copy / "scheduler/scheduler_config.json", **{field: value})
    with pytest.raises(UserError, match=told):
        DiffGenPipeline.from_pretrained(copy)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_other_steps_and_predictions(peer, tmp_path, spacing, prediction):
    settings = {"timestep_spacing": spacing, "prediction_type": prediction, "clip_sample": False}
    other = DiTPipeline(peer.transformer, peer.vae, DDIMScheduler(**settings))
    other.set_progress_bar_config(disable=True)
    other.save_pretrained(tmp_path / "dit")
    found = ours(DiffGenPipeline.from_pretrained(tmp_path / "dit"), 10, 4.0)
    assert np.abs(theirs(other, 10, 4.0) - found).max() < 1 / 255
    model = load_released(tmp_path / "dit")  # the scheduler beside it is asked
    assert (
        model.config.prediction
        == {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}[prediction]
    )


@pytest.mark.filterwarnings("ignore:.*algorithm_type:FutureWarning")
def test_noise_levels_of_a_dpm_solver_are_left_out_and_told(peer, tmp_path, caplog):
    odd = {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"}
    scheduler = DPMSolverMultistepScheduler(beta_start=1e-4, beta_end=0.02, **odd)
    DiTPipeline(peer.transformer, peer.vae, scheduler).save_pretrained(tmp_path / "dpm")
    pipe = DiffGenPipeline.from_pretrained(tmp_path / "dpm")
    assert "final_sigmas_type" in caplog.text
    assert np.isfinite(ours(pipe, 4, 4.0)).all()


def test_a_damaged_index_of_shards(copy):
    folder = copy / "transformer"
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    for content, told in (
        ("{}", "lists no shards"),
        ("[]", "not a JSON object"),
        ('{"weight_map": {"a": "../../x.safetensors"}}', "outside of its folder"),
    ):
        index.write_text(content)
        with pytest.raises(UserError, match=told):
            DiffGenPipeline.from_pretrained(copy)


def test_weights_in_an_old_pickle_are_read(copy, folder):
    from safetensors.torch import load_file

    for part in ("transformer", "vae"):
        file = copy / part / "diffusion_pytorch_model.safetensors"
        torch.save(load_file(file), file.with_suffix(".bin"))
        file.unlink()
    old, new = (DiffGenPipeline.from_pretrained(place) for place in (copy, folder))
    assert np.array_equal(ours(old, 2, 1.0), ours(new, 2, 1.0))


def test_commands_take_the_folder_as_it_is(folder, tmp_path, capfd):
    """Pictures of the sample command are those of the pipeline; a scaling has no place in it."""
    asked = ["--scheduler", "ddim", "--steps", "3", "--num-images", "2", "--classes", "5,7"]
    out = tmp_path / "pictures"
    assert main(["sample", str(folder), *asked, "--out", str(out)]) == 0
    pipe = DiffGenPipeline.from_pretrained(folder)
    expected = pipe([5, 7], num_inference_steps=3, seed=0, output_type="np").images
    for file, wanted in zip(sorted(out.glob("16x16/*.png")), expected, strict=True):
        with Image.open(file) as image:
            assert np.abs(np.asarray(image) / 255 - wanted).max() < 1 / 255
    assert main(["sample", str(folder), *asked, "--scaling", "ntk", "--out", str(out)]) == 2
    assert "scaling: ntk needs a rotary encoding" in capfd.readouterr().err
    target = tmp_path / "own"
    assert main(["convert", str(folder), str(target)]) == 0
    assert "guidance on 4 of 4 channels" in capfd.readouterr().out
    assert np.array_equal(ours(DiffGenPipeline.from_pretrained(target), 3, 4.0), ours(pipe, 3, 4.0))
    assert main(["convert", str(target), str(tmp_path / "dit.pt"), "--to", "dit"]) == 2
    told = capfd.readouterr().err
    assert "model.mlp_norm_eps: 1e-05" in told
    assert "model.time_freq_shift: 1" in told
