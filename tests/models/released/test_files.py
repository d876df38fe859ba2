"""Checkpoint files: told apart, there and back, and refused without running anything."""

from argparse import Namespace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from diffgen.config.process import DDPMConfig, FlowConfig
from diffgen.errors import UserError
from diffgen.models import DiT, load_released, released_weights
from diffgen.models.released.layouts import hidden_ratio, swiglu_ratio
from diffgen.models.released.tables import position_table, table_side

RELEASED = DDPMConfig(learned_variance=True)


def same(first, second):
    assert set(first) == set(second)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("name", "family", "process"),
    [("dit", "dit", RELEASED), ("dit", "sit", FlowConfig()), ("fitv2", "fitv2", FlowConfig())],
)
def test_there_and_back_is_bit_equal(golden_file, name, family, process):
    path = golden_file(name)
    model = load_released(path, num_heads=2, family=family)
    same(released_weights(model, process, family), load_file(path))


def test_conventions_come_with_the_family(golden_file):
    dit, sit = (load_released(golden_file("dit"), 2, family) for family in ("dit", "sit"))
    assert dit.config.prediction == "eps"
    assert (dit.convention.direction, dit.convention.scale) == ("noise", 1000)
    fit = load_released(golden_file("fitv2"), 2)
    for model in (sit, fit):
        assert model.config.prediction == "velocity"
        assert (model.convention.direction, model.convention.scale) == ("data", 1)
    assert {m.config.guidance_channels for m in (dit, sit, fit)} == {3}


@pytest.mark.parametrize("suffix", [".pt", ".bin", ".safetensors"])
def test_every_kind_of_file_and_prefix(golden_file, tmp_path, suffix):
    path = golden_file("dit")
    weights = {f"module._orig_mod.{k}": v for k, v in load_file(path).items()}
    file = tmp_path / f"dit{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(weights, file)
    same(load_released(file, 2).state_dict(), load_released(path, 2).state_dict())


def test_a_training_checkpoint_gives_its_average_and_its_family(golden_file, tmp_path):
    ema = load_file(golden_file("dit"))
    model = {k: v + 1 for k, v in ema.items()}
    args = Namespace(model="SiT-XL/2", path_type="Linear", prediction="velocity")
    file = tmp_path / "0400000.pt"
    torch.save({"model": model, "ema": ema, "opt": {"state": {}}, "args": args}, file)
    found = load_released(file, 2)
    assert found.config.prediction == "velocity"
    same(released_weights(found, FlowConfig(), "sit"), ema)
    args.path_type = "GVP"
    torch.save({"ema": ema, "args": args}, file)
    for family in (None, "sit"):
        with pytest.raises(UserError, match="path_type GVP"):
            load_released(file, 2, family)
    with pytest.raises(UserError, match="was trained as SiT-XL/2"):
        load_released(file, 2, "dit")
    torch.save({"ema": {}, "model": ema, "args": {"model": "DiT-S/2"}}, file)
    assert load_released(file, 2).config.prediction == "eps"


def test_a_first_fit(tmp_path):
    """eps and learned variance, whole adaLN, four times the width in SwiGLU."""
    model = DiT(
        sample_size=(32, 32), in_channels=4, out_channels=8, patch_size=2, hidden_size=384, depth=1,
        num_heads=6, mlp_ratio=6.0, qk_norm=False, num_classes=3,
        position={"kind": "rope", "additive": False}, prediction="eps",
    )  # fmt: skip
    save_file(model.state_dict(), tmp_path / "fit.safetensors")
    found = load_released(tmp_path / "fit.safetensors")  # 384 wide: six heads are known
    assert found.config.num_heads == 6
    assert found.config.prediction == "eps"
    assert found.config.mlp_ratio == 6
    assert not found.config.qk_norm
    same(found.state_dict(), model.state_dict())


@pytest.mark.parametrize("width", [48, 384, 768, 1000, 1152, 2304])
def test_every_hidden_width_has_its_ratio(width):
    for hidden in (width, 4 * width - 1, 8 * width // 3, 4 * width, 777):
        assert int(hidden_ratio(hidden, width) * width) == hidden
        assert 2 * int(swiglu_ratio(hidden, width) * width) // 3 == hidden
    assert swiglu_ratio(8 * width // 3, width) == 4


@pytest.mark.parametrize(("side", "width"), [(1, 4), (16, 384), (32, 1152)])
def test_the_position_table_tells_its_side(side, width):
    table = position_table(side, width)
    assert table.shape == (1, side**2, width)
    assert table_side(table) == side
    assert table_side(table + 0.1) is None
    assert table_side(table[:, : side**2 - 1]) is None


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path):
    mark = tmp_path / "ran"
    torch.save({"model": Bomb(mark)}, tmp_path / "dit.pt")
    with pytest.raises(UserError, match="which is code and not run"):
        load_released(tmp_path / "dit.pt")
    assert not mark.exists()


def without(name):
    return lambda weights: {k: v for k, v in weights.items() if k != name}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without("pos_embed"), "pos_embed is missing"),
        (without("blocks.1.attn.qkv.bias"), r"blocks\.1\.attn\.qkv\.bias is missing"),
        (without("y_embedder.embedding_table.weight"), "y_embedder"),
        (without("final_layer.linear.weight"), r"final_layer\.linear\.weight"),
        (lambda w: {**w, "extra.weight": torch.ones(1)}, r"extra\.weight has no place"),
        (lambda w: {**w, "blocks.0.attn.q_norm.weight": torch.ones(24)}, "q_norm"),
        (lambda w: {**w, "pos_embed": torch.zeros(1, 16, 48)}, "pos_embed is not"),
        (lambda w: {**w, "blocks.1.mlp.fc1.bias": torch.ones(7)}, "shape"),
        (lambda w: {**w, "y_embedder.embedding_table.weight": torch.tensor(3.0)}, "fit together"),
        (lambda w: {**w, "final_layer.linear.weight": torch.ones(7, 48)}, "fit together"),
        (lambda w: {**w, "blocks.0.mlp.fc1.bias": torch.ones(192, dtype=torch.int8)}, "is int8"),
        (lambda w: {**w, "blocks.0.mlp.fc1.bias": torch.full((192,), torch.nan)}, "holds NaN"),
        (lambda w: {"conv_in.weight": torch.ones(2)}, "none of DiT"),
        (lambda w: {}, "it is empty"),
        (lambda w: [1, 2], "holds a list"),
        (lambda w: {"weights": 3}, "holds no state dict"),
    ],
)
def test_foreign_or_incomplete_checkpoints(golden_file, tmp_path, change, told):
    torch.save(change(load_file(golden_file("dit"))), tmp_path / "dit.pt")
    with pytest.raises(UserError, match=told):
        load_released(tmp_path / "dit.pt", 2)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_truncated_files(golden_file, tmp_path, suffix, share):
    whole = tmp_path / f"dit{suffix}"
    weights = load_file(golden_file("dit"))
    (save_file if suffix == ".safetensors" else torch.save)(weights, whole)
    content = whole.read_bytes()
    whole.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match="cannot be read"):
        load_released(whole, 2)


@pytest.mark.parametrize(
    ("heads", "told"),
    [(None, "no published model is 48"), (5, "5 does not divide"), (0, "0 does not divide")],
)
def test_heads(golden_file, heads, told):
    with pytest.raises(UserError, match=told):
        load_released(golden_file("dit"), heads)


def test_heads_too_thin_for_a_rotation(golden_file):
    with pytest.raises(UserError, match="multiple of 4"):
        load_released(golden_file("fitv2"), 24)


@pytest.mark.parametrize(
    ("name", "family", "told"),
    [
        ("model.safetensors", None, "family: DiT and SiT name their weights alike"),
        ("position.safetensors", None, "family: DiT and SiT name their weights alike"),
        ("edited.safetensors", None, "family: DiT and SiT name their weights alike"),
        ("sit-from-dit.safetensors", None, "family: DiT and SiT name their weights alike"),
        ("model.safetensors", "fitv2", "not fitv2"),
        ("dit.txt", None, "none of"),
        ("absent.pt", None, "does not exist"),
    ],
)
def test_files_that_do_not_tell(golden_file, tmp_path, name, family, told):
    if name != "absent.pt":
        (tmp_path / name).write_bytes(golden_file("dit").read_bytes())
    with pytest.raises(UserError, match=told):
        load_released(tmp_path / name, 2, family)


def test_a_layout_refuses_what_it_cannot_express_and_names_it_all():
    model = DiT(position={"kind": "rope"}, prediction="x0")
    with pytest.raises(UserError) as refusal:
        released_weights(model, FlowConfig(), "dit")
    for field in ("mlp", "qk_norm", "prediction", "position.kind"):
        assert f"model.{field}: " in str(refusal.value)
    assert "process.kind: flow (it must be ddpm)" in str(refusal.value)
    oblong = DiT(sample_size=(16, 32), mlp="mlp", qk_norm=False, position={"kind": "sincos"},
                 prediction="eps")  # fmt: skip
    with pytest.raises(UserError, match=r"model\.sample_size: 4 x 8 tokens"):
        released_weights(oblong, DDPMConfig(), "dit")
    with pytest.raises(UserError, match=r"process\.betas: cosine"):
        released_weights(oblong, DDPMConfig(betas="cosine"), "dit")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_as_fp32(golden_file, tmp_path, dtype):
    weights = {k: v.to(dtype) for k, v in load_file(golden_file("dit")).items()}
    save_file(weights, tmp_path / "dit.safetensors")
    model = load_released(tmp_path / "dit.safetensors", 2)
    assert model.dtype == torch.float32
    name = "blocks.0.mlp.fc1.weight"
    assert torch.equal(model.state_dict()[name], weights[name].float())


@pytest.mark.parametrize(
    ("target", "position", "told"),
    [
        ("sit", {"kind": "sincos", "temperature": "log_ratio_2x"}, "temperature: log_ratio_2x"),
        ("sit", {"kind": "sincos", "interpolate": False}, "interpolate: False"),
        ("fitv2", {"kind": "rope", "scaling": "time_aware"}, "scaling: time_aware"),
        ("fitv2", {"kind": "rope", "temperature": "sqrt_log"}, "temperature: sqrt_log"),
    ],
)
def test_a_layout_refuses_encodings_it_lacks(target, position, told):
    model = DiT(position=position)
    with pytest.raises(UserError, match=f"model.position.{told}"):
        released_weights(model, FlowConfig(), target)


def test_no_layout_has_a_place_for_micro_conditioning():
    with pytest.raises(UserError, match=r"model\.micro: canvas"):
        released_weights(DiT(position={"kind": "sincos"}, micro="canvas"), FlowConfig(), "sit")


def test_diffgens_own_folders_need_no_reading(tmp_path):
    DiT(hidden_size=32, depth=1, num_heads=2).save_pretrained(tmp_path / "own")
    with pytest.raises(UserError, match="diffgen's own"):
        load_released(tmp_path / "own")
    with pytest.raises(UserError, match=r"give .*own itself"):
        load_released(next((tmp_path / "own").glob("*.safetensors")))
