"""What joint generation has learnt: a picture beside its training, and a measure at its end."""

import json
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from diffgen.commands.beside import Training, size_of
from diffgen.commands.joint_drawers import ChannelsDrawer, Drawer, JointDrawer, Pairs
from diffgen.commands.next_command import next_command
from diffgen.config.joint import CHANNELS_SUFFIX, FOLDER, JointConfig
from diffgen.config.sampling import SamplingConfig
from diffgen.data.pixels import to_pil, to_uint8
from diffgen.data.source import build_images
from diffgen.errors import UserError
from diffgen.files import write_file, write_json
from diffgen.group import cut
from diffgen.joint.adapter import JointAdapter
from diffgen.joint.channels import ChannelsObjective
from diffgen.joint.load import condition_of
from diffgen.joint.maps import as_picture
from diffgen.joint.pairs import OUTLINE
from diffgen.joint.training import JointObjective
from diffgen.lacon.conditions import EDGE
from diffgen.lacon.training import MappedData
from diffgen.models.dit import DiT
from diffgen.pipeline import DiffGenPipeline
from diffgen.sampling.batches import set_up
from diffgen.sampling.sheet import Row, contact_sheet

MEASURED = 64
"""Pictures that figures are taken of, at most."""
SHOWN = 8
BATCH = 16
"""Pictures drawn at once."""


def build_pairs(
    training: Training[JointConfig],
    data: MappedData,
    objective: JointObjective | ChannelsObjective,
) -> Pairs:
    """Held-out pairs where the data sets some apart, else such of the training.

    Raises:
        UserError: the condition cannot be found in the pictures, or is the same in all, or files
            show black edges on white.
    """
    settled, reader = training.settled, objective.reader
    condition, seed = reader.condition, settled.config.seed
    if settled.held_out:
        data = MappedData(build_images(settled.data, "held_out"), seed, condition)
    samples = [data[number] for number in range(min(MEASURED, data.count or MEASURED))]
    pictures = torch.stack([sample["image"] for sample in samples]).to(reader.device)
    stored = torch.stack([sample["map"] for sample in samples]) if data.stored else None
    try:
        maps = reader.maps(pictures, stored)
    except UserError as error:
        raise UserError(f"pair: {str(error).removeprefix('condition: ')}") from None
    if bool((maps == maps[0]).all()):
        raise UserError(
            f"pair: all {len(maps)} pictures have the same map of {condition.name}; there is "
            "nothing to learn"
        )
    from_files, edges = data.stored == "pair", condition.name in (EDGE.name, OUTLINE.name)
    if from_files and edges and float(maps.mean()) > 0.5:
        raise UserError(
            f"pair_path: the maps of {condition.name} are mostly white, but edges are white on "
            "black; invert them"
        )
    labels = objective.labels[[sample["label"] for sample in samples]]
    return Pairs(pictures, maps, labels.to(reader.device), list(range(len(maps))))


def drawer_of(
    training: Training[JointConfig], pipe: DiffGenPipeline, trained: JointAdapter | DiT
) -> Drawer:
    """What draws with ``trained``, as it is at each time, by the solver that sampling takes."""
    set_up(pipe, SamplingConfig())
    condition, seed = training.condition, training.settled.config.seed
    if isinstance(trained, JointAdapter):
        return JointDrawer(pipe, condition, seed, trained)
    return ChannelsDrawer(pipe, condition, seed, trained)


def draw_sheet(pairs: Pairs, drawer: Drawer, target: Path) -> None:
    """Save the first of ``pairs``, and below each what is drawn of it."""
    pairs = pairs.part(slice(SHOWN))
    given = {
        "pictures": pairs.pictures,
        drawer.condition.name: as_picture(pairs.maps, drawer.condition),
    }
    rows = {**given, **drawer.rows(pairs)}
    sheet = contact_sheet([Row(title, to_pil(to_uint8(z))) for title, z in rows.items()])
    write_file(target, sheet.save)


def report(training: Training[JointConfig], pairs: Pairs, drawer: Drawer, seen: int) -> None:
    """Measure what is drawn of ``pairs``, write and print it, and what is next.

    ``seen``: images seen in the training.
    """
    settled, metrics = training.settled, training.folder.metrics
    count, share = size_of(drawer.trained, drawer.pipe.transformer)
    content: dict[str, Any] = {
        "parameters": count,
        "share_of_model": share,
        "images_seen": seen,
        "seconds": training_seconds(training.folder.lines()) if metrics.exists() else None,
        "pictures": "held-out" if settled.held_out else "training",
        "num_images": len(pairs.maps),
        "steps": drawer.steps,
    }
    if drawer.finds:
        content |= measured(pairs, drawer)
    write_json(settled.out / "report.json", content)
    print(closing(training, drawer, content))


def reported(training: Training[JointConfig], drawer: Drawer, seen: int) -> bool:
    """Whether a report of a training of ``seen`` images is there; if so, it is printed."""
    file = training.settled.out / "report.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["images_seen"] != seen or not (training.settled.out / drawer.kind).is_dir():
            return False
        told = closing(training, drawer, content)
    except (OSError, ValueError, KeyError, TypeError):  # cut off, or none of ours: written anew
        return False
    print(f"finished before; {file} is there\n{told}")
    return True


def training_seconds(lines: Iterable[Mapping[str, Any]]) -> float:
    """Wall-clock time of a training, by the speeds in the lines of its log.

    Previews and checkpoints are in it, pauses between a stop and the next start are not.
    """
    total, before = 0.0, 0
    for line in lines:
        slowest = 0.01  # speeds are rounded to as much
        total += (line["images"] - before) / max(line["images_per_second"], slowest)
        before = line["images"]
    return round(total, 1)


def measured(pairs: Pairs, drawer: Drawer) -> dict[str, Any]:
    """How far maps of what is drawn are from those of ``pairs``, and from those of others."""
    fidelity = drawer.condition.fidelity
    batches = tqdm(cut(len(pairs.maps), BATCH), desc="measuring", dynamic_ncols=True)
    parts = [drawer.found(pairs.part(slice(some.start, some.stop))) for some in batches]
    maps = torch.cat(parts)
    return {
        "measure": fidelity.name,
        "higher_is_better": fidelity.higher,
        "own": float(fidelity.measure(maps, pairs.maps).mean()),
        "others": float(fidelity.measure(maps, pairs.maps.roll(1, 0)).mean()),
    }


def closing(training: Training[JointConfig], drawer: Drawer, content: dict[str, Any]) -> str:
    """What was measured, where everything is, and what to do next."""
    settled, name = training.settled, drawer.condition.name
    told = drawer.told(f"{content['num_images']} {content['pictures']} pictures")
    lines = ["", f"not measured here: {name} cannot be found in pictures without a reader"]
    if "own" in content:
        better = "higher" if content["higher_is_better"] else "lower"
        lines = [
            "",
            f"{told}: {content['measure']} {content['own']:.3f}, {better} is better "
            f"({content['others']:.3f} against the {name} of other pictures)",
        ]
    if not settled.held_out:
        lines.append("these data set no pictures apart: on others it may be worse")
    places = {drawer.kind: drawer.kind, "figures": "report.json", "pictures": "samples"}
    lines += [f"{title:10}{settled.out / place}" for title, place in places.items()]
    pair = settled.config.pair
    if isinstance(drawer, JointDrawer):
        known = condition_of(drawer.adapter)  # as sample/joint.py knows it, by its name alone
        coloured = known.channels == 3 and known.find is not None
        files = "PICTURE.png --given-from picture" if coloured else "MAP.png"
        given = f"--given {name}={files}"
        lines += ["", "next", *next_command(settled, name, "sample/joint.py", "adapters", given)]
    elif pair not in (FOLDER, OUTLINE.name):  # no condition of the evaluation
        name, given = name + CHANNELS_SUFFIX, f"--conditions {shlex.quote(pair)}"
        lines += ["", "next, beside the adapter and the late constraint that it is compared with"]
        lines += next_command(settled, name, "eval/joint.py", "adapters", given)
    return "\n".join(lines)
