"""A model in every process of a launch, and with it the weaker one of autoguidance."""

from pathlib import Path

import torch

from diffgen.commands.digests import guide_digest, guide_snapshots
from diffgen.commands.ema_after import put_in
from diffgen.commands.load import CHANGED, Loaded, load_pipeline
from diffgen.config.command_line import load
from diffgen.config.ema import PowerEMAConfig
from diffgen.config.evaluate import EvaluateConfig
from diffgen.config.guidance import AutoGuidanceConfig
from diffgen.config.sample import SampleConfig
from diffgen.config.train import TrainConfig
from diffgen.errors import SharedError, UserError
from diffgen.group import Group
from diffgen.pipeline import DiffGenPipeline
from diffgen.training.posthoc import Profile, rebuild


def load_together(
    group: Group, config: SampleConfig | EvaluateConfig, there: Loaded | None = None
) -> Loaded:
    """The model ``config`` names, and its guide if it has one; all processes must call it.

    ``there``: the model and a guide, loaded before; what ``config`` names too is kept.

    Raises:
        SharedError: one process met a UserError, or they found different weights.
    """
    guidance = config.guidance
    named = guidance.named if isinstance(guidance, AutoGuidanceConfig) else None
    if there is not None and there.guide_named == named:
        return there
    with group.together():
        loaded = there or load_pipeline(config.source, config.device, config.dtype, config.vae)
        loaded = loaded._replace(guide=None, guide_weights=None, guide_named=named)
        if isinstance(guidance, AutoGuidanceConfig):
            loaded = loaded._replace(
                guide=load_guide(guidance, config.source, config.device, config.dtype),
                guide_weights=guide_digest(guidance, config.source),
            )
        if loaded.guide is not None and same_weights(loaded.pipe, loaded.guide):
            raise UserError("guidance.guide: it is the model itself, which guides nowhere")
    if len(set(group.everyones((loaded.weights, loaded.guide_weights)))) > 1:
        raise SharedError(CHANGED.format(config.source))
    return loaded


def same_weights(pipe: DiffGenPipeline, guide: DiffGenPipeline) -> bool:
    """True where the two models are one."""
    own, other = (dict(one.transformer.named_parameters()) for one in (pipe, guide))
    return own.keys() == other.keys() and all(torch.equal(own[name], other[name]) for name in own)


def load_guide(
    guidance: AutoGuidanceConfig, source: str, device: str, dtype: str
) -> DiffGenPipeline:
    """The guide of the model ``source``.

    Raises:
        UserError: there is no such model, or too few snapshots to rebuild it from.
    """
    name = guidance.guide or source
    loaded = load_pipeline(name, device, dtype)
    if guidance.rebuilt:
        _put_back(loaded, guidance, guide_snapshots(guidance, name))
    return loaded.pipe


def _put_back(loaded: Loaded, guidance: AutoGuidanceConfig, snapshots: list[Path]) -> None:
    """Give the guide the averaged weights of the width and time asked for."""
    run = loaded.source.run
    if run is None:
        raise UserError(f"guidance.guide: {loaded.source.pipeline} is no run folder")
    ema = load(TrainConfig, run / "config.yaml").ema
    if not isinstance(ema, PowerEMAConfig):
        raise UserError(
            f"guidance.guide: {run} keeps a constant average, of which no other can be made"
        )
    width = ema.export if guidance.guide_ema is None else guidance.guide_ema
    wanted = Profile(width, int(snapshots[-1].stem))
    field = f"guidance.guide_{'images' if guidance.guide_ema is None else 'ema'}"
    weights = rebuild(snapshots, ema, wanted, field)
    put_in(loaded.pipe, weights, snapshots[-1].parent, field)
