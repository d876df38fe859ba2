"""The layouts of facebookresearch/DiT, willisma/SiT and whlzy/FiT (FiT and FiTv2), read."""

from typing import Any, Literal, NamedTuple

from torch import Tensor

from diffgen.errors import UserError
from diffgen.models.released.tables import channels_first, flat_convolution, table_side

Family = Literal["dit", "sit", "fit", "fitv2"]
HEADS = {384: 6, 768: 12, 1024: 16, 1152: 16, 2304: 24}  # of the published models, by width
FIT_PATCH = 2
FIT_SAMPLE = 32  # latent pixels of 256 x 256 images, also the base of the HR models' scaling


class Read(NamedTuple):
    """A checkpoint in diffgen's terms."""

    settings: dict[str, Any]
    """Arguments of diffgen's DiT."""
    weights: dict[str, Tensor]


def read_dit(weights: dict[str, Tensor], heads: int | None, family: Family) -> Read:
    """Released DiT (eps, learned variance) or SiT (velocity, direction data): the same names.

    Raises:
        UserError: a weight is missing or odd; it is named.
    """
    patches, rows = (
        _get(weights, "x_embedder.proj.weight"),
        _get(weights, "final_layer.linear.bias"),
    )
    if patches.ndim != 4 or patches.shape[2] != patches.shape[3]:
        raise UserError(f"x_embedder.proj.weight is no square convolution: {_shape(patches)}")
    width, channels, patch, _ = patches.shape
    side = table_side(_get(weights, "pos_embed"))
    if side is None:
        raise UserError("pos_embed is not DiT's fixed sine-cosine table of a square grid")
    if rows.numel() not in (channels * patch**2, 2 * channels * patch**2):
        raise UserError(f"final_layer.linear.bias: {rows.numel()} outputs fit no image")
    out_channels = rows.numel() // patch**2
    fc1 = _get(weights, "blocks.0.mlp.fc1.weight")
    settings = _common(weights, width, heads) | {
        "sample_size": (side * patch, side * patch),
        "in_channels": channels,
        "out_channels": out_channels,
        "patch_size": patch,
        "mlp": "mlp",
        "mlp_ratio": hidden_ratio(fc1.shape[0], width),
        "qk_norm": False,
        "position": {"kind": "sincos"},
        **(conventions("eps") if family == "dit" else conventions("velocity")),
    }
    ours = {name: tensor for name, tensor in weights.items() if name != "pos_embed"}
    ours["x_embedder.proj.weight"] = flat_convolution(patches)
    for name in ("final_layer.linear.weight", "final_layer.linear.bias"):
        ours[name] = channels_first(_get(weights, name), out_channels)
    return Read(settings, ours)


def read_fit(weights: dict[str, Tensor], heads: int | None) -> Read:
    """Released FiT or FiTv2, told apart by the global branch of AdaLN-LoRA.

    The files do not tell the patch (2), the trained size (256 x 256) or the rotary settings;
    frequencies scale as in the released sampling commands for other sizes (VisionNTK).

    Raises:
        UserError: a weight is missing or odd; it is named.
    """
    patches, rows = (
        _get(weights, "x_embedder.proj.weight"),
        _get(weights, "final_layer.linear.bias"),
    )
    if patches.ndim != 2:
        raise UserError(f"x_embedder.proj.weight is no matrix: {_shape(patches)}")
    width, features = patches.shape
    if features % FIT_PATCH**2:
        raise UserError(f"x_embedder.proj.weight: {features} features are no patches of 2 x 2")
    second = "global_adaLN_modulation.1.weight" in weights
    if not second and "blocks.0.adaLN_modulation.2.weight" in weights:
        raise UserError("global_adaLN_modulation.1.weight is missing")
    if rows.numel() != features * (1 if second else 2):
        raise UserError(
            f"final_layer.linear.bias: {rows.numel()} outputs for {features} inputs, but "
            f"{'FiTv2 predicts as many' if second else 'FiT predicts twice as many'}"
        )
    rank = _get(weights, "blocks.0.adaLN_modulation.1.weight").shape[0] if second else None
    hidden = _get(weights, "blocks.0.mlp.fc1_g.weight").shape[0]
    settings = _common(weights, width, heads) | {
        "sample_size": (FIT_SAMPLE, FIT_SAMPLE),
        "in_channels": features // FIT_PATCH**2,
        "out_channels": rows.numel() // FIT_PATCH**2,
        "patch_size": FIT_PATCH,
        "mlp": "swiglu",
        "mlp_ratio": swiglu_ratio(hidden, width),
        "qk_norm": second,
        "adaln_rank": rank,
        "position": {"kind": "rope", "additive": False, "scaling": "ntk"},
        **conventions("velocity" if second else "eps"),
    }
    return Read(settings, dict(weights))


def conventions(prediction: Literal["eps", "velocity"]) -> dict[str, Any]:
    """What the released models predict, how they count time, what their guidance acts on."""
    flow = prediction == "velocity"
    time = {"direction": "data", "scale": 1} if flow else {"direction": "noise", "scale": 1000}
    return {"prediction": prediction, "time": time, "guidance_channels": 3}


def _common(weights: dict[str, Tensor], width: int, heads: int | None) -> dict[str, Any]:
    depth = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})
    table = _get(weights, "y_embedder.embedding_table.weight")
    if len(table) < 1:
        raise UserError("y_embedder.embedding_table.weight is empty")
    return {
        "hidden_size": width,
        "depth": depth,
        "num_heads": head_count(width, heads),
        "num_classes": table.shape[0] - 1,
    }


def head_count(width: int, heads: int | None) -> int:
    """Heads given, or those of the published model of this width.

    Raises:
        UserError: neither is known, or they do not divide the width.
    """
    heads = HEADS.get(width) if heads is None else heads
    if heads is None:
        raise UserError(
            f"num_heads: no published model is {width} channels wide (known: "
            f"{', '.join(map(str, HEADS))}), and the file does not tell its heads; give num_heads"
        )
    if heads < 1 or width % heads:
        raise UserError(f"num_heads: {heads} does not divide the width {width}")
    return heads


def hidden_ratio(hidden: int, width: int) -> float:
    """``mlp_ratio`` that gives ``hidden`` = floor(ratio width) exactly."""
    ratio = hidden / width
    return ratio if int(ratio * width) == hidden else (hidden + 0.5) / width


def swiglu_ratio(hidden: int, width: int) -> float:
    """``mlp_ratio`` for which floor(2/3 floor(ratio width)) is ``hidden``: FiTv2 4, FiT 6."""
    for ratio in (4.0, 6.0):
        if 2 * int(ratio * width) // 3 == hidden:
            return ratio
    return hidden_ratio(-(-3 * hidden // 2), width)


def _get(weights: dict[str, Tensor], name: str) -> Tensor:
    if name not in weights:
        raise UserError(f"{name} is missing")
    return weights[name]


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape))
