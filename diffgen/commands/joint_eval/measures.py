"""What is measured of maps that were read or drawn: fidelity, and of depth AbsRel and delta1."""

from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from diffgen.commands.lacon_sweep.wanted import BATCH, Asked, Wanted
from diffgen.commands.sweeps import Figure, over
from diffgen.config.joint_eval import JointCellConfig
from diffgen.data.pixels import from_uint8
from diffgen.group import cut
from diffgen.joint.figures import abs_rel, best_constant, delta1, depth_of
from diffgen.joint.maps import from_picture
from diffgen.lacon.conditions import DEPTH, Condition
from diffgen.lacon.fidelity import Fidelity
from diffgen.metrics.reader import Reader

AGAIN = 64
"""Images that are drawn once more, under another picture's map."""
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


def of_nothing(asked: Asked) -> Mapping[str, Row]:
    """What maps get that are drawn of no picture: the best constant of all, and of each."""
    if asked.condition != DEPTH:
        return {}
    depth = depth_of(asked.maps)
    each = depth.new_tensor([best_constant(one) for one in depth])
    constants = {"constant": depth.new_tensor(best_constant(depth)), "constants": each}
    return {
        name: row(
            asked.condition,
            DEPTH.from_stored(found.reshape(-1, 1, 1, 1).expand_as(depth)),
            asked.maps,
        )
        for name, found in constants.items()
    }


def rows_of(
    cell: JointCellConfig,
    wanted: Wanted,
    reader: Reader,
    images: Tensor,
    maps: Mapping[str, Tensor],
    control: Tensor | None,
) -> dict[str, dict[str, Row]]:
    """Figures by condition and row of the table, see ``table.ROWS``.

    Args:
        cell: how everything was drawn.
        wanted: from which pictures and maps.
        reader: reads maps.
        images: (N, 3, H, W) uint8.
        maps: (N, 3, H, W) uint8, by row, drawn from the pictures, or together with the images.
        control: (n, 3, H, W) uint8 images under another picture's map.
    """
    asked, own = wanted.conditions, list(cell.modules)
    if cell.how == "joint":
        one = asked[own[0]]
        found, together = read(one, images, reader), drawn_maps(one.condition, maps["joint"])
        others = {"joint": together, "shuffled": together.roll(-1, 0)}
        return {own[0]: {key: row(one.condition, found, other) for key, other in others.items()}}

    def met(name: str, pictures: Tensor) -> Row:
        one, found = asked[name], read(asked[name], pictures, reader)
        return row(one.condition, found, one.maps[: len(found)], AGAIN)

    rows: dict[str, dict[str, Row]] = {}
    for name in cell.conditions:
        figures = met(name, images)
        if cell.how == "base":
            real = met(name, wanted.pictures)
            rows[name] = {"base": figures, "real": real, **of_nothing(asked[name])}
        elif name not in own:
            rows[name] = {"other": figures}
        else:
            rows[name] = {"both" if len(own) > 1 else cell.how: figures}
            if control is not None:
                figures["control"] = met(name, control)["fidelity"]
            condition, wanted_maps = asked[name].condition, asked[name].maps
            for key, drawn in maps.items():
                rows[name][key] = row(condition, drawn_maps(condition, drawn), wanted_maps)
    return rows
