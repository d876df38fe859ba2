"""Aligners on the disk: which model they belong to, and damage."""

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from diffgen.errors import UserError
from diffgen.lacon.aligner import Aligner
from diffgen.lacon.conditions import EDGE, EDGE_F1, MASK, Condition
from diffgen.lacon.load import ending, load_aligner
from diffgen.models.beside import fingerprint
from tests.tiny import build

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def model():
    return build().transformer


@pytest.fixture
def folder(model, tmp_path):
    aligner = Aligner.of(model, "mask", 1, backbone=fingerprint(model), until=0.4)
    aligner.save_pretrained(tmp_path / "mask/aligner")
    return tmp_path / "mask"


class TestFingerprint:
    def test_it_is_the_same_again_in_another_precision_and_after_saving(self, model, tmp_path):
        expected = fingerprint(model)
        assert fingerprint(build().transformer) == expected
        model.save_pretrained(tmp_path)
        assert fingerprint(type(model).from_pretrained(tmp_path)) == expected
        assert fingerprint(model.double()) == expected
        assert fingerprint(model.to(torch.bfloat16)) == expected

    @torch.no_grad()
    @pytest.mark.parametrize("place", [0, -1], ids=["first", "last"])
    def test_any_value_of_any_parameter_changes_it(self, model, place):
        seen = {fingerprint(model)}
        parameters = list(model.parameters())
        for p in parameters:
            value = p.view(-1)[place].clone()
            p.view(-1)[place] = 1.02 * value + 0.01
            seen.add(fingerprint(model))
            p.view(-1)[place] = value
        assert len(seen) == 1 + len(parameters)

    @torch.no_grad()
    def test_two_averages_of_one_run_differ(self, model):
        """Weights a thousandth apart, as those of two widths of averaging are late in a run."""
        expected = fingerprint(model)
        generator = torch.Generator().manual_seed(0)
        for p in model.parameters():
            p.mul_(1 + 1e-3 * torch.randn(p.shape, generator=generator))
        assert fingerprint(model) != expected

    def test_shapes_count(self):
        first, second = (build(num_classes=n).transformer for n in (3, 4))
        for each in (first, second):
            for p in each.parameters():
                p.requires_grad_(False).zero_()
        assert fingerprint(first) != fingerprint(second)


class TestLoading:
    def test_it_is_ready_to_use(self, folder, model):
        aligner = load_aligner(folder, model)
        assert isinstance(aligner, Aligner)
        assert not aligner.training
        assert not any(p.requires_grad for p in aligner.parameters())
        assert {p.dtype for p in aligner.parameters()} == {torch.float32}
        assert {p.device for p in aligner.parameters()} == {model.device}
        assert (aligner.config.condition, aligner.config.until) == ("mask", 0.4)
        assert load_aligner(str(folder), model.to(torch.bfloat16)).dtype == torch.float32

    @pytest.mark.parametrize("change", ["weights", "depth"])
    def test_another_model_is_refused(self, folder, change):
        other = build(**({"depth": 3} if change == "depth" else {})).transformer
        with torch.no_grad():
            other.blocks[0].attn.qkv.bias[7] += 1
        with pytest.raises(UserError, match=r"constraint: .*mask is the aligner of another model"):
            load_aligner(folder, other)

    def test_one_of_another_condition_is_refused(self, folder, model):
        assert load_aligner(folder, model, condition=MASK).config.condition == "mask"
        for other in (EDGE, Condition("mask", 3, True, None, EDGE_F1)):
            said = f"mask of 1 channels, but {other.name} of {other.channels} is asked for"
            with pytest.raises(UserError, match=f"wish: .* is an aligner of {said}"):
                load_aligner(folder, model, "wish", other)

    def test_a_missing_folder_is_named(self, model, tmp_path):
        with pytest.raises(UserError, match=r"wish: .*nowhere holds no aligner"):
            load_aligner(tmp_path / "nowhere", model, "wish")
        with pytest.raises(UserError, match="holds no aligner"):
            load_aligner(tmp_path, model)


def remove(place):
    (place / WEIGHTS).unlink()


def cut(place):
    (place / WEIGHTS).write_bytes((place / WEIGHTS).read_bytes()[:900])


def empty(place):
    (place / WEIGHTS).write_bytes(b"")


def lose_one(place):
    weights = load_file(place / WEIGHTS)
    del weights["out.bias"]
    save_file(weights, place / WEIGHTS)


def add_one(place):
    save_file({**load_file(place / WEIGHTS), "more": torch.zeros(1)}, place / WEIGHTS)


def state(**fields):
    def change(place):
        config = json.loads((place / "config.json").read_text())
        (place / "config.json").write_text(json.dumps({**config, **fields}))

    change.__name__ = "_".join(map(str, fields))
    return change


def write(text):
    def change(place):
        (place / "config.json").write_text(text)

    change.__name__ = f"config_{text}"
    return change


DAMAGE = [
    *(remove, cut, empty, lose_one, add_one, write("{"), write("{}"), write("null"), write("[]")),
    *(state(width=24), state(fusion="mix"), state(fusion="sum"), state(hidden_size="wide")),
    *(state(blocks=3), state(hidden_size=-4)),
]


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_a_damaged_one_is_named_in_one_line(folder, model, tmp_path, damage, capfd):
    copy = shutil.copytree(folder, tmp_path / "copy")
    damage(copy / "aligner")
    with pytest.raises(UserError) as caught:
        load_aligner(copy, model)
    message = str(caught.value)
    kind = "(cannot be (loaded|read): .|is not a JSON object$)"
    assert re.match(f"constraint: {copy}/aligner(/config.json)? {kind}", message)
    assert "\n" not in message
    assert "ignore_mismatched_sizes" not in message
    assert capfd.readouterr() == ("", "")
    assert "loaded" not in message or message.endswith(
        "; it is damaged: train it again, or copy it anew"
    )


def test_weights_that_are_no_safetensors_are_not_read(folder, model):
    """A pickle could run code."""
    weights = load_file(folder / "aligner" / WEIGHTS)
    torch.save(weights, folder / "aligner/diffusion_pytorch_model.bin")
    remove(folder / "aligner")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_aligner(folder, model)


def test_a_constraint_ends_where_its_aligner_does_or_is_asked_to_within_its_training(tmp_path):
    stated = {"until": 0.4, "r2": {"0.3": 0.5, "0.4": 0.4}}
    assert ending(stated, None, "until", tmp_path) == 0.4
    assert ending(stated, 0.3, "until", tmp_path) == 0.3
    with pytest.raises(UserError, match=r"until: 0.2 is below 0.3, the smallest time"):
        ending(stated, 0.2, "until", tmp_path)
    with pytest.raises(UserError, match=r"until: .* has learnt nothing"):
        ending({"until": 1.0, "r2": {"0.3": -1.0}}, None, "until", tmp_path)
