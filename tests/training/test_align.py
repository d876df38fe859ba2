"""Representation alignment: its loss, who learns from it, and what it reads of the images."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.data import resolve_model_data_config

from diffgen import DiT
from diffgen.config.align import AlignConfig
from diffgen.config.model import TimeConvention
from diffgen.data.order import TrainingData
from diffgen.data.shapes import Shapes
from diffgen.errors import UserError
from diffgen.processes import Flow
from diffgen.training.align import (
    Alignment,
    alignment_loss,
    attach_projector,
    load_encoder,
    on_grid,
)
from diffgen.training.step import Objective

CPU = torch.device("cpu")
OBJECTIVE = Objective(
    Flow(TimeConvention(scale=1)), seed=3, null_label=8, class_dropout=0.1, device=CPU
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Random ones of timm's smallest ViT, for 64 x 64 pixels: 4 x 4 patches of 64 features."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("encoder") / "vit.safetensors"
    save_file(timm.create_model("test_vit", img_size=64).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def config(weights) -> AlignConfig:
    return AlignConfig(encoder="test_vit", weights=weights, image_size=64, block=1, hidden=48)


@pytest.fixture(scope="module")
def encoder(config):
    return load_encoder(config, CPU)[0]


def batch(numbers=range(6), height: int = 16, width: int = 32) -> dict:
    """Drawn scenes of the samples ``numbers``."""
    data, numbers = TrainingData(Shapes(height, width, "train"), 0), list(numbers)
    return {
        "image": torch.stack([data[n]["image"] for n in numbers]),
        "label": torch.tensor([n % 8 for n in numbers]),
        "number": torch.tensor(numbers),
    }


def build(config: AlignConfig, seed: int = 0) -> DiT:
    """Three blocks on 4 x 8 tokens, every weight but the projector's drawn from N(0, 0.1^2)."""
    model = DiT(sample_size=(16, 32), hidden_size=32, depth=3, num_heads=2)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.1 * torch.randn(p.shape, generator=generator))
    attach_projector(model, config, 64, seed)
    return model


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_features_of_one_direction_are_at_minus_one_and_opposite_ones_at_one():
    features = torch.randn(2, 5, 7)
    lengths = torch.rand(2, 5, 1) + 0.1
    assert alignment_loss(lengths * features, features).item() == pytest.approx(-1, abs=1e-6)
    assert alignment_loss(-features, features).item() == pytest.approx(1, abs=1e-6)
    half = torch.cat([features[:, :2], -features[:, 2:]], dim=1)  # 2 of 5 patches
    assert alignment_loss(half, features).item() == pytest.approx(1 / 5, abs=1e-6)


def test_the_loss_is_a_cosine_in_fp32_whatever_the_precision():
    a, b = torch.randn(2, 3, 4, 50, dtype=torch.float64)
    cosines = (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))
    assert alignment_loss(a, b).item() == pytest.approx(-cosines.mean().item(), rel=1e-5)
    low = alignment_loss(a.bfloat16(), b.bfloat16())
    assert low.dtype == torch.float32
    assert low.item() == pytest.approx(-cosines.mean().item(), abs=1e-2)


def test_the_encoders_grid_is_brought_to_the_tokens():
    """Bilinear keeps constants and, inside, ramps; a coarser grid averages."""
    features = torch.randn(2, 3, 4, 4)
    assert torch.equal(on_grid(features, 4, 4), features.flatten(2).mT)
    constant = torch.arange(3.0).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    torch.testing.assert_close(on_grid(constant, 6, 10), torch.arange(3.0).expand(1, 60, 3))
    ramp = (torch.arange(4) + 0.5).expand(1, 1, 4, 4)  # places of columns in [0, 4]
    finer = on_grid(ramp, 4, 8).view(4, 8)
    torch.testing.assert_close(finer[0, 1:-1], (torch.arange(1, 7) + 0.5) / 2)
    assert on_grid(features, 1, 1).shape == (2, 1, 3)
    checks = (torch.arange(8) % 2).float().expand(1, 1, 8, 8)
    torch.testing.assert_close(on_grid(checks, 4, 4)[0, 5], torch.tensor([0.5]))


def test_rows_and_columns_keep_their_order():
    places = torch.arange(6.0).view(1, 1, 2, 3)
    assert on_grid(places, 2, 3).flatten().tolist() == [0, 1, 2, 3, 4, 5]


def test_the_encoder_gives_timms_tokens_without_the_prefix(weights, encoder):
    network = timm.create_model("test_vit", img_size=64).eval()
    network.load_state_dict(load_file(weights))
    data = resolve_model_data_config(network)
    mean, std = (torch.tensor(data[name]).view(3, 1, 1) for name in ("mean", "std"))
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        tokens = network.forward_features(((images + 1) / 2 - mean) / std)
    assert tokens.shape == (2, 1 + 16, 64)
    found = encoder(images)
    assert found.shape == (2, 64, 4, 4)
    torch.testing.assert_close(found.flatten(2).mT, tokens[:, 1:])
    assert not torch.allclose(found, encoder(images.flip(-1)))
    assert encoder(images[..., :16, :32]).shape == (2, 64, 4, 4)


@pytest.mark.parametrize(
    ("name", "grid"), [("test_resnet", (96, 3, 3)), ("test_mambaout", (64, 3, 3))]
)
def test_channels_come_first_or_last(name, grid, tmp_path):
    """A convolutional model has no fixed size; mambaout's features end with the channels."""
    network = timm.create_model(name).eval()
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    settings = AlignConfig(encoder=name, weights=tmp_path / "w.safetensors", image_size=96)
    encoder, features = load_encoder(settings, CPU)
    found = encoder(torch.zeros(1, 3, 16, 16))
    assert found.shape[1:] == grid
    assert features == grid[0] == network.num_features


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"encoder": "test_vitt"}, "align.encoder: test_vitt is not a timm model; did you mean"),
        ({"encoder": "reader"}, "align.encoder: reader is not a timm model"),
        ({"encoder": "test_vit3"}, "does not fit the encoder test_vit3"),
        ({"image_size": 70}, "align.image_size: test_vit sees patches of 16 pixels"),
    ],
)
def test_an_encoder_that_cannot_be_is_refused_in_the_words_of_its_section(config, change, said):
    with pytest.raises(UserError) as error:
        load_encoder(config.model_copy(update=change), CPU)
    assert str(error.value).startswith("align.")
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_the_loss_is_the_objectives_and_the_weighted_alignment(config, encoder):
    model, scenes = build(config), batch()
    plain = OBJECTIVE(model, scenes).item()
    for weight in (0.5, 2.0):
        alignment = Alignment(
            OBJECTIVE, model, encoder, config.model_copy(update={"weight": weight})
        )
        loss = alignment(model, scenes).item()
        denoising, aligned = (total / count for total, count in alignment.parts().values())
        assert denoising == pytest.approx(plain, rel=1e-6)
        assert abs(aligned) <= 1
        assert loss == pytest.approx(denoising + weight * aligned, rel=1e-6)


def test_the_tokens_after_the_block_are_compared_patch_by_patch(config, encoder):
    """By hand: the third block's input, projected, against the resized features."""
    model, scenes = build(config), batch()
    given = []
    hook = model.blocks[2].register_forward_pre_hook(lambda _, args: given.append(args[0]))
    alignment = Alignment(OBJECTIVE, model, encoder, config)
    alignment(model, scenes)
    hook.remove()
    projected = model.projector(given[0]).view(6, 4, 8, 64)
    features = on_grid(encoder(scenes["image"]), 4, 8).view(6, 4, 8, 64)
    cosine = torch.nn.functional.cosine_similarity(projected, features, dim=-1).mean()
    total, count = alignment.parts()["alignment"]
    assert total / count == pytest.approx(-cosine.item(), rel=1e-5)


def test_the_alignment_teaches_the_blocks_up_to_its_own_and_the_projector(config, encoder):
    model = build(config)
    alone = Alignment(lambda m, b: 0 * OBJECTIVE(m, b), model, encoder, config)
    alone(model, batch()).backward()
    learning = {name for name, grad in gradients(model).items() if grad.abs().max() > 0}
    assert {name.split(".")[0] for name in learning} == {
        *("blocks", "projector", "x_embedder", "t_embedder", "y_embedder"),
    }
    assert {name.split(".")[1] for name in learning if name.startswith("blocks")} == {"0", "1"}
    assert {name for name in model.state_dict() if name.startswith("projector")} <= learning
    assert not any(p.requires_grad or p.grad is not None for p in encoder.network.parameters())
    assert not encoder.network.training
    assert not encoder(batch()["image"]).requires_grad


def test_training_turns_the_projected_tokens_towards_the_features(config, encoder):
    model = build(config)
    alignment = Alignment(OBJECTIVE, model, encoder, config)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    courses = []
    for _ in range(40):
        alignment(model, batch()).backward()
        optimizer.step()
        optimizer.zero_grad()
        total, count = alignment.parts()["alignment"]
        courses.append(total / count)
    assert courses[0] > -0.2
    assert courses[-1] < -0.6


def test_blocks_computed_again_give_the_same_gradients(config, encoder):
    """Gradient checkpointing runs the block, and so what reads it, a second time."""
    found = []
    for again in (False, True):
        model = build(config)
        if again:
            model.enable_gradient_checkpointing()
        Alignment(OBJECTIVE, model, encoder, config)(model, batch()).backward()
        found.append(gradients(model))
    for name, grad in found[0].items():
        torch.testing.assert_close(found[1][name], grad, msg=name)


def test_parts_are_sums_over_images_since_they_were_last_taken(config, encoder):
    model = build(config)
    alignment = Alignment(OBJECTIVE, model, encoder, config)
    each = []
    for numbers in (range(4), range(4, 6)):
        alignment(model, batch(numbers))
        each.append(alignment.parts())
    assert [parts["denoising"][1] for parts in each] == [4, 2]
    for numbers in (range(4), range(4, 6)):
        alignment(model, batch(numbers))
    both = alignment.parts()
    for name in ("denoising", "alignment"):
        assert both[name][1] == 6
        assert both[name][0] == pytest.approx(sum(parts[name][0] for parts in each), rel=1e-6)
    assert alignment.parts() == {"denoising": (0, 0), "alignment": (0, 0)}


def test_the_projector_starts_from_the_runs_seed_alone(config):
    torch.manual_seed(5)
    one = build(config).projector.state_dict()
    torch.manual_seed(6)
    same, other = build(config).projector.state_dict(), build(config, seed=1).projector.state_dict()
    for name, tensor in one.items():
        assert torch.equal(tensor, same[name])
        assert torch.equal(tensor, other[name]) == name.endswith("bias")
    first = one["layers.0.weight"]  # Xavier-uniform: within sqrt(6 / (in + out)), whose square / 3
    bound = math.sqrt(6 / (32 + 48))  # is the variance
    assert first.abs().max() < bound
    assert first.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)


def test_a_state_dict_takes_the_projector_along_and_the_encoder_not(config, encoder, tmp_path):
    model, again = build(config), build(config, seed=1)
    bare = set(DiT(sample_size=(16, 32), hidden_size=32, depth=3, num_heads=2).state_dict())
    Alignment(OBJECTIVE, model, encoder, config)(model, batch())
    added = set(model.state_dict()) - bare
    assert added == {
        f"projector.layers.{n}.{part}" for n in (0, 2, 4) for part in ("weight", "bias")
    }
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    again.load_state_dict(load_file(tmp_path / "model.safetensors"))
    losses = [Alignment(OBJECTIVE, m, encoder, config)(m, batch()) for m in (model, again)]
    assert torch.equal(*losses)


def test_a_block_without_a_token_for_every_patch_is_refused(config, encoder):
    model = build(config)
    model.blocks[1].register_forward_hook(lambda _, __, tokens: tokens[:, ::2])
    model.blocks[2].register_forward_pre_hook(
        lambda _, args: (args[0].repeat_interleave(2, dim=1), *args[1:])
    )
    with pytest.raises(ValueError, match="16 tokens after block 1, but images of 4x8"):
        Alignment(OBJECTIVE, model, encoder, config)(model, batch())


TWO_PROCESSES = """
import importlib.util
import sys
import torch
import torch.distributed as dist
from pathlib import Path
from torch.nn.parallel import DistributedDataParallel

test, weights, out = sys.argv[1:]
spec = importlib.util.spec_from_file_location("test_align", test)
align = importlib.util.module_from_spec(spec)
spec.loader.exec_module(align)
dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
assert world == 2, world
config = align.AlignConfig(
    encoder="test_vit", weights=Path(weights), image_size=64, block=1, hidden=48
)
torch.manual_seed(rank)
model = align.build(config)
ddp = DistributedDataParallel(model)
encoder, _ = align.load_encoder(config, align.CPU)
alignment = align.Alignment(align.OBJECTIVE, model, encoder, config)
with ddp.no_sync():  # an accumulated piece
    (alignment(ddp, align.batch(range(2 * rank, 2 * rank + 2))) / 2).backward()
(alignment(ddp, align.batch(range(4 + 2 * rank, 6 + 2 * rank))) / 2).backward()
torch.save({"grads": align.gradients(model), "parts": alignment.parts()}, f"{out}/{rank}.pt")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one(config, encoder, weights, tmp_path):
    """Real DDP over gloo, in two accumulated pieces; the projector works outside its forward."""
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [*launch, str(script), __file__, str(weights), str(tmp_path)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    model = build(config)
    alignment = Alignment(OBJECTIVE, model, encoder, config)
    alignment(model, batch(range(8))).backward()
    one, parts = gradients(model), alignment.parts()
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert any(name.startswith("projector") for name in one)
    for two in ranks:
        assert two["grads"].keys() == one.keys()
        for name, grad in one.items():
            torch.testing.assert_close(two["grads"][name], grad, rtol=1e-4, atol=1e-6, msg=name)
    for name, (total, count) in parts.items():
        assert sum(two["parts"][name][1] for two in ranks) == count == 8
        assert sum(two["parts"][name][0] for two in ranks) == pytest.approx(total, rel=1e-5)
