"""diffgen models in the layouts of the released DiT, SiT and FiTv2."""

from typing import Any, Literal

from torch import Tensor

from diffgen.config.positions import RopeConfig, SinCosConfig, read_position
from diffgen.config.process import DDPMConfig, ProcessConfig
from diffgen.errors import UserError
from diffgen.models.dit import DiT
from diffgen.models.released.tables import channels_last, convolution, position_table

FIT_TEMPERATURES = ("none", "log_ratio_2x", "log_side_2x")  # with ntk: its pro2 and pro1
Target = Literal["dit", "sit", "fitv2"]


def released_weights(model: DiT, process: ProcessConfig, target: Target) -> dict[str, Tensor]:
    """The state dict of ``model`` as the released code of ``target`` loads it.

    What the layout holds outside the weights (depth, width, heads, classes, learned variance, the
    base and scaling of the rotary frequencies, FiTv2's temperature) is given to that code as it
    was to diffgen.

    Raises:
        UserError: the released code cannot compute what the model computes; every field that
            stands in the way is named.
    """
    wrong = list(misfits(model, process, target))
    if wrong:
        lines = "\n".join(f"  {line}" for line in wrong)
        raise UserError(f"to: the {target} layout cannot express this model\n{lines}")
    weights = dict(model.state_dict())
    if target == "fitv2":
        return weights
    config = model.config
    patch, channels = config.patch_size, config.out_channels or config.in_channels
    weights["x_embedder.proj.weight"] = convolution(weights["x_embedder.proj.weight"], patch)
    for name in ("final_layer.linear.weight", "final_layer.linear.bias"):
        weights[name] = channels_last(weights[name], channels)
    weights["pos_embed"] = position_table(model.grid[0], config.hidden_size)
    return {name: tensor.contiguous() for name, tensor in weights.items()}


def misfits(model: DiT, process: ProcessConfig, target: Target) -> list[str]:
    """A line for every setting the released code of ``target`` has no place for."""
    config = model.config
    position = read_position(config.position)
    flow = target != "dit"
    wanted: dict[str, Any] = {
        "model.mlp": "swiglu" if target == "fitv2" else "mlp",
        "model.qk_norm": target == "fitv2",
        "model.adaln": "lora" if target == "fitv2" else "zero",
        "model.mlp_norm_eps": 1e-6,
        "model.time_freq_shift": 0,
        "model.prediction": "velocity" if flow else "eps",
        "model.time.direction": "data" if flow else "noise",
        "model.time.scale": 1 if flow else 1000,
        "model.micro": "none",
        "model.position.kind": "rope" if target == "fitv2" else "sincos",
        "process.kind": "flow" if flow else "ddpm",
    }
    found: dict[str, Any] = {
        "model.mlp": config.mlp,
        "model.qk_norm": config.qk_norm,
        "model.adaln": "lora" if config.adaln_rank else "zero",
        "model.mlp_norm_eps": config.mlp_norm_eps,
        "model.time_freq_shift": config.time_freq_shift,
        "model.prediction": config.prediction,
        "model.time.direction": model.convention.direction,
        "model.time.scale": model.convention.scale,
        "model.micro": config.micro,
        "model.position.kind": position.kind,
        "process.kind": process.kind,
    }
    if isinstance(position, RopeConfig) and target == "fitv2":
        wanted["model.position.additive"], found["model.position.additive"] = (
            False,
            position.additive,
        )
    allowed = FIT_TEMPERATURES if target == "fitv2" else ("none",)
    if position.temperature not in allowed:
        wanted["model.position.temperature"] = " or ".join(allowed)
        found["model.position.temperature"] = position.temperature
    if target != "fitv2":
        wanted["model.position.trained_grid"] = None
        found["model.position.trained_grid"] = position.trained_grid
    if isinstance(position, SinCosConfig) and target != "fitv2":
        wanted["model.position.interpolate"] = True
        found["model.position.interpolate"] = position.interpolate
    if isinstance(position, RopeConfig) and position.scaling in ("riflex", "time_aware"):
        wanted["model.position.scaling"] = "none, pi, ntk, ntk_by_parts or yarn"
        found["model.position.scaling"] = position.scaling
    if target == "fitv2":
        wanted["model.mlp_ratio"], found["model.mlp_ratio"] = 4.0, config.mlp_ratio
        wanted["model.patch_size"], found["model.patch_size"] = 2, config.patch_size
        if (config.out_channels or config.in_channels) != config.in_channels:
            wanted["model.out_channels"] = config.in_channels
            found["model.out_channels"] = config.out_channels
    elif model.grid[0] != model.grid[1]:
        rows, columns = model.grid
        wanted["model.sample_size"] = "square"
        found["model.sample_size"] = f"{rows} x {columns} tokens"
    if isinstance(process, DDPMConfig) and not flow:
        wanted |= {"process.betas": "linear", "process.num_train_timesteps": 1000}
        found |= {
            "process.betas": process.betas,
            "process.num_train_timesteps": process.num_train_timesteps,
        }
    return [
        f"{field}: {found[field]} (it must be {value})"
        for field, value in wanted.items()
        if found[field] != value
    ]
