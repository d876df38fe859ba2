"""What a sweep leaves: sweep.json, sweep.md, plot.png, grid.png, and if wanted a claim."""

import shutil
from collections.abc import Mapping
from typing import Any

from diffgen.commands.cells import Cell
from diffgen.commands.lacon_sweep.aligners import Stored
from diffgen.commands.lacon_sweep.evidence import write_claim
from diffgen.commands.lacon_sweep.figures import cell_figures, over_seeds, real_figures
from diffgen.commands.lacon_sweep.grid import rows
from diffgen.commands.lacon_sweep.plot import draw_plot
from diffgen.commands.lacon_sweep.table import markdown
from diffgen.config.aligners import run_folder
from diffgen.config.command_line import read_yaml
from diffgen.config.lacon_sweep import LaconSweepConfig
from diffgen.config.source import resolve
from diffgen.files import write_file, write_json
from diffgen.sampling.sheet import contact_sheet

SCHEMA = "diffgen-lacon-sweep/1"
OVER_IMAGES = (
    "95 %, over images, by Student's t for fidelity, control and variation, by the jackknife for "
    "FID, precision and recall, by Wilson for class accuracy"
)
OVER_SEEDS = "95 %, Student's t over seeds"


def report(
    config: LaconSweepConfig,
    stored: Mapping[str, Stored],
    cells: Mapping[tuple[str, int, float, int], Cell],
) -> None:
    """Write everything; the table is printed too."""
    contents = {place: cell.content() or {} for place, cell in cells.items()}
    sweep = summary(config, stored, contents)
    write_json(config.out / "sweep.json", sweep)
    found = {(c["condition"], c["steps"], c["scale"]): c["figures"] for c in sweep["cells"]}
    text = "\n".join(markdown(found, sweep["real"], sweep))
    write_file(config.out / "sweep.md", lambda path: path.write_text(text + "\n", encoding="utf-8"))
    write_file(config.out / "plot.png", draw_plot(sweep))
    grid = contact_sheet(list(rows(config, stored, cells, sweep["size"])), scale=1)
    write_file(config.out / "grid.png", grid.save)
    shutil.rmtree(config.out / "cells" / "real.parts", ignore_errors=True)
    print(f"\n{text}\n\nsaved as {config.out}/sweep.json, sweep.md, plot.png and grid.png")
    if config.evidence is not None:
        verdict = write_claim(config, sweep).verdict
        print(f"claim {config.evidence}: {verdict}")


def summary(
    config: LaconSweepConfig,
    stored: Mapping[str, Stored],
    contents: Mapping[tuple[str, int, float, int], Mapping[str, Any]],
) -> dict[str, Any]:
    """What sweep.json holds."""
    seeds, scales = config.seeds, [0.0, *config.columns()]
    every = {
        (name, steps, scale): [
            cell_figures(contents[name, steps, scale, seed], name) for seed in seeds
        ]
        for name in config.conditions
        for steps in config.every_steps()
        for scale in scales
    }
    firsts = {
        name: contents[name, config.steps[0], scales[-1], seeds[0]] for name in config.conditions
    }
    some = firsts[config.conditions[0]]
    return {
        "schema": SCHEMA,
        "settings": config.model_dump(mode="json"),
        **{name: some[name] for name in ("size", "counts", "weights", "labels", "processes")},
        "training_seed": training_seed(config),
        "conditions": {
            name: facts(one, firsts[name]["measured"], name) for name, one in stored.items()
        },
        "again": some["measured"]["again"],
        "steps": config.every_steps(),
        "scales": scales,
        "seeds": seeds,
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
        "intervals": OVER_SEEDS if len(seeds) > 1 else OVER_IMAGES,
    }


def facts(stored: Stored, measured: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What is compared under a condition, who reads it, and by which aligner it is followed."""
    return {
        "figure": stored.condition.fidelity.name,
        "higher": stored.condition.fidelity.higher,
        "read_by": measured["read_by"][name],
        "until": measured["until"],
        "aligner": stored.digest,
    }


def training_seed(config: LaconSweepConfig) -> int | None:
    """That of the run the model is from; None: it is from none."""
    run = run_folder(resolve(config.source))
    if run is None or not (run / "config.yaml").is_file():
        return None
    seed = read_yaml(run / "config.yaml").get("seed")
    return seed if isinstance(seed, int) else None
