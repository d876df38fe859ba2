"""What an aligner reads: a picture beside its training, and R^2 against time at its end."""

import shlex
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from diffgen.commands.aligner_export import AlignerExport
from diffgen.commands.r2_plot import draw_r2
from diffgen.config.aligners import aligners_folder
from diffgen.config.data import DigitsConfig, ShapesConfig
from diffgen.config.lacon import Settled
from diffgen.data.pixels import to_pil, to_uint8
from diffgen.data.source import build_images
from diffgen.files import write_file, write_json
from diffgen.group import cut
from diffgen.lacon.aligner import Aligner
from diffgen.lacon.conditions import Condition
from diffgen.lacon.curve import TIMES, cut_off, r2_curve, read_maps
from diffgen.lacon.named import folder_name
from diffgen.lacon.training import AlignerObjective, MappedData, Reader, with_positions
from diffgen.sampling.guided import Denoiser
from diffgen.sampling.sheet import Row, contact_sheet
from diffgen.seeding import image_noise
from diffgen.training.checkpoint import TrainingState

MEASURED = 256
"""Pictures that figures are taken of, at most."""
SHOWN = 8
SHOWN_TIMES = (0.9, 0.7, 0.5, 0.3, 0.1)
TOO_LITTLE = 0.05
"""R^2 below which nothing is read that could steer."""


class Examples(NamedTuple):
    """Pictures that an aligner is tried on, and all that goes with them."""

    pictures: Tensor
    """(8 at most, 3, H, W) the first of them, as they look."""
    x0: Tensor
    """(N, C, h, w)."""
    maps: Tensor
    """(N, channels, h, w)."""
    labels: Tensor
    """(N,)."""
    noise: Tensor
    """Like ``x0``."""
    denoiser: Denoiser
    held_out: bool
    """The training does not see them."""


def gather(data: MappedData, reader: Reader) -> tuple[Tensor, Tensor, Tensor, list[int]]:
    """The first pictures (8, 3, H, W), and x0, maps and the data's labels of the first 256."""
    shown, x0, maps, labels = [], [], [], []
    for numbers in cut(min(MEASURED, data.count or MEASURED), 32):
        samples = [data[number] for number in numbers]
        pictures = torch.stack([sample["image"] for sample in samples])
        stored = torch.stack([sample["map"] for sample in samples]) if data.stored else None
        seen, wanted = reader(pictures, stored)
        shown.append(pictures[: SHOWN - numbers.start] if numbers.start < SHOWN else pictures[:0])
        x0.append(seen)
        maps.append(wanted)
        labels += [sample["label"] for sample in samples]
    return torch.cat(shown), torch.cat(x0), torch.cat(maps), labels


def build_examples(settled: Settled, data: MappedData, objective: AlignerObjective) -> Examples:
    """Held-out pictures where the data sets some apart, else such of the training."""
    config, held_out = settled.config, isinstance(settled.data, ShapesConfig | DigitsConfig)
    if held_out:
        data = MappedData(build_images(settled.data, "held_out"), config.seed, data.stored)
    pictures, x0, maps, labels = gather(data, objective.reader)
    numbers = list(range(len(x0)))
    return Examples(
        pictures=pictures,
        x0=x0,
        maps=maps,
        labels=objective.labels[labels].to(x0.device),
        noise=image_noise(config.seed, numbers, tuple(x0.shape[1:])).to(x0.device),
        denoiser=with_positions(objective.denoiser, config.seed, numbers),
        held_out=held_out,
    )


def draw_reading(
    examples: Examples, aligner: Aligner, condition: Condition, low: float, target: Path
) -> None:
    """Save eight pictures, their maps, and what the aligner reads of them at a few times."""
    count = len(examples.pictures)
    seeds = examples.denoiser.position_seeds
    denoiser = examples.denoiser._replace(position_seeds=seeds and seeds[:count])
    x0, noise, labels = (part[:count] for part in (examples.x0, examples.noise, examples.labels))
    rows = {"pictures": examples.pictures, condition.name: _as_picture(examples.maps, condition)}
    for t in (t for t in SHOWN_TIMES if t >= low):
        alpha, sigma = denoiser.levels(t)
        x_t = alpha * x0 + sigma * noise
        read = read_maps(denoiser, aligner, condition, x_t, t, labels)
        rows[f"read at t = {t:g}"] = _as_picture(read, condition)
    size = examples.pictures.shape[-2:]
    sheet = contact_sheet(
        [
            Row(title, to_pil(to_uint8(F.interpolate(part[:count], size, mode="nearest"))))
            for title, part in rows.items()
        ]
    )
    write_file(target, sheet.save)


def _as_picture(maps: Tensor, condition: Condition) -> Tensor:
    return maps * 2 - 1 if condition.binary else maps


def report(
    settled: Settled,
    condition: Condition,
    examples: Examples,
    export: AlignerExport,
    state: TrainingState,
) -> None:
    """Measure R^2 against time, store it with the weights, draw and print it, and what is next."""
    times = [t for t in TIMES if t >= settled.config.low]
    with tqdm(total=len(times), desc="measuring", dynamic_ncols=True) as bar:
        r2 = r2_curve(
            examples.denoiser,
            export.averaged(state),
            condition,
            examples.x0,
            examples.maps,
            examples.labels,
            examples.noise,
            bar.update,
            times,
        )
    until, kind = cut_off(r2), "held-out" if examples.held_out else "training"
    export.save(state, until=until, r2=r2)
    title = f"R² of {condition.name} on {len(examples.x0)} {kind} pictures"
    write_file(settled.out / "r2.png", draw_r2(r2, until, title))
    found = {"pictures": kind, "num_images": len(examples.x0), "until": until, "r2": r2}
    write_json(settled.out / "r2.json", found)
    print(f"\n{title}\n{table(r2)}")
    if not examples.held_out:
        print("these data set no pictures apart: on others R² may be lower")
    print(closing(settled, condition, until, max(r2.values())))


def table(r2: dict[str, float]) -> str:
    """Times and figures below each other, ten a line."""
    lines = []
    for part in cut(len(r2), 10):
        some = list(r2.items())[part.start : part.stop]
        lines += ["  t  " + "".join(f"{t:>7}" for t, _ in some)]
        lines += ["  R² " + "".join(f"{value:7.3f}" for _, value in some)]
    return "\n".join(lines)


def closing(settled: Settled, condition: Condition, until: float, best: float) -> str:
    """Where everything is, and what to do next."""
    places = {"aligner": "aligner", "curve": "r2.png", "pictures": "samples"}
    lines = [f"{name:10}{settled.out / place}" for name, place in places.items()]
    if best < TOO_LITTLE:
        return "\n".join(
            [
                *lines,
                f"the aligner has learnt nothing that could steer: R² of {condition.name} is "
                f"{best:.3f} at best; a better model, more --train.images or other --blocks may "
                "help",
            ]
        )
    lines += [f"constraints act at t > {until:g}", "", "next"]
    due = aligners_folder(settled.source, str(settled.source.pipeline))
    command = f"python sample/generate.py {shlex.quote(settled.config.source)}"
    if settled.out.name != folder_name(condition.name):  # sampling finds them by this name
        target = due / folder_name(condition.name)
        lines.append(f"  mkdir -p {shlex.quote(str(due))}")
        lines.append(f"  mv {shlex.quote(str(settled.out))} {shlex.quote(str(target))}")
    elif settled.out.parent != due:
        command += f" --aligners {shlex.quote(str(settled.out.parent))}"
    if settled.config.vae is not None:
        command += f" --vae {shlex.quote(settled.config.vae)}"
    wanted = shlex.quote(settled.config.condition)
    return "\n".join([*lines, f"  {command} --constraint {wanted}=sketch.png"])
