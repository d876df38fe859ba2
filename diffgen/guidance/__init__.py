"""Rules that combine a model's predictions into a better one."""

from diffgen.guidance.apg import APG
from diffgen.guidance.autoguidance import AutoGuidance
from diffgen.guidance.build import build_rule
from diffgen.guidance.cfg import CFG
from diffgen.guidance.cfg_zero_star import CFGZeroStar
from diffgen.guidance.channels import FirstChannels
from diffgen.guidance.interval import Interval
from diffgen.guidance.late import Constraint
from diffgen.guidance.rescale import Rescale
from diffgen.guidance.rule import Baseline, Pass, Rule, Run

__all__ = [
    "APG",
    "CFG",
    "AutoGuidance",
    "Baseline",
    "CFGZeroStar",
    "Constraint",
    "FirstChannels",
    "Interval",
    "Pass",
    "Rescale",
    "Rule",
    "Run",
    "build_rule",
]
