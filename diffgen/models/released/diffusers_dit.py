"""The transformer of a diffusers DiTPipeline, read into diffgen's DiT.

It differs from the released DiT it was made from in the norm before the feed-forward (eps 1e-5),
in the time's sinusoids (whose last frequency is 1e-4) and in guidance on all channels; each block
keeps a copy of the time and label embedders.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffgen.config.diffusers_dit import dit_settings
from diffgen.config.stored import read_json
from diffgen.errors import UserError
from diffgen.models.released.layouts import Read, hidden_ratio
from diffgen.models.released.read import read_checkpoint
from diffgen.models.released.tables import channels_first, flat_convolution

PREDICTIONS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
EMBEDDERS = {
    "timestep_embedder.linear_1": "t_embedder.mlp.0",
    "timestep_embedder.linear_2": "t_embedder.mlp.2",
    "class_embedder.embedding_table": "y_embedder.embedding_table",
}
BLOCK = {
    "norm1.linear": "adaLN_modulation.1",
    "attn1.to_out.0": "attn.proj",
    "ff.net.0.proj": "mlp.fc1",
    "ff.net.2": "mlp.fc2",
}
OUTER = {
    "pos_embed.proj": "x_embedder.proj",
    "proj_out_1": "final_layer.adaLN_modulation.1",
    "proj_out_2": "final_layer.linear",
}


def read_diffusers(folder: Path, field: str = "source") -> Read:
    """The ``transformer`` folder of a DiTPipeline.

    Raises:
        UserError: it is another model, or a weight is missing, left over or differs between
            blocks that must share it; it is named.
    """
    config = dit_settings(folder, field)
    weights = _stored(folder, field)
    weights.pop("pos_embed.pos_embed", None)  # older versions kept the fixed table
    heads = config["num_attention_heads"]
    width = heads * config["attention_head_dim"]
    channels = config["out_channels"] or config["in_channels"]
    ours = _renamed(weights, config["num_layers"])
    ours["x_embedder.proj.weight"] = flat_convolution(ours["x_embedder.proj.weight"])
    for part in ("weight", "bias"):
        rows = ours[f"final_layer.linear.{part}"]
        ours[f"final_layer.linear.{part}"] = channels_first(rows, channels)
    settings = {
        "sample_size": (config["sample_size"], config["sample_size"]),
        "in_channels": config["in_channels"],
        "out_channels": channels,
        "patch_size": config["patch_size"],
        "hidden_size": width,
        "depth": config["num_layers"],
        "num_heads": heads,
        "mlp": "mlp",
        "mlp_ratio": hidden_ratio(ours["blocks.0.mlp.fc1.bias"].numel(), width),
        "qk_norm": False,
        "mlp_norm_eps": config["norm_eps"],
        "time_freq_shift": 1,
        "num_classes": config["num_embeds_ada_norm"],
        "position": {"kind": "sincos"},
        "time": {"direction": "noise", "scale": 1000},
        "prediction": _prediction(folder, field),
    }
    return Read(settings, ours)


def _prediction(folder: Path, field: str) -> str:
    """What the scheduler beside the transformer was told; eps where there is none."""
    file = folder.parent / "scheduler" / "scheduler_config.json"
    settings = read_json(file, field, "") if file.exists() else {}
    stated = settings.get("prediction_type", "epsilon")
    if stated not in tuple(PREDICTIONS):
        known = ", ".join(PREDICTIONS)
        raise UserError(f"{field}: {file} has prediction_type {stated!r}, none of {known}")
    return PREDICTIONS[stated]


def _renamed(weights: dict[str, Tensor], depth: int) -> dict[str, Tensor]:
    left, ours = dict(weights), {}

    def take(name: str) -> Tensor:
        if name not in left:
            raise UserError(f"{name} is missing")
        return left.pop(name)

    for theirs, name in OUTER.items():
        for part in ("weight", "bias"):
            ours[f"{name}.{part}"] = take(f"{theirs}.{part}")
    for i in range(depth):
        block = f"transformer_blocks.{i}"
        for theirs, name in EMBEDDERS.items():
            for part in ("weight",) if theirs.endswith("table") else ("weight", "bias"):
                copy = take(f"{block}.norm1.emb.{theirs}.{part}")
                first = ours.setdefault(f"{name}.{part}", copy)
                if not torch.equal(first, copy):
                    raise UserError(
                        f"{block}.norm1.emb.{theirs}.{part} differs from that of block 0; diffgen "
                        "has one embedder for all blocks, as the released models"
                    )
        for part in ("weight", "bias"):
            for theirs, name in BLOCK.items():
                ours[f"blocks.{i}.{name}.{part}"] = take(f"{block}.{theirs}.{part}")
            qkv = [take(f"{block}.attn1.to_{letter}.{part}") for letter in "qkv"]
            ours[f"blocks.{i}.attn.qkv.{part}"] = torch.cat(qkv)
    if left:
        raise UserError(f"{next(iter(left))} has no place in the model")
    return ours


def _stored(folder: Path, field: str) -> dict[str, Tensor]:
    """One file, or the shards its index lists; safetensors before a pickle."""
    stem = folder / "diffusion_pytorch_model"
    for suffix in (".safetensors", ".bin"):
        whole, index = stem.with_suffix(suffix), Path(f"{stem}{suffix}.index.json")
        if whole.exists():
            return read_checkpoint(whole, field).weights
        if index.exists():
            found: dict[str, Any] = {}
            shards = read_json(index, field, "").get("weight_map")
            if not isinstance(shards, dict) or not shards:
                raise UserError(f"{field}: {index} lists no shards (weight_map)")
            for name in sorted(set(map(str, shards.values()))):
                if Path(name).name != name:
                    raise UserError(f"{field}: {index} lists {name}, outside of its folder")
                found |= read_checkpoint(folder / name, field).weights
            return found
    raise UserError(f"{field}: {folder} holds no weights (diffusion_pytorch_model.safetensors)")
