"""Noising, training targets and the way back to clean images."""

from diffgen.processes.flow import Flow
from diffgen.processes.times import draw_time

__all__ = ["Flow", "draw_time"]
