"""``memorization``: pairs of models on disjoint sets of N images, N by N, as table and pictures."""

import sys

from diffgen.commands.alone import refuse_company
from diffgen.commands.memorization.evidence import write_claim
from diffgen.commands.memorization.figures import measure
from diffgen.commands.memorization.images import Parts, divide, stacked
from diffgen.commands.memorization.kept import (
    SCHEMA,
    file_digest,
    picture_files,
    stored_figures,
    why_stale,
)
from diffgen.commands.memorization.pair import Pair
from diffgen.commands.memorization.pictures import modes_strip, sample_strip
from diffgen.commands.memorization.report import report
from diffgen.commands.memorization.runs import train_run
from diffgen.config.memorization import MemorizationConfig
from diffgen.data.source import build_images
from diffgen.device import on_cpu
from diffgen.files import locked, write_file, write_json
from diffgen.group import Group
from diffgen.signals import Interrupted


def memorization(config: MemorizationConfig) -> None:
    """Train and measure what is missing; write table, plot and picture grids after each N.

    Raises:
        UserError: anything a user can mend; see its message.
        Interrupted: a signal came; its message tells how many N are measured.
    """
    refuse_company(Group.join(cpu=on_cpu(config.device)))
    with locked(config.out):
        parts = divide(config)
        stale = {count: why_stale(config, count, parts) for count in config.columns()}
        done = {count for count, why in stale.items() if why is None}
        try:
            for count in config.columns():
                if (why := stale[count]) is not None:
                    if stored_figures(config, count):
                        print(f"{config.out}/{count}.json: {why}; measured anew", file=sys.stderr)
                    fill(config, count, parts)
                    report(config, done := done | {count})
            text = report(config, done)
            write_claim(config)
        except Interrupted as stop:
            there = f"{len(done)} of {len(config.counts)} counts are in {config.out}"
            left = f"{stop}; {there}" if str(stop) else f"{there}, the same command goes on"
            raise Interrupted(stop.signum, left) from None
        print(text)


def fill(config: MemorizationConfig, count: int, parts: Parts) -> None:
    """Train both models of ``count`` images each, measure them, and save the figures."""
    starts, digests = (0, parts.half), parts.digests(config, count)
    runs = config.training("a", count, starts[0]), config.training("b", count, starts[1])
    for model, run in enumerate(runs):
        print(f"N = {count:,}: training {run.out}", flush=True)
        train_run(run, digests[model] if digests else None)
    print(f"N = {count:,}: measuring", flush=True)
    sets = [build_images(config.part(start, start + count)) for start in starts]
    first, second = (stacked(images, count) for images in sets)
    held_out = stacked(parts.held_out, config.num_noisy)
    save(config, count, digests, Pair.load(config, runs, (first, second), held_out))


def save(
    config: MemorizationConfig, count: int, digests: tuple[str, ...] | None, pair: Pair
) -> None:
    """Measure, and write the pictures and then the figures of one N."""
    found, shown = measure(pair), config.pictures
    samples, modes = picture_files(config, count)
    strip = sample_strip(
        (found.samples[0][:shown], found.samples[1][:shown]), found.nearest[:shown]
    )
    write_file(samples, strip.save)
    pictures, eigenvalues = [samples], None
    if found.jacobian is not None:
        picture, leading = modes_strip(pair, found.jacobian)
        eigenvalues = leading.values.tolist()
        write_file(modes, picture.save)
        pictures.append(modes)
    content = {
        "schema": SCHEMA,
        "count": count,
        "settings": config.settings(),
        "images": digests,
        "weights": pair.weights,
        "pictures": {path.name: file_digest(path) for path in pictures},
        **found.figures,
        "eigenvalues": eigenvalues,
        "values": found.values,
    }
    write_json(config.out / f"{count}.json", content)
    agreement, own = (found.figures[name]["median"] for name in ("agreement", "nearest_own"))
    print(f"N = {count:,}: agreement {agreement:.3f}, to own training images {own:.3f}", flush=True)
