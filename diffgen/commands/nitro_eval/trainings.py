"""The students of the rows: how each is trained, and whether one lies there already."""

import math
from typing import Any, get_args

from diffgen.config.command_line import load
from diffgen.config.nitro import HeadsConfig, NitroConfig
from diffgen.config.nitro_eval import NitroEvalConfig, RowName
from diffgen.config.source import Source
from diffgen.config.stored import read_json
from diffgen.errors import UserError
from diffgen.nitro.features import spread_taps
from diffgen.nitro.pool import head_types
from diffgen.training.checkpoint import Checkpoints, seen_of
from diffgen.training.run_folder import RunFolder, differences

LOSSES: tuple[str, ...] = get_args(HeadsConfig.model_fields["loss"].annotation)
SEVERAL: tuple[RowName, ...] = ("student", "pool", "fixed", "refresh_0")
"""Rows trained with every seed."""
REGRESSIONS: tuple[RowName, ...] = ("regression", "regression_longer")
"""Rows whose first stage is scored; their second is of a single batch."""
SECOND_STAGE = (
    *("real", "data", "heads", "one_step", "optimizer", "schedule", "ema", "train", "score"),
)
"""Options that change no regression."""
FIRST: RowName = "regression"
"""The row whose pairs all others take over, and its regression."""


def student_of(config: NitroEvalConfig, name: RowName, seed: int, source: Source) -> NitroConfig:
    """What train/nitro.py is asked for, to train row ``name`` with ``seed``.

    Args:
        config: as ``settled`` leaves it.
        name: of a row that is trained.
        seed: of its second stage.
        source: the teacher.
    """
    values = config.model_dump(include=set(NitroConfig.model_fields))
    values |= {"seed": seed, "out": config.out / f"{name}-{seed}"}
    if name != FIRST:
        values["reuse"] = config.out / f"{FIRST}-{config.seeds[0]}"
    if name in REGRESSIONS:
        values["train"]["images"] = config.train.batch_size
        if name != FIRST:
            values["regression"]["train"]["images"] += config.ablation_images
    elif name != "student":
        values["steps"] = 1
        values["train"]["images"] = config.ablation_images
        values["heads"] |= heads_of(config, name, source)
        values["score"]["collapse"] = 0.0  # a collapse is a result: its best checkpoint is scored
    return NitroConfig.model_validate(values)


def heads_of(config: NitroEvalConfig, name: RowName, source: Source) -> dict[str, Any]:
    """The options of heads.* that make the row."""
    heads = config.heads
    if name in LOSSES:
        return {"loss": name}
    if name == "fixed":
        types = len(head_types(heads.local, heads.unconditional))
        cells = types * len(spread_taps(depth(source)))
        return {"pool": cells, "by_level": False, "share": 1, "refresh": 0.0}
    changes: dict[RowName, dict[str, Any]] = {
        "refresh_0": {"refresh": 0.0},
        "refresh_5": {"refresh": 0.05},
        "no_local": {"local": False, "unconditional": False},
        "no_unconditional": {"unconditional": False},
    }
    return changes.get(name, {})


def depth(source: Source) -> int:
    """Blocks of the teacher."""
    file = source.pipeline / "transformer" / "config.json"
    settings = read_json(file, "source", f"{file} is missing")
    return int(settings["num_layers" if source.diffusers else "depth"])


def is_trained(name: RowName, config: NitroConfig) -> bool:
    """Whether the student of row ``name`` lies in its folder as ``config`` asks, to its end.

    Raises:
        UserError: the folder holds a student of other settings, or of another length.
    """
    assert config.out is not None
    folder = RunFolder(config.out)
    newest = Checkpoints(folder.path, config.train.keep_checkpoints).newest()
    if newest is None or not folder.config.exists():
        return False
    stated = load(NitroConfig, folder.config)
    free = ("reuse", *(SECOND_STAGE if name in REGRESSIONS else ()))
    wanted = config.model_copy(update={field: getattr(stated, field) for field in free})
    differing = list(differences(stated, wanted))
    images, size = wanted.train.images, wanted.train.batch_size
    if stated.train.images != images:  # the learning rate would have fallen to another end
        differing.append(f"train.images: {stated.train.images} there, {images} here")
    if differing:
        raise UserError(
            f"out: {folder.path} holds a student of other settings; choose another --out, or "
            "remove it\n" + "\n".join(f"  {line}" for line in differing)
        )
    return seen_of(newest) >= size * math.ceil(images / size) and folder.pipeline.exists()
