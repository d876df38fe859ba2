"""The rule that settings describe."""

from math import inf

from diffgen.config.guidance import (
    APGConfig,
    AutoGuidanceConfig,
    CFGConfig,
    CFGZeroStarConfig,
    Guidances,
)
from diffgen.guidance.apg import APG
from diffgen.guidance.autoguidance import AutoGuidance
from diffgen.guidance.cfg import CFG
from diffgen.guidance.cfg_zero_star import CFGZeroStar
from diffgen.guidance.channels import FirstChannels
from diffgen.guidance.interval import Interval
from diffgen.guidance.rescale import Rescale
from diffgen.guidance.rule import Rule


def build_rule(config: Guidances) -> Rule:
    """The kind's rule, rescaled, in its interval, on its channels, as far as these are set."""
    rule = _kind(config)
    if config.rescale:
        rule = Rescale(rule, config.rescale)
    if config.interval_low or config.interval_high is not None:
        high = inf if config.interval_high is None else config.interval_high
        rule = Interval(rule, config.interval_low, high)
    return rule if config.channels is None else FirstChannels(rule, config.channels)


def _kind(config: Guidances) -> Rule:
    match config:
        case CFGConfig():
            return CFG(config.scale)
        case APGConfig():
            return APG(
                config.scale,
                config.eta,
                config.threshold,
                config.momentum,
                config.threshold_mode,
                config.space,
                config.combine,
            )
        case CFGZeroStarConfig():
            return CFGZeroStar(config.scale, config.zero_above)
        case AutoGuidanceConfig():
            return AutoGuidance(CFG(config.scale))
