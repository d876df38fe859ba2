"""``memorization``: pairs of models on disjoint sets of N images, N by N, as table and pictures."""

import io
import sys
from contextlib import redirect_stdout
from typing import NamedTuple

import torch
from torch import Tensor

from diffgen.commands.memorization.figures import measure
from diffgen.commands.memorization.kept import SCHEMA, content, files, up_to_date
from diffgen.commands.memorization.pair import Pair
from diffgen.commands.memorization.pictures import modes_strip, sample_strip
from diffgen.commands.memorization.report import report
from diffgen.commands.train import train
from diffgen.config.data import FolderConfig
from diffgen.config.memorization import MemorizationConfig
from diffgen.data.source import ImageSource, build_images
from diffgen.device import on_cpu
from diffgen.errors import UserError
from diffgen.files import locked, write_file, write_json
from diffgen.group import Group
from diffgen.signals import Interrupted


class Parts(NamedTuple):
    """How the images are divided: a half for each model, and those held out."""

    half: int
    """Images of a half, the largest N; the second half starts here."""
    held_out: ImageSource


def memorization(config: MemorizationConfig) -> None:
    """Train and measure what is missing, then write table, plot and picture grids.

    Raises:
        UserError: anything a user can mend; see its message.
        Interrupted: a signal came; its message tells how many N are measured.
    """
    refuse_company(Group.join(cpu=on_cpu(config.device)))
    with locked(config.out):
        parts = divide(config)
        told = [count for count in config.columns() if content(config, count) is not None]
        if any(not up_to_date(config, count) for count in told):
            print(f"{config.out}: figures of other settings are measured anew", file=sys.stderr)
        try:
            for count in config.columns():
                if not up_to_date(config, count):
                    fill(config, count, parts)
        except Interrupted as stop:
            raise Interrupted(stop.signum, left(config, str(stop))) from None
        report(config)


def refuse_company(group: Group) -> None:
    """Every training ends the connections of its processes, so there is no second one.

    Raises:
        UserError: there are several processes.
    """
    with group.together():
        if group.world > 1:
            raise UserError(
                f"there are {group.world} processes, but the trainings run one after the other in "
                "one; start it with plain python"
            )


def left(config: MemorizationConfig, trained: str) -> str:
    """What is there when a signal ends the command."""
    done = sum(up_to_date(config, count) for count in config.columns())
    there = f"{done} of {len(config.counts)} counts are in {config.out}"
    return f"{trained}; {there}" if trained else f"{there}, the same command goes on"


def divide(config: MemorizationConfig) -> Parts:
    """The halves, and what is held out: drawn images have a split of it, a folder's are its last.

    Raises:
        UserError: there are too few images for the largest N, or to hold out.
    """
    stored = isinstance(config.data, FolderConfig)
    largest, noisy, total = max(config.counts), config.num_noisy, len(build_images(config.data))
    train = max(0, total - noisy) if stored else total
    if largest > train // 2:
        besides = f" besides the {noisy:,} held out" if stored else ""
        raise UserError(
            f"counts: two sets of {largest:,} need {2 * largest:,} images, but there are "
            f"{train:,}{besides}"
        )
    if stored:
        return Parts(train // 2, build_images(config.part(train, total)))
    held_out = build_images(config.data, "held_out")
    if noisy > len(held_out):
        raise UserError(f"num_noisy: {noisy}, but only {len(held_out):,} images are held out")
    return Parts(train // 2, held_out)


def fill(config: MemorizationConfig, count: int, parts: Parts) -> None:
    """Train both models of ``count`` images each, measure them, and save the figures."""
    starts = 0, parts.half
    runs = config.training("a", count, starts[0]), config.training("b", count, starts[1])
    for run in runs:
        print(f"N = {count:,}: training {run.out}", flush=True)
        with redirect_stdout(io.StringIO()):  # its closing words are for a single training
            train(run)
    print(f"N = {count:,}: measuring", flush=True)
    sets = [build_images(config.part(start, start + count)) for start in starts]
    first, second = (stacked(images, count) for images in sets)
    held_out = stacked(parts.held_out, config.num_noisy)
    save(config, count, Pair.load(config, runs, (first, second), held_out))


def stacked(images: ImageSource, count: int) -> Tensor:
    """The first ``count`` images, (count, 3, H, W) fp32 in [-1, 1]."""
    return torch.stack([images[k][0] for k in range(count)])


def save(config: MemorizationConfig, count: int, pair: Pair) -> None:
    """Measure, and write the pictures and then the figures of one N."""
    found = measure(pair)
    pictures, modes = files(config, count)
    write_file(pictures, sample_strip(found, config.pictures).save)
    eigenvalues = None
    if pair.small:
        picture, leading = modes_strip(pair)
        eigenvalues = leading.values.tolist()
        write_file(modes, picture.save)
    more = {"weights": pair.weights, "eigenvalues": eigenvalues}
    figures = {"schema": SCHEMA, "count": count, "settings": config.settings()}
    write_json(config.out / f"{count}.json", figures | found.figures | more)
    agreement, own = (found.figures[name]["median"] for name in ("agreement", "nearest_own"))
    print(f"N = {count:,}: agreement {agreement:.3f}, to own training images {own:.3f}", flush=True)
