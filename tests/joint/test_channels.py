"""The model with its condition in further channels: where it starts, learns, and is loaded from."""

import shutil

import pytest
import torch

from diffgen.config.process import DDPMConfig
from diffgen.data.shapes import Shapes
from diffgen.errors import UserError
from diffgen.files import write_json
from diffgen.guidance import CFG
from diffgen.joint.channels import (
    ChannelsObjective,
    Conditioned,
    draw_from_channels,
    load_channels,
    widened,
)
from diffgen.lacon.conditions import DEPTH
from diffgen.lacon.training import MappedData, Reader
from diffgen.models.beside import fingerprint
from tests.lacon_runs import pipeline
from tests.late import RANDOM

DATA = MappedData(Shapes(16, 16, "train"), 0, DEPTH)
CHAIN = DDPMConfig(num_train_timesteps=50, learned_variance=True)
KINDS = {
    "flow": {},
    "drawn positions": {"position": RANDOM},
    "chain": {"chain": CHAIN, "prediction": "v", "out_channels": 6},
}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def trained(model):
    """``model`` as if it had learnt to look at the new channels."""
    wide = widened(model)
    with torch.no_grad():
        weight = wide.x_embedder.proj.weight
        weight[:, 12:] = noise(32, 12, seed=2)
    return wide


@pytest.mark.parametrize("kind", KINDS)
def test_it_starts_as_the_model_it_comes_from_whatever_the_condition(kind):
    model = pipeline(**KINDS[kind]).transformer
    x, t, y = noise(4, 3, 16, 16), torch.linspace(0.1, 0.9, 4), torch.tensor([0, 1, 2, 8])

    def told() -> dict:
        seeds = range(4) if kind == "drawn positions" else ()
        drawn = [torch.Generator().manual_seed(seed) for seed in seeds]
        return {"generator": drawn} if drawn else {}

    own = model(x, t, y, **told())
    for condition in (torch.zeros(4, 3, 16, 16), 100 * noise(4, 3, 16, 16, seed=1)):
        found = Conditioned(widened(model), condition)(x, t, y, **told())
        assert torch.equal(found, own)
    assert own.abs().max() > 0.1
    changed = Conditioned(trained(model), noise(4, 3, 16, 16, seed=1))(x, t, y, **told())
    assert (changed - own).abs().max() > 1e-3


def test_every_pass_has_the_condition_of_its_image():
    wide = trained(pipeline().transformer)
    condition, x = noise(2, 3, 16, 16), noise(4, 3, 16, 16, seed=1)
    t, y = torch.full((4,), 0.5), torch.tensor([0, 1, 8, 8])
    both = Conditioned(wide, condition)(x, t, y)
    for i in range(4):
        alone = Conditioned(wide, condition[[i % 2]])(x[[i]], t[[i]], y[[i]])
        torch.testing.assert_close(both[[i]], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_pair_the_loss_is_its_own_whatever_the_batch(kind):
    pipe = pipeline(**KINDS[kind])
    model = trained(pipe.transformer)
    objective = ChannelsObjective(
        process=pipe.denoiser([]).process,
        reader=Reader(DEPTH, torch.device("cpu")),
        labels=torch.arange(8),
        null_label=8,
        seed=0,
        class_dropout=0.5,
    )

    def loss(numbers: list[int], **changes: torch.Tensor) -> float:
        samples = [DATA[number] for number in numbers]
        names = ("image", "map")
        batch = {name: torch.stack([sample[name] for sample in samples]) for name in names}
        batch["label"] = torch.tensor([sample["label"] for sample in samples])
        with torch.no_grad():
            given = {**batch, "number": torch.tensor(numbers), **changes}
            return float(objective(model, given))

    together = loss([4, 5, 6, 7])
    alone = [loss([n]) for n in (4, 5, 6, 7)]
    assert together == pytest.approx(sum(alone) / 4, rel=1e-5)
    assert loss([4, 5], map=torch.full((2, 1, 16, 16), 5.0)) != loss([4, 5])


def test_positions_are_drawn_in_training_whatever_they_are_in_drawing():
    told = []

    def model(x, t, y, generator):
        told.extend(torch.rand((), generator=one).item() for one in generator)
        return torch.zeros_like(x[:, :3])

    pipe = pipeline(position={**RANDOM, "inference": "linspace"})
    reader = Reader(DEPTH, torch.device("cpu"))
    process, labels = pipe.denoiser([]).process, torch.arange(8)
    objective = ChannelsObjective(process, reader, labels, 8, seed=0, class_dropout=0.5)
    for numbers in ([4, 5], [5]):
        samples = [DATA[number] for number in numbers]
        batch = {name: torch.stack([s[name] for s in samples]) for name in ("image", "map")}
        batch["label"] = torch.tensor([sample["label"] for sample in samples])
        objective(model, {**batch, "number": torch.tensor(numbers)})
    assert told[1] == told[2] != told[0]


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_drawn_of_each_picture_and_at_first_as_without(kind):
    pipe = pipeline(**KINDS[kind])
    pipe.set_progress_bar_config(disable=True)
    labels, condition = torch.tensor([0, 1]), noise(2, 3, 16, 16).clamp(-1, 1)
    own = pipe([0, 1], num_inference_steps=3, seed=7, output_type="latent").images

    def drawn(model, condition: torch.Tensor) -> torch.Tensor:
        told = {"numbers": [0, 1], "seed": 7, "steps": 3}
        return draw_from_channels(pipe, model, condition, labels, CFG(2.0), **told)

    scale = own.abs().max()
    assert (drawn(widened(pipe.transformer), condition) - own).abs().max() < 1e-4 * scale
    model = trained(pipe.transformer)
    one, other = drawn(model, condition), drawn(model, condition.flip(0))
    assert (one - other).abs().max() > 1e-2 * scale


def test_it_is_loaded_beside_its_own_model_alone(tmp_path):
    model = pipeline().transformer
    wide = trained(model)
    wide.save_pretrained(tmp_path / "channels")
    write_json(tmp_path / "origin.json", {"backbone": fingerprint(model)})
    found = load_channels(tmp_path, model)
    assert all(torch.equal(p, wide.state_dict()[name]) for name, p in found.state_dict().items())
    assert not any(p.requires_grad for p in found.parameters())
    with pytest.raises(UserError, match=r"channels: .* comes from another model, or from these"):
        load_channels(tmp_path, pipeline(depth=3).transformer)
    weights = tmp_path / "channels/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UserError, match=r"channels: .*channels cannot be loaded: "):
        load_channels(tmp_path, model)
    shutil.rmtree(tmp_path / "channels")
    with pytest.raises(UserError, match=r"baselines: .* holds no finished model of train/joint"):
        load_channels(tmp_path, model, "baselines")
