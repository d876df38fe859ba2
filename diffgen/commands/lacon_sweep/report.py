"""What a sweep leaves: a table, a plot, a picture grid, and if wanted a claim."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from PIL import Image

from diffgen.commands.cells import Cell
from diffgen.commands.lacon_sweep.evidence import claim
from diffgen.commands.lacon_sweep.finished import SCHEMA, Measured, Sweep
from diffgen.commands.lacon_sweep.plot import draw_plot
from diffgen.commands.lacon_sweep.remade import commands
from diffgen.commands.lacon_sweep.table import cell_figures, markdown, real_figures
from diffgen.commands.lacon_sweep.wanted import Wanted
from diffgen.commands.remade import model_name, training
from diffgen.commands.sweeps import over_seeds, write_sweep
from diffgen.config.base import parse_size
from diffgen.config.lacon_sweep import LaconSweepConfig
from diffgen.data.pixels import to_pil, to_uint8
from diffgen.evidence import write_evidence
from diffgen.sampling.sheet import Row, enlarged

Cells: TypeAlias = Mapping[tuple[str, int, float, int], Cell]
"""By condition, steps, scale and seed; unguided ones, at scale 0, are the same for each."""


def report(config: LaconSweepConfig, wanted: Wanted, others: Sequence[Sweep], cells: Cells) -> None:
    """Write everything; the table is printed too. ``others``: sweeps of other models."""
    sweep = summary(config, wanted, cells)
    write_sweep(config.out, sweep, markdown(sweep), draw_plot(sweep), rows(config, wanted, cells))
    if config.evidence is not None:
        own = json.loads(json.dumps(sweep))  # as the others are
        found = write_evidence(config.evidence, claim(Measured([own, *others])))
        print(f"claim {config.evidence}: {found.verdict}")


def summary(config: LaconSweepConfig, wanted: Wanted, cells: Cells) -> dict[str, Any]:
    """What sweep.json holds."""
    contents = {place: cell.content() or {} for place, cell in cells.items()}
    scales, trained = [0.0, *config.columns()], training(config.source)
    every = {
        (name, steps, scale): [
            cell_figures(contents[name, steps, scale, seed], name) for seed in config.seeds
        ]
        for name in config.conditions
        for steps in config.steps
        for scale in scales
    }
    steps, seed = config.steps[0], config.seeds[0]
    firsts = {name: contents[name, steps, scales[-1], seed] for name in config.conditions}
    some = firsts[config.conditions[0]]
    return {
        "schema": SCHEMA,
        "settings": config.model_dump(mode="json"),
        **{name: some[name] for name in ("size", "counts", "weights", "labels", "processes")},
        "model": model_name(config.source),
        "training_seed": trained.get("seed"),
        "held_out": not trained_on(config.reference, trained),
        "commands": list(commands(config, wanted)),
        "conditions": {
            name: {
                "figure": one.condition.fidelity.name,
                "higher": one.condition.fidelity.higher,
                "read_by": one.read_by,
                "until": firsts[name]["measured"]["until"],
                "aligner": one.aligner,
            }
            for name, one in wanted.conditions.items()
        },
        "again": some["measured"]["again"],
        "steps": config.steps,
        "scales": scales,
        "seeds": config.seeds,
        "real": {name: real_figures(content, name) for name, content in firsts.items()},
        "cells": [
            {
                "condition": name,
                "steps": steps,
                "scale": scale,
                "seeds": of_seeds,
                "figures": over_seeds(of_seeds),
            }
            for (name, steps, scale), of_seeds in every.items()
        ],
        "intervals": intervals(config),
    }


def intervals(config: LaconSweepConfig) -> str:
    """What the table's intervals are, in words."""
    if len(config.seeds) > 1:
        return "95 %, by Student's t over seeds, of real pictures over pictures"
    scores = "by Wilson for class accuracy"
    if config.intervals:
        scores = f"by the jackknife for FID, precision and recall, {scores}"
    return f"95 %, over images, by Student's t for fidelity, control and variation, {scores}"


def trained_on(reference: str, trained: Mapping[str, Any]) -> bool:
    """True where the model was trained on the pictures of the folder ``reference``."""
    path = trained.get("data", {}).get("path")
    return path is not None and Path(path).resolve() == Path(reference).resolve()


def rows(config: LaconSweepConfig, wanted: Wanted, cells: Cells) -> Iterator[Row]:
    """Of each condition the first held-out pictures, their maps, and the images of each scale.

    The images are of the first number of steps and the first seed.
    """
    steps, seed, side = config.steps[0], config.seeds[0], min(parse_size(wanted.size))
    for name, one in wanted.conditions.items():
        maps = one.maps[: config.pictures]
        maps = to_uint8(maps * 2 - 1 if one.condition.binary else maps).expand(-1, 3, -1, -1)
        pictures = wanted.pictures[: config.pictures]
        for title, images in (("held-out pictures", pictures), ("their maps", maps)):
            strip = to_pil(torch.cat(list(images), dim=-1)[None])[0]
            yield Row(f"{name}: {title}", [enlarged(strip, side)])
        for scale in (0.0, *config.columns()):
            with Image.open(cells[name, steps, scale, seed].picture) as image:
                drawn = enlarged(image.convert("RGB"), side)
            yield Row(f"{name}: {f'scale {scale:g}' if scale else 'unguided'}", [drawn])
