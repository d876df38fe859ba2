"""What is measured of maps that were read or drawn: fidelity, and of depth AbsRel and delta1."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from diffgen.commands.lacon_sweep.wanted import AGAIN, BATCH, Asked, Wanted
from diffgen.commands.sweeps import Figure, over
from diffgen.config.joint_eval import JointCellConfig
from diffgen.data.pixels import from_uint8
from diffgen.group import cut
from diffgen.joint.maps import from_picture
from diffgen.lacon.conditions import DEPTH, Condition
from diffgen.lacon.fidelity import Fidelity
from diffgen.metrics.depth import abs_rel, best_constant, best_fixed, delta1, depth_of
from diffgen.metrics.reader import Reader

ABS_REL = Fidelity("abs_rel", False, lambda found, wanted: abs_rel(*map(depth_of, (found, wanted))))
DELTA1 = Fidelity("delta1", True, lambda found, wanted: delta1(*map(depth_of, (found, wanted))))
Row: TypeAlias = dict[str, Figure | None]
"""Figures by name."""


def row(condition: Condition, found: Tensor, wanted: Tensor, first: int | None = None) -> Row:
    """How well maps ``found`` are those ``wanted``, both (N, channels, H, W) on the CPU.

    ``first``: the fidelity of so many of the first ones is told too.
    """
    fidelity = condition.fidelity.measure(found, wanted).tolist()
    figures = {"fidelity": over(fidelity)}
    if condition == DEPTH:
        for one in (ABS_REL, DELTA1):
            figures[one.name] = over(one.measure(found, wanted).tolist())
    return figures if first is None else {**figures, "first": over(fidelity[:first])}


def read(asked: Asked, pictures: Tensor, reader: Reader) -> Tensor:
    """The maps (N, channels, H, W) that are found in ``pictures`` (N, 3, H, W) uint8."""
    parts = [slice(rows.start, rows.stop) for rows in cut(len(pictures), BATCH)]
    return torch.cat([asked.found(pictures[part], reader) for part in parts])


def drawn_maps(condition: Condition, pictures: Tensor) -> Tensor:
    """Maps that were drawn as ``pictures`` (N, 3, H, W) uint8."""
    return from_picture(from_uint8(pictures), condition)


def of_nothing(asked: Asked, classes: Sequence[int] | None) -> Mapping[str, Row]:
    """What depth gets that is drawn without a look at the picture.

    One depth for all pixels, of all pictures and of each; and one map, of all pictures and where
    their ``classes`` are known of each class. Each is the best there is for these very pictures,
    which flatters it.
    """
    if asked.condition != DEPTH:
        return {}
    depth = depth_of(asked.maps)
    each = depth.new_tensor([best_constant(one) for one in depth])
    found = {
        "constant": depth.new_tensor(best_constant(depth)),
        "constants": each.reshape(-1, 1, 1, 1),
        "fixed": best_fixed(depth),
    }
    if classes is not None:
        known, found["fixed_class"] = torch.tensor(classes), torch.empty_like(depth)
        for label in known.unique():
            found["fixed_class"][known == label] = best_fixed(depth[known == label])
    return {
        name: row(asked.condition, DEPTH.from_stored(one.expand_as(depth)), asked.maps)
        for name, one in found.items()
    }


def next_of_class(labels: Sequence[int]) -> list[int]:
    """For each image the next one of its class, after the last the first.

    The only one of its class gets the next of all, which is further off.
    """
    count, after = len(labels), []
    for k, label in enumerate(labels):
        turn = [(k + step) % count for step in range(1, count)]
        after.append(next((n for n in turn if labels[n] == label), (k + 1) % count))
    return after


def rows_of(
    cell: JointCellConfig,
    wanted: Wanted,
    reader: Reader,
    images: Tensor,
    maps: Mapping[str, Tensor],
    control: Tensor | None,
    labels: Sequence[int],
    known: bool,
) -> dict[str, dict[str, Row]]:
    """Figures by condition and row of the table, see ``table.ROWS``.

    Args:
        cell: how everything was drawn.
        wanted: from which pictures and maps.
        reader: reads maps.
        images: (N, 3, H, W) uint8.
        maps: (N, 3, H, W) uint8, by row, drawn from the pictures, or together with the images.
        control: (n, 3, H, W) uint8 images under another picture's map.
        labels: classes of the N images.
        known: they are the pictures' own.
    """
    asked, own = wanted.conditions, list(cell.modules)
    if cell.how == "joint":
        one = asked[own[0]]
        found, together = read(one, images, reader), drawn_maps(one.condition, maps["joint"])
        others = {"joint": together, "shuffled": together[next_of_class(labels)]}
        return {own[0]: {key: row(one.condition, found, other) for key, other in others.items()}}

    def met(name: str, pictures: Tensor) -> Row:
        one, found = asked[name], read(asked[name], pictures, reader)
        return row(one.condition, found, one.maps[: len(found)], AGAIN)

    rows: dict[str, dict[str, Row]] = {}
    for name in cell.conditions:
        figures = met(name, images)
        if cell.how == "base":
            real = met(name, wanted.pictures)
            blind = of_nothing(asked[name], labels if known else None)
            rows[name] = {"base": figures, "real": real, **blind}
        elif name not in own:
            rows[name] = {"other": figures}
        else:
            rows[name] = {"pair" if len(own) > 1 else cell.how: figures}
            if control is not None:
                figures["control"] = met(name, control)["fidelity"]
            condition, wanted_maps = asked[name].condition, asked[name].maps
            for key, drawn in maps.items():
                rows[name][key] = row(condition, drawn_maps(condition, drawn), wanted_maps)
    return rows
