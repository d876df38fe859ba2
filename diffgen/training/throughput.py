"""How fast and how large a training is: memory, model TFLOP/s and MFU.

MFU is taken to what this device was measured to do at the beginning of the run, not to the number
on its data sheet, which no matrix product reaches.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgen.config.train import TrainConfig
from diffgen.models.dit import DiT
from diffgen.models.flops import Skipped, forward_macs, training_flops
from diffgen.models.route import kept_count

try:
    import resource
except ImportError:  # not on Windows, where the memory is not known
    resource = None  # type: ignore[assignment]

ROUNDS = 3
"""Timings of a product; the best counts, since other work only ever slows one down."""
CPU_FLOPS, CUDA_SECONDS = 2e8, 0.02
"""The size of a timing: on a CPU milliseconds, on a GPU so long that its clock has settled."""
MOST_REPEATS = 1000


@dataclass(frozen=True)
class Throughput:
    """What a line of the log says beside images a second."""

    device: torch.device
    world: int
    """Processes, which share the images."""
    flops: float | None
    """Of a training step for one image; None: images differ in size, so it is not known."""
    ceiling: float | None
    """FLOP/s of matrix products on this device; None: not measured."""

    def facts(self, images_per_second: float) -> dict[str, float]:
        """``memory_gib``, and where they are known ``tflops`` and ``mfu``, of this process.

        ``images_per_second``: of all processes together.
        """
        memory = peak_memory(self.device)
        found = {} if memory is None else {"memory_gib": round(memory / 2**30, 3)}
        if self.flops is not None and self.ceiling is not None:
            rate = images_per_second / self.world * self.flops
            found["tflops"] = float(f"{rate / 1e12:.4g}")
            found["mfu"] = round(rate / self.ceiling, 4)
        return found


def open_throughput(
    config: TrainConfig, model: DiT, device: torch.device, world: int
) -> Throughput:
    """Counts the model's FLOPs and measures the ceiling; under half a second, no random number.

    Args:
        config: of the training.
        model: what is trained, or a copy; only its configuration is read.
        device: of this process.
        world: processes.
    """
    if config.data.mixed_sizes:
        return Throughput(device, world, None, None)
    size, depth, patch = model.config.sample_size, len(model.blocks), model.patch_size
    tokens = (size[0] // patch) * (size[1] // patch)
    skipped, route = None, config.train.route
    if route is not None:
        skipped = Skipped(kept_count(tokens, route.share), *route.bounds(depth))
    flops = training_flops(forward_macs(model.config, size, skipped))
    loop = config.train
    images = max(1, loop.batch_size // (world * loop.accumulation))
    low = loop.precision == "bf16"
    shapes = product_shapes(model.config.hidden_size, model.config.mlp_ratio, images * tokens)
    ceiling = measure_ceiling(device, torch.bfloat16 if low else torch.float32, shapes)
    return Throughput(device, world, flops, ceiling)


def product_shapes(width: int, mlp_ratio: float, rows: int) -> list[tuple[int, int, int]]:
    """(rows, in, out) of a block's large products on ``rows`` tokens."""
    hidden = int(mlp_ratio * width)
    return [(rows, width, 3 * width), (rows, width, hidden), (rows, hidden, width)]


def measure_ceiling(
    device: torch.device, dtype: torch.dtype, shapes: Sequence[tuple[int, int, int]]
) -> float:
    """FLOP/s of the fastest of the products (rows, in) x (in, out), each in ``dtype``.

    On a CPU rows are left out until one product takes about ``CPU_FLOPS``: there more of them make
    it no faster.
    """
    return max(product_speed(device, dtype, *shape) for shape in shapes)


def product_speed(
    device: torch.device, dtype: torch.dtype, rows: int, width: int, out: int
) -> float:
    """FLOP/s of one product, the best of a few timings."""
    if device.type == "cpu":
        rows = min(rows, max(1, int(CPU_FLOPS / (2 * width * out))))
    # Numbers of a generator of its own: the training's stay untouched, and a GPU multiplies equal
    # numbers faster than any model's, since fewer of its bits switch.
    generator = torch.Generator(device).manual_seed(0)
    a = torch.randn(rows, width, generator=generator, device=device).to(dtype)
    b = torch.randn(out, width, generator=generator, device=device).to(dtype).T
    c = torch.empty(rows, out, dtype=dtype, device=device)
    flops = 2 * rows * width * out

    def product() -> Tensor:
        return torch.mm(a, b, out=c)

    once = min(_seconds(product, 1, device) for _ in range(2))  # the first one warms up
    repeats = int(CPU_FLOPS / flops) if device.type == "cpu" else int(CUDA_SECONDS / once)
    repeats = min(MOST_REPEATS, max(1, repeats))
    return repeats * flops / min(_seconds(product, repeats, device) for _ in range(ROUNDS))


def _seconds(product: Callable[[], Tensor], repeats: int, device: torch.device) -> float:
    """Wall-clock time of ``repeats`` products, to the end of the last [s]."""
    _synchronise(device)
    start = time.perf_counter()
    for _ in range(repeats):
        product()
    _synchronise(device)
    return time.perf_counter() - start


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(device: torch.device) -> int | None:
    """The most memory this process has had so far [bytes]: of its GPU, as torch has dealt it out,
    or on a CPU resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux tells KiB
