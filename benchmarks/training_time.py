"""Where the time of a training step goes: its phases, and the operations."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import ExitStack
from statistics import median

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.machine import synchronize
from benchmarks.training_rows import Row, Training

MOST = 12
"""Operations that are told."""


class Clock:
    """Seconds by phase; each ends where it is marked, when the device has done its work."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.spent: dict[str, float] = defaultdict(float)
        self.start()

    def start(self) -> None:
        synchronize(self.device)
        self.last = time.perf_counter()

    def mark(self, phase: str) -> None:
        before = self.last
        self.start()
        self.spent[phase] += self.last - before


def phases(training: Training, row: Row, repeats: int) -> dict[str, float]:
    """Median seconds of each phase of a step.

    Waiting for the device at the end of each keeps them from overlapping: their sum is more than
    an undisturbed step takes, by what they overlap there.
    """
    loop, model = training.loop(row), training.model
    found: dict[str, list[float]] = defaultdict(list)
    clock = Clock(model.device)
    with ExitStack() as hooks, training.switched(row):
        places = [
            (model.register_forward_pre_hook, "noise and transfer"),
            (model.register_forward_hook, "forward"),
            (loop.state.optimizers[0].register_step_pre_hook, "loss, backward and clipping"),
        ]
        for register, phase in places:
            handle = register(lambda *_, phase=phase: clock.mark(phase))
            hooks.callback(handle.remove)
        for _ in range(repeats):
            clock.spent.clear()
            clock.start()
            training.step(loop, between=lambda: clock.mark("optimiser"))
            clock.mark("averages")
            for phase, seconds in clock.spent.items():
                found[phase].append(seconds)
    return {phase: median(seconds) for phase, seconds in found.items()}


def operations(training: Training, row: Row) -> dict[str, object]:
    """What a step is busy with: kernels of a GPU, or torch's operations on a CPU.

    Returns:
        ``busy`` [seconds], all of them together, and the largest with their shares of it.
    """
    cuda = training.model.device.type == "cuda"
    loop = training.loop(row)
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with training.switched(row), profile(activities=kinds) as profiler:
        training.step(loop)
        synchronize(training.model.device)
    wanted = DeviceType.CUDA if cuda else DeviceType.CPU
    seen = [event for event in profiler.key_averages() if event.device_type == wanted]
    if cuda:  # there an annotation spans kernels that stand for themselves
        seen = [event for event in seen if not event.is_user_annotation]
    spent = {
        event.key: (event.self_device_time_total if cuda else event.self_cpu_time_total) / 1e6
        for event in seen
    }
    busy = sum(spent.values())
    largest = sorted(spent.items(), key=lambda one: -one[1])[:MOST]
    return {"busy": busy, "largest": {name[:100]: seconds / busy for name, seconds in largest}}
