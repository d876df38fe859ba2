"""Draws where a sample is loaded are those of the step, in this process, a worker or another."""

import pickle

import pytest
import torch

from diffgen.commands.train import build_draws, train
from diffgen.config.model import TimeConvention
from diffgen.config.process import DDPMConfig, FlowConfig
from diffgen.config.vae import LatentFormat, VAEConfig
from diffgen.data.loader import load_batches
from diffgen.data.order import BatchNumbers, TrainingData
from diffgen.data.shapes import Shapes
from diffgen.models.vae import LatentSpace, load_vae
from diffgen.processes import build_process
from diffgen.training.checkpoints import seen_of
from diffgen.training.draws import Draws
from diffgen.training.latents import Encoder
from diffgen.training.step import Objective
from tests.tiny import build
from tests.trainings import newest, settings

CPU = torch.device("cpu")
FORM = LatentFormat(factor=2, mean=(0.1,) * 4, std=(1.5,) * 4)


@pytest.fixture(params=["pixels", "latents", "modes"])
def objective(request, vae_folder) -> Objective:
    """Of pixels, of latents drawn from posteriors, or of their modes."""
    encode, prediction = None, "velocity"
    process = build_process(FlowConfig(), TimeConvention(), prediction)
    if request.param != "pixels":
        config = VAEConfig(path=str(vae_folder), sample=request.param == "latents")
        encode = Encoder(LatentSpace(load_vae(vae_folder), FORM), config, seed=5)
        process = build_process(DDPMConfig(), TimeConvention(scale=1000), "eps")
    return Objective(process, 5, 3, 0.5, CPU, encode)


def draws_of(objective: Objective) -> Draws:
    return build_draws(objective, objective.encode)


def forbid_drawing(monkeypatch) -> None:
    """In a step: what is drawn where samples are loaded must be used."""
    monkeypatch.setattr("diffgen.training.step.draw", None)
    monkeypatch.setattr("diffgen.training.latents.posterior_noise", None)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loss_is_the_same_wherever_it_is_drawn(objective, workers, monkeypatch):
    channels = 3 if objective.encode is None else 4
    prediction = "velocity" if objective.encode is None else "eps"
    model = build(in_channels=channels, prediction=prediction).transformer
    numbers = BatchNumbers(start=6, stop=18, batch_size=6)
    found = {}
    for loaded in (False, True):
        data = TrainingData(Shapes(16, 24, "train"), 5)
        if loaded:
            data.draws = draws_of(objective)
            forbid_drawing(monkeypatch)
        batches = list(load_batches(data, numbers, workers, pin_memory=False))
        assert all(("eps" in batch) == loaded for batch in batches)
        with torch.no_grad():
            labelled = [{**batch, "label": batch["label"] % 3} for batch in batches]
            found[loaded] = [objective(model, batch) for batch in labelled]
    assert len(found[True]) == 2
    assert found[True] == found[False]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("vae", [False, True])
def test_a_training_draws_where_it_loads(vae, vae_folder, tmp_path, monkeypatch):
    forbid_drawing(monkeypatch)
    latents = {"vae": {"path": str(vae_folder)}} if vae else {}
    train(settings(tmp_path / "run", train={"images": 16}, **latents))
    assert seen_of(newest(tmp_path / "run")) == 16


def test_a_worker_of_another_start_method_can_be_given_them(objective):
    draws = draws_of(objective)
    sample = TrainingData(Shapes(16, 24, "train"), 5)[7]
    mine, theirs = draws(sample), pickle.loads(pickle.dumps(draws))(sample)
    assert mine.keys() == theirs.keys()
    assert ("posterior" in mine) == draws.posterior
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)


def test_noise_has_the_shape_of_what_the_model_sees():
    draws = Draws(build_process(FlowConfig(), TimeConvention(), "velocity"), 0, FORM, True)
    assert draws.shape((3, 16, 24)) == (4, 8, 12)
    assert draws.shape((8, 8, 12)) == (4, 8, 12)
    pixels = Draws(draws.process, 0, None, False)
    assert pixels.shape((3, 16, 24)) == (3, 16, 24)
