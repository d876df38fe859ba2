"""Rules that combine a model's predictions into a better one."""

from diffgen.guidance.cfg import CFG, Rule, Run

__all__ = ["CFG", "Rule", "Run"]
