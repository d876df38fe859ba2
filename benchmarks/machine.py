"""What a benchmark must know about its machine: matmul ceiling, peak memory, versions."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from diffgen.training.throughput import product_speed

PACKAGES = ("torch", "numpy", "scipy", "diffusers", "torchmetrics", "torch-fidelity", "timm")


@dataclass(frozen=True)
class Gemm:
    """Best speed of one matrix product, (M, K) x (K, N), in GFLOP/s with 2 M N K FLOP."""

    shape: tuple[int, int, int]
    dtype: str
    threads: int | None
    gflops: float


def gemm_ceiling(
    shapes: Sequence[tuple[int, int, int]],
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    *,
    repeats: int = 5,
) -> list[Gemm]:
    """Measure every (M, N, K) of `shapes`.

    On a CPU the best of `repeats` after one warm-up, with 1 thread and with as many as torch now
    has: they may share their arithmetic units. On CUDA threads is None, and products in a row are
    timed: a single one is over before the clock of a GPU has settled.
    """
    name = str(dtype).removeprefix("torch.")
    if device.type == "cuda":
        speeds = [product_speed(device, dtype, m, k, n) for m, n, k in shapes]
        return [
            Gemm(shape, name, None, speed / 1e9)
            for shape, speed in zip(shapes, speeds, strict=True)
        ]
    now = torch.get_num_threads()
    found = []
    try:
        for m, n, k in shapes:
            first = torch.randn(m, k, device=device).to(dtype)
            second = torch.randn(k, n, device=device).to(dtype)
            for threads in sorted({1, now}):
                torch.set_num_threads(threads)
                torch.mm(first, second)
                fastest = min(_seconds_of_mm(first, second) for _ in range(repeats))
                found.append(Gemm((m, n, k), name, threads, 2e-9 * m * n * k / fastest))
    finally:
        torch.set_num_threads(now)
    return found


def _seconds_of_mm(first: torch.Tensor, second: torch.Tensor) -> float:
    start = time.perf_counter()
    torch.mm(first, second)
    return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    """Wait for the work queued on a CUDA device; a CPU has none."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True)
class Memory:
    """Peak memory of one call, in bytes.

    Attributes:
        measure: "cuda allocator" (memory of tensors) or "resident set" (of the whole process).
        peak: the peak itself, which counts what other variants keep alive as well.
        growth: peak less what was held just before the call, the figure to compare. On a CPU
            memory that the allocator keeps from earlier calls hides part of it: differences
            below some MB mean nothing.
    """

    measure: str
    peak: int
    growth: int


def peak_memory(call: Callable[[], object], device: torch.device) -> Memory | None:
    """Peak memory of one `call()`; None on a CPU where Linux' resettable peak is missing."""
    gc.collect()
    if device.type == "cuda":
        synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        synchronize(device)
        peak = torch.cuda.max_memory_allocated(device)
        return Memory("cuda allocator", peak, peak - before)
    try:
        _give_back_freed_memory()
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
        before = _status_bytes("VmRSS")
    except (OSError, KeyError):
        return None
    call()
    peak = _status_bytes("VmHWM")
    return Memory("resident set", peak, max(peak - before, 0))


def _give_back_freed_memory() -> None:
    """Otherwise a call reuses what an earlier one freed and seems to need nothing."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)


def _status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields[field].split()[0]) * 1024


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, device, threads and source revision, for the record."""
    return {
        "device": device_name(device),
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "cpus": os.cpu_count(),
        "commit": _commit(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def device_name(device: torch.device) -> str:
    """The processor's own name, such as "NVIDIA H100"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def load_average() -> float | None:
    """Processes wanting a CPU over the last minute: more than one means company."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The checkout's revision, with "-dirty" where tracked files differ from it."""
    ask = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            ask, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
