"""Training a part of the parameters, named by patterns."""

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from diffgen import DiT
from diffgen.commands.train import train
from diffgen.config.model import DiTConfig
from diffgen.config.train import TrainConfig
from diffgen.errors import UserError
from diffgen.training.trainable import choose_trainable
from tests.trainings import newest, settings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

RECIPE = yaml.safe_load(Path("configs/fitv2-hr.yaml").read_text(encoding="utf-8"))
PATTERNS = RECIPE["train"]["trainable"]


@pytest.mark.parametrize(("size", "share"), [("FiTv2-XL", 0.1415), ("FiTv2-3B", 0.1399)])
def test_the_recipe_trains_the_share_fitv2_states(size, share):
    """14.15 % of XL (Wang et al. 2024); of 3B 13.99 % by counting its parameters."""
    config = DiTConfig.model_validate({**RECIPE["model"], "size": size})
    with torch.device("meta"):
        model = DiT.build(config, num_classes=1000, in_channels=4, sample_size=(64, 64))
    assert choose_trainable(model, PATTERNS) == pytest.approx(share, abs=5e-5)


def test_the_recipe_counts_its_frequencies_from_the_first_grid():
    config = DiTConfig.model_validate({**RECIPE["model"], "hidden_size": 64, "num_heads": 2})
    model = DiT.build(config, num_classes=3, in_channels=4, sample_size=(64, 64))
    assert list(model.config.sample_size) == [64, 64]
    assert model.grid == model.encoding.grid == (16, 16)


def test_a_pattern_that_matches_nothing_is_told_with_what_there_is():
    model = DiT(hidden_size=32, depth=1, num_heads=2)
    with pytest.raises(UserError, match=r"'blocks\.7\.\*' matches no parameter; .*blocks\.0\.attn"):
        choose_trainable(model, ["x_embedder.*", "blocks.7.*"])


def test_only_the_chosen_ones_change_and_a_resumed_run_goes_on_alike(tmp_path):
    train(settings(tmp_path / "first"))
    options = {"init": str(tmp_path / "first"), "schedule": {"decay": "constant"}}
    part = {"trainable": ["x_embedder.*", "*.bias"]}
    for name, lengths in (("whole", [96]), ("parts", [32, 96])):
        for images in lengths:
            train(settings(tmp_path / name, **options, train={**part, "images": images}))
    before = load_file(tmp_path / "first/pipeline/transformer/diffusion_pytorch_model.safetensors")
    after = load_file(newest(tmp_path / "whole") / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {n for n in before if n.startswith("x_embedder.") or n.endswith(".bias")}
    again = load_file(newest(tmp_path / "parts") / "model.safetensors")
    assert all(torch.equal(again[name], after[name]) for name in after)


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"micro": "pixels"}, "crop_embedder.mlp.0.weight"), ({"num_classes": 12}, "y_embedder")],
)
def test_what_the_first_model_lacks_must_be_trained(tmp_path, changes, named):
    train(settings(tmp_path / "first", train={"images": 8}))
    part = {"trainable": ["*.bias"], "images": 8}
    start = str(tmp_path / "first")
    with pytest.raises(UserError, match=rf"train\.trainable: {named}.* would stay random"):
        train(settings(tmp_path / "second", init=start, model=changes, train=part))
    part["trainable"] += ["crop_embedder.*", "y_embedder.*"][: 1 if "micro" in changes else 2]
    if "micro" not in changes:
        part["trainable"].remove("crop_embedder.*")
    train(settings(tmp_path / "third", init=start, model=changes, train=part))


def test_parameters_that_would_stay_random_are_refused(tmp_path):
    config = TrainConfig.model_validate({"out": tmp_path, "train": {"trainable": ["*.bias"]}})
    assert [p for p in config.problems() if p.startswith("train.trainable")]


def test_stages_start_small_and_go_on_larger_from_the_run_folder(tmp_path):
    position = {"position": {"kind": "rpe2d", "range_rows": 8, "range_columns": 8}}
    train(settings(tmp_path / "small", model=position))
    large = {"data": {"size": "32x32"}, "train": {"images": 8}, "schedule": {"warmup_images": 8}}
    train(settings(tmp_path / "large", model=position, init=str(tmp_path / "small"), **large))
    before = load_file(tmp_path / "small/pipeline/transformer/diffusion_pytorch_model.safetensors")
    after = load_file(newest(tmp_path / "large") / "model.safetensors")
    assert before.keys() == after.keys()
    for name, weights in before.items():  # one step away from where the first stage ended
        assert (weights - after[name]).abs().max() < 0.1, name
