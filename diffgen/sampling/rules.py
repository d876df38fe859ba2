"""The guidance rule a pipeline draws under, and whether its guide fits."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from torch import Tensor

from diffgen.config.process import noise_path
from diffgen.guidance import CFG, FirstChannels, Rule

if TYPE_CHECKING:
    from diffgen.pipeline import DiffGenPipeline


def rule_for(
    pipe: DiffGenPipeline,
    labels: Tensor,
    guidance: Rule | None,
    scale: float,
    guide: DiffGenPipeline | None,
) -> Rule:
    """``guidance``, or CFG of ``scale``, on the channels the model is guided on.

    Where no label (B,) names a class there is nothing to guide towards, but for a guide.

    Raises:
        ValueError: the scale is out of range, the rule is none, more channels are to be guided
            than there are, or the guide is missing, of no use, or of another kind than the model.
    """
    if not 0 <= scale < inf:
        raise ValueError(f"guidance_scale must be 0 or more, not {scale}")
    rule = CFG(scale) if guidance is None else guidance
    if isinstance(rule, type) or not hasattr(rule, "begin"):
        raise ValueError(f"guidance: {rule!r} is no rule; give one, for example APG(8)")
    if guide is not None and not hasattr(guide, "transformer"):
        raise ValueError(f"guide: {type(guide).__name__} is no pipeline; load one with it")
    if rule.baseline == "guide":
        check_guide(pipe, guide)
    elif guide is not None:
        raise ValueError("guide: only AutoGuidance has a use for one")
    elif bool((labels == pipe.transformer.num_classes).all()):
        return CFG(1.0)
    model, asked = pipe.transformer.config, stated_channels(rule)
    if asked is not None and asked > model.in_channels:
        raise ValueError(f"channels: {asked} of {model.in_channels} cannot be guided")
    if asked is not None or model.guidance_channels is None:
        return rule
    return FirstChannels(rule, min(model.guidance_channels, model.in_channels))


def stated_channels(rule: Rule | None) -> int | None:
    """What a FirstChannels says, wherever it is among rules around rules; None: there is none."""
    while rule is not None and not isinstance(rule, FirstChannels):
        rule = getattr(rule, "rule", None)
    return rule.count if rule is not None else None


def check_guide(pipe: DiffGenPipeline, guide: DiffGenPipeline | None) -> None:
    """Raise ValueError unless ``guide`` can stand beside ``pipe`` in autoguidance."""
    if guide is None:
        raise ValueError("guide: autoguidance needs one, a pipeline of a weaker model")
    if guide.distilled is not None:
        raise ValueError(
            "guide: it is distilled: its predictions have its teacher's guidance built in"
        )
    own, other = _facts(pipe), _facts(guide)
    for what, fact in own.items():
        if fact != other[what]:
            raise ValueError(f"guide: its {what} {other[what]} is not the model's, {fact}")
    names, others = pipe.config.class_names, guide.config.class_names
    if names and others and list(names) != list(others):
        raise ValueError(f"guide: its classes are {others}, the model's are {names}")


def _facts(pipe: DiffGenPipeline) -> dict[str, Any]:
    """What a model and its guide must have in common."""
    return {
        "number of channels": pipe.transformer.config.in_channels,
        "number of classes": pipe.transformer.num_classes,
        "latent format": pipe.latent_format,
        "device": pipe.device,
        "noising process": noise_path(pipe.process_config),
    }
