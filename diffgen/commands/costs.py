"""What it takes to draw images in one way, against drawing them freely."""

from statistics import median
from time import perf_counter

from diffgen.commands.bench import Bench
from diffgen.commands.drawing import Plan, drawn
from diffgen.commands.sweeps import Figure, figure
from diffgen.config.evaluate import EvaluateConfig

TIMED, PAIRS = 16, 3
"""Images that are drawn by turns for the time, and how often."""


def cost(
    bench: Bench, config: EvaluateConfig, plan: Plan, free: Plan | None, count: int
) -> dict[str, Figure | None]:
    """Seconds an image of the same few under ``plan``, and how many times those under ``free``.

    They are drawn by turns: a machine's speed may change from one cell to the next, hardly from
    one batch to the next.

    Args:
        bench: holds the model.
        config: how is drawn.
        plan: what is timed.
        free: what it is compared with; None: ``plan`` is that itself.
        count: images there are.
    """
    numbers = range(min(TIMED, config.batch_size, count))
    loaded, seconds = bench.model(config), []
    for one in (plan, free or plan) * PAIRS:
        before = perf_counter()
        list(drawn(loaded, config, one, bench.size, numbers, [numbers]))
        seconds.append((perf_counter() - before) / len(numbers))
    pairs = zip(seconds[::2], seconds[1::2], strict=True)
    times = median(this / other for this, other in pairs) if free else 1.0
    return {"seconds": figure(median(seconds[::2])), "times": figure(times)}
