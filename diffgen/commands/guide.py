"""A model in every process of a launch, and with it the weaker one of autoguidance."""

from pathlib import Path

import torch

from diffgen.commands.load import CHANGED, Loaded, load_pipeline
from diffgen.config.command_line import load
from diffgen.config.ema import PowerEMAConfig
from diffgen.config.evaluate import EvaluateConfig
from diffgen.config.guidance import AutoGuidanceConfig, Guidances
from diffgen.config.sample import SampleConfig
from diffgen.config.train import TrainConfig
from diffgen.errors import SharedError, UserError
from diffgen.group import Group
from diffgen.training.posthoc import Profile, rebuild, snapshots_until


def load_together(
    group: Group, config: SampleConfig | EvaluateConfig, there: Loaded | None = None
) -> Loaded:
    """The model ``config`` names, and its guide if it has one; all processes must call it.

    ``there``: the model, loaded before, perhaps with another guide.

    Raises:
        SharedError: one process met a UserError, or they found different weights.
    """
    with group.together():
        loaded = there or load_pipeline(config.source, config.device, config.dtype, config.vae)
        guide = load_guide(config.guidance, config.source, config.device, config.dtype)
    loaded = loaded._replace(guide=guide and guide.pipe, guide_weights=guide and guide.weights)
    if len(set(group.everyones((loaded.weights, loaded.guide_weights)))) > 1:
        raise SharedError(CHANGED.format(config.source))
    return loaded


def load_guide(guidance: Guidances, source: str, device: str, dtype: str) -> Loaded | None:
    """The guide of ``guidance`` for the model ``source``; None: the rule has none.

    Raises:
        UserError: there is no such model, or too few snapshots to rebuild it from.
    """
    if not isinstance(guidance, AutoGuidanceConfig):
        return None
    loaded = load_pipeline(guidance.guide or source, device, dtype)
    if guidance.rebuilt:
        _put_back(loaded, guidance)
    return loaded


def _put_back(loaded: Loaded, guidance: AutoGuidanceConfig) -> None:
    """Give the guide the averaged weights of the width and time asked for."""
    run, field = loaded.source.run, "guidance.guide"
    if run is None:
        raise UserError(f"{field}: {loaded.source.pipeline} is no run folder, with snapshots/")
    ema = load(TrainConfig, run / "config.yaml").ema
    if not isinstance(ema, PowerEMAConfig):
        raise UserError(f"{field}: {run} keeps a constant average, of which no other can be made")
    folder, most = run / "snapshots", guidance.guide_images
    seen = _newest(snapshots_until(folder, 2**62 if most is None else most, f"{field}_images"))
    width = ema.export if guidance.guide_ema is None else guidance.guide_ema
    weights = rebuild(folder, ema, Profile(width, seen), f"{field}_ema")
    with torch.no_grad():
        for name, parameter in loaded.pipe.transformer.named_parameters():
            parameter.copy_(weights[name])


def _newest(snapshots: list[Path]) -> int:
    return int(snapshots[-1].stem)
