"""What an aligner reads: a picture beside its training, and R^2 against time at its end."""

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from diffgen.commands.next_command import next_command
from diffgen.config.beside import Settled
from diffgen.config.lacon import LaconConfig
from diffgen.data.pixels import to_pil, to_uint8
from diffgen.data.source import build_images
from diffgen.errors import UserError
from diffgen.files import write_file, write_folder, write_json
from diffgen.group import cut
from diffgen.lacon.aligner import Aligner
from diffgen.lacon.conditions import Condition
from diffgen.lacon.curve import TIMES, Examples, cut_off, r2_curve, read_maps
from diffgen.lacon.training import AlignerObjective, MappedData, with_positions
from diffgen.sampling.sheet import Row, contact_sheet
from diffgen.seeding import image_noise

MEASURED = 256
"""Pictures that figures are taken of, at most."""
SHOWN = 8
SHOWN_TIMES = (0.9, 0.7, 0.5, 0.3, 0.1)
TOO_LITTLE = 0.05
"""R^2 below which nothing is read that could steer."""


def build_examples(
    settled: Settled[LaconConfig], data: MappedData, objective: AlignerObjective
) -> tuple[Examples, Tensor]:
    """Held-out pictures where the data sets some apart, else such of the training.

    Returns:
        What an aligner is tried on, and (8 at most, 3, H, W) the first pictures as they look.

    Raises:
        UserError: the condition cannot be found in them, or is the same in all.
    """
    condition, seed = objective.reader.condition, settled.config.seed
    if settled.held_out:
        data = MappedData(build_images(settled.data, "held_out"), seed, condition)
    found, labels = [], []
    for numbers in cut(min(MEASURED, data.count or MEASURED), 32):
        samples = [data[number] for number in numbers]
        pictures = torch.stack([sample["image"] for sample in samples])
        stored = torch.stack([sample["map"] for sample in samples]) if data.stored else None
        found.append((pictures[:SHOWN], *objective.reader(pictures, stored)))
        labels += [sample["label"] for sample in samples]
    shown, x0, maps = (torch.cat(parts) for parts in zip(*found, strict=True))
    if bool((maps == maps[0]).all()):
        raise UserError(
            f"condition: all {len(maps)} pictures have the same map of {condition.name}; there is "
            "nothing to learn"
        )
    places = list(range(len(x0)))
    examples = Examples(
        denoiser=with_positions(objective.denoiser, seed, places),
        x0=x0,
        maps=maps,
        labels=objective.labels[labels].to(x0.device),
        noise=image_noise(seed, places, tuple(x0.shape[1:])).to(x0.device),
    )
    return examples, shown[:SHOWN]


def draw_reading(
    examples: Examples,
    pictures: Tensor,
    aligner: Aligner,
    condition: Condition,
    low: float,
    target: Path,
) -> None:
    """Save the first ``pictures``, their maps, and what the aligner reads at times from ``low``."""

    def row(title: str, shown: Tensor) -> Row:
        return Row(title, to_pil(to_uint8(F.interpolate(shown, size, mode="nearest"))))

    def as_picture(maps: Tensor) -> Tensor:
        return maps * 2 - 1 if condition.binary else maps

    size, examples = pictures.shape[-2:], examples.part(slice(len(pictures)))
    rows = [row("pictures", pictures), row(condition.name, as_picture(examples.maps))]
    for t in SHOWN_TIMES:
        if t >= low:
            read = read_maps(examples, aligner, condition, t)
            rows.append(row(f"read at t = {t:g}", as_picture(read)))
    write_file(target, contact_sheet(rows).save)


def report(
    settled: Settled[LaconConfig], objective: AlignerObjective, examples: Examples, aligner: Aligner
) -> None:
    """Measure R^2 against time, save ``aligner`` with it, draw and print it, and what is next."""
    condition, low = objective.reader.condition, objective.low
    times = tqdm([low, *(t for t in TIMES if t > low)], desc="measuring", dynamic_ncols=True)
    r2 = r2_curve(examples, aligner, condition, times)
    until, kind = cut_off(r2), "held-out" if settled.held_out else "training"
    aligner.register_to_config(until=until, r2=r2)
    write_folder(settled.out / "aligner", aligner.save_pretrained)
    title = f"R² of {condition.name} on {len(examples.x0)} {kind} pictures"
    write_file(settled.out / "r2.png", draw_r2(r2, until, title))
    found = {"pictures": kind, "num_images": len(examples.x0), "until": until, "r2": r2}
    write_json(settled.out / "r2.json", found)
    print(f"\n{title}\n{table(r2)}")
    if not settled.held_out:
        print("these data set no pictures apart: on others R² may be lower")
    print(closing(settled, condition, until, max(r2.values())))


def draw_r2(r2: Mapping[str, float], until: float, title: str) -> Callable[[Path], object]:
    """A function that saves R^2 against time as a PNG; times above ``until`` are shaded."""
    from matplotlib.figure import Figure  # slow to import, and needed at the end alone

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([float(t) for t in r2], list(r2.values()), "o-", markersize=4)
    axes.axvspan(until, 1, color="C0", alpha=0.12, linewidth=0, label=f"acts at t > {until:g}")
    axes.set(xlim=(0, 1), ylim=(min(0.0, *r2.values()), 1), title=title)
    axes.set(xlabel="time t (1: noise, 0: picture)", ylabel="R²")
    axes.grid(alpha=0.3)
    axes.legend()
    return lambda path: figure.savefig(path, dpi=110, format="png")


def table(r2: Mapping[str, float]) -> str:
    """Times and figures below each other, ten a line."""
    lines = []
    for part in cut(len(r2), 10):
        some = list(r2.items())[part.start : part.stop]
        lines += ["  t  " + "".join(f"{t:>7}" for t, _ in some)]
        lines += ["  R² " + "".join(f"{value:7.3f}" for _, value in some)]
    return "\n".join(lines)


def closing(settled: Settled[LaconConfig], condition: Condition, until: float, best: float) -> str:
    """Where everything is, and what to do next."""
    places = {"aligner": "aligner", "curve": "r2.png", "pictures": "samples"}
    lines = [f"{name:10}{settled.out / place}" for name, place in places.items()]
    if best < TOO_LITTLE:
        why = (
            f"the aligner has learnt nothing that could steer: R² of {condition.name} is "
            f"{best:.3f} at best; a better model, more --train.images or other --blocks may help"
        )
        return "\n".join([*lines, why])
    lines += [f"constraints act at t > {until:g}", "", "next"]
    wanted = shlex.quote(settled.config.condition)
    files = "MAP.png" if condition.channels == 1 else "PICTURE.png --constraint-from picture"
    given = f"--constraint {wanted}={files}"
    script = "sample/generate.py"
    lines += next_command(settled, condition.name, script, "aligners", given)
    return "\n".join(lines)
