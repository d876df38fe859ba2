"""The students of the rows: how each is trained, and whether one lies there already."""

import math

from diffgen.commands.nitro.scores import Scores
from diffgen.commands.nitro_eval.heads import heads_of
from diffgen.commands.nitro_eval.stopped import stopped
from diffgen.config.command_line import load
from diffgen.config.nitro import NitroConfig
from diffgen.config.nitro_eval import NitroEvalConfig, RowName
from diffgen.config.source import Source
from diffgen.errors import UserError
from diffgen.training.checkpoints import Checkpoints, seen_of
from diffgen.training.run_folder import RunFolder, differences

SEVERAL: tuple[RowName, ...] = ("student", "pool", "fixed", "refresh_0", "refresh_1")
"""Rows trained with every seed."""
REGRESSIONS: tuple[RowName, ...] = ("regression", "regression_longer")
"""Rows whose regression is scored; their adversarial stage is of a single batch."""
SECOND_STAGE = (
    *("real", "data", "heads", "one_step", "optimizer", "schedule", "ema", "train", "score"),
)
"""Options that change no regression."""
DECIDING = ("images", "checkpoint_images")
"""Of train: to resume they are free, but they decide where the learning rate ends, and which
checkpoints the best is chosen from."""
FIRST: RowName = "regression"
"""The row whose pairs all others take over, and its regression."""


def student_of(config: NitroEvalConfig, name: RowName, seed: int, source: Source) -> NitroConfig:
    """What train/nitro.py is asked for, to train row ``name`` with ``seed``.

    Args:
        config: as ``settled`` leaves it.
        name: of a row that is trained.
        seed: of its adversarial stage.
        source: the teacher.
    """
    values = config.model_dump(include=set(NitroConfig.model_fields))
    values |= {"seed": seed, "out": config.out / f"{name}-{seed}"}
    values["score"]["collapse"] = 0.0  # a collapse is a result: its best checkpoint is scored
    if name != FIRST:
        values["reuse"] = config.out / f"{FIRST}-{config.seeds[0]}"
    if name in REGRESSIONS:
        values["train"]["images"] = config.train.batch_size
        if name != FIRST:
            values["regression"]["train"]["images"] += config.ablation_images
    elif name != "student":
        values["steps"] = 1
        values["train"]["images"] = config.ablation_images
        values["heads"] |= heads_of(config.heads, name, source)
    return NitroConfig.model_validate(values)


def is_trained(name: RowName, config: NitroConfig) -> bool:
    """Whether the student of row ``name`` lies in its folder as ``config`` asks, to its end.

    It has ended too where its loss became NaN or infinite.

    Raises:
        UserError: the folder holds a student of other settings, or of another length.
    """
    assert config.out is not None
    folder = RunFolder(config.out)
    newest = Checkpoints(folder.path).newest()
    ended = stopped(folder.path) is not None
    if (newest is None and not ended) or not folder.config.exists():
        return False
    stated = load(NitroConfig, folder.config)
    if differing := list(unlike(name, stated, config)):
        raise UserError(
            f"out: {folder.path} holds a student of other settings; choose another --out, or "
            "remove it\n" + "\n".join(f"  {line}" for line in differing)
        )
    size = stated.train.batch_size
    end = size * math.ceil(stated.train.images / size)
    if newest is not None and seen_of(newest) >= end:
        lines = Scores(folder.path).all()
        ended |= bool(lines) and lines[-1]["images"] >= end  # else a kill came before its score
    return ended and folder.pipeline.exists()


def unlike(name: RowName, stated: NitroConfig, wanted: NitroConfig) -> list[str]:
    """What of ``stated`` is not as ``wanted`` for row ``name``, a line each."""
    free = ("reuse", *(SECOND_STAGE if name in REGRESSIONS else ()))
    wanted = wanted.model_copy(update={field: getattr(stated, field) for field in free})
    score = wanted.score.model_copy(update={"collapse": stated.score.collapse})
    differing = list(differences(stated, wanted.model_copy(update={"score": score})))
    for field in DECIDING:
        there, here = getattr(stated.train, field), getattr(wanted.train, field)
        if there != here:
            differing.append(f"train.{field}: {there} there, {here} here")
    return differing
