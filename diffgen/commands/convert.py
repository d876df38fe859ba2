"""``convert``: published checkpoints to pipeline folders, and diffgen's models back."""

import shlex
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file

from diffgen.commands.difference import add_difference
from diffgen.config.command_line import yaml_text
from diffgen.config.convert import ConvertConfig
from diffgen.config.process import DDPMConfig, FlowConfig, ProcessConfig
from diffgen.config.vae import LatentFormat
from diffgen.errors import UserError
from diffgen.files import write_file, write_folder
from diffgen.models import DiT, load_released, released_weights
from diffgen.models.vae import load_vae
from diffgen.pipeline import DiffGenPipeline
from diffgen.sampling.schedulers import build_scheduler

SD_LATENTS = LatentFormat(factor=8, mean=(0.0,) * 4, std=(1 / 0.18215,) * 4)


def convert(config: ConvertConfig) -> None:
    """Read ``config.source`` and write ``config.target``.

    Raises:
        UserError: the source cannot be read or expressed, or the target not be written.
    """
    diffusers.utils.logging.disable_progress_bar()
    if config.add_difference is not None:
        add_difference(config)
        return
    if config.to is not None:
        export(config)
        return
    pipe = imported(config)
    write_folder(config.target, lambda folder: save(pipe, folder))
    print(f"{config.target}: {described(pipe)}")
    place = shlex.quote(str(config.target))
    latent, own = pipe.latent_format is not None, pipe.vae is not None
    vae = " --vae VAE" if latent and not own else ""
    trained = f" --vae.path {place if own else 'VAE'}" if latent else ""
    solver = "ddim" if isinstance(pipe.process_config, DDPMConfig) else "dpmpp"
    print(f"draw with: diffgen sample {place} --scheduler {solver}{vae}")
    print(
        f"fine-tune with: diffgen train --config {place}/finetune.yaml --init {place}{trained} "
        "--data.kind folder --data.path DIR --out runs/tuned"
    )


def imported(config: ConvertConfig) -> DiffGenPipeline:
    """The source as a pipeline of diffgen's."""
    vae = None if config.vae is None else load_vae(config.vae)
    if (config.source / "model_index.json").exists():
        replaced = {} if vae is None else {"vae": vae}
        return DiffGenPipeline.from_pretrained(config.source, **replaced)
    model = load_released(config.source, config.num_heads, config.family)
    try:
        return pipeline_of(model, vae)
    except ValueError as error:  # they do not fit each other
        raise UserError(f"vae: {error}") from None


def pipeline_of(model: DiT, vae: AutoencoderKL | None = None) -> DiffGenPipeline:
    """A pipeline around a released model, whose conventions tell its process.

    A model of four channels sees Stable Diffusion's latents, as all published ones do.
    """
    process = process_for(model)
    solver = "ddim" if isinstance(process, DDPMConfig) else "dpmpp"
    latent = SD_LATENTS if vae is None and model.config.in_channels == 4 else None
    return DiffGenPipeline(
        model,
        build_scheduler(solver, process=process),
        vae=vae,
        latent_format=latent.model_dump() if latent else None,
    )


def process_for(model: DiT) -> ProcessConfig:
    """Linear betas over 1000 steps for a model of eps (DiT, FiT), a flow for one of velocities."""
    if model.config.prediction == "velocity":
        return FlowConfig()
    return DDPMConfig(learned_variance=model.config.out_channels == 2 * model.config.in_channels)


def save(pipe: DiffGenPipeline, folder: Path) -> None:
    """The pipeline, and the settings a training needs to start from it."""
    pipe.save_pretrained(folder)
    (folder / "finetune.yaml").write_text(finetune_yaml(pipe), encoding="utf-8")


def finetune_yaml(pipe: DiffGenPipeline) -> str:
    """A configuration for ``train/dit.py --config``: model, process and how it is sampled."""
    model = pipe.transformer.config
    process = pipe.process_config
    ddpm = isinstance(process, DDPMConfig)
    names = ("depth", "hidden_size", "num_heads", "patch_size", "mlp", "mlp_ratio", "qk_norm")
    settings = {name: getattr(model, name) for name in names}
    settings |= {"adaln": "lora", "adaln_rank": model.adaln_rank} if model.adaln_rank else {}
    settings |= {
        name: getattr(model, name)
        for name in ("mlp_norm_eps", "time_freq_shift", "position", "time", "prediction")
    }
    settings["guidance_channels"] = model.guidance_channels
    process_fields: dict[str, Any] = {"kind": process.kind}
    if process.kind == "flow" and not model.adaln_rank:  # SiT's; FiTv2's are logit-normal
        process_fields["times"] = {"kind": "uniform"}
    elif process.kind == "flow":
        process_fields["times"] = {"kind": "logit_normal", "mean": 0.0}
    if isinstance(process, DDPMConfig):
        process_fields = process.model_dump(exclude={"weighting"})
    height, width = pipe.geometry.trained
    return "# The settings of the converted model, for training on from its weights.\n" + yaml_text(
        {
            "model": settings,
            "process": process_fields,
            "data": {"size": f"{height}x{width}"},
            "optimizer": {"kind": "adamw", "lr": 1e-4, "betas": [0.9, 0.999]},
            "sampling": {"scheduler": "ddim" if ddpm else "dpmpp"},
        }
    )


def described(pipe: DiffGenPipeline) -> str:
    """One line of what was read."""
    model = pipe.transformer
    config = model.config
    height, width = pipe.geometry.trained
    guided = config.guidance_channels or config.in_channels
    return (
        f"{config.depth} blocks of width {config.hidden_size}, {config.num_heads} heads, "
        f"{sum(p.numel() for p in model.parameters()):,} parameters; predicts {config.prediction}, "
        f"{config.num_classes} classes, {height}x{width} pixels, "
        f"guidance on {guided} of {config.in_channels} channels"
    )


def export(config: ConvertConfig) -> None:
    """Write a diffgen model in a released layout."""
    assert config.to is not None
    pipe = DiffGenPipeline.from_pretrained(config.source)
    weights = released_weights(pipe.transformer, pipe.process_config, config.to)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    writer = save_file if config.target.suffix == ".safetensors" else torch.save
    write_file(config.target, lambda path: writer(weights, path))
    print(f"{config.target}: {len(weights)} tensors in the {config.to} layout")
