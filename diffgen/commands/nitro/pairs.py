"""The first thing a distillation needs: the teacher's images, from noise that is known."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffgen.commands.digests import guide_digest
from diffgen.commands.nitro.distillation import Distillation
from diffgen.commands.shared_drawing import draw_shared
from diffgen.config.command_line import load
from diffgen.config.guidance import AutoGuidanceConfig, with_guidance
from diffgen.config.nitro import NitroConfig
from diffgen.config.nitro_fit import PAIRS
from diffgen.config.nitro_stages import RegressionConfig
from diffgen.config.positions import PositionOverrides
from diffgen.config.stored import read_json
from diffgen.errors import UserError
from diffgen.files import link_folder, write_folder, write_json
from diffgen.guidance.build import build_rule
from diffgen.metrics.shards import Shards
from diffgen.nitro.pairs import Pairs, make_pairs, pair_seed, shard_size
from diffgen.sampling.batches import set_up
from diffgen.signals import Interrupted
from diffgen.training.run_folder import FREE_IN_TRAIN

SHARED = ("pairs", "regression")
"""Folders that another student of the same teacher can take over."""


def take_over(distilling: Distillation) -> None:
    """Link what another student of the same teacher and settings has made already.

    Where its regression is of other settings, the pairs alone.

    Raises:
        UserError: its pairs are of another teacher or of other settings, or its regression is not
            finished.
    """
    config, out = distilling.config, distilling.folder.path
    reuse = config.reuse
    if reuse is None or all((out / name).exists() for name in SHARED):
        return
    there = read_json(reuse / PAIRS, "reuse", f"{reuse} holds no pairs ({PAIRS} is missing)")
    _same_facts("reuse", (reuse / PAIRS).parent, there, facts_of(distilling), "reuse another's")
    alike = _same_regression(load(NitroConfig, reuse / "config.yaml"), config)
    if alike and not (reuse / "regression" / "pipeline").exists():
        raise UserError(f"reuse: {reuse} holds no finished regression; finish that one first")
    for name in SHARED if alike else SHARED[:1]:
        if not (out / name).exists():
            write_folder(out / name, partial(_link, reuse / name))
    if not alike:
        print(f"reuse: {reuse} has a regression of other settings; its pairs are taken over")


def _same_regression(stated: NitroConfig, config: NitroConfig) -> bool:
    """Whether a regression of ``stated`` serves ``config``; one of more steps does."""
    served = not config.regression.later or set(config.times) <= set(stated.times)
    return (
        served
        and stated.timestep_shift == config.timestep_shift
        and _deciding(stated.regression) == _deciding(config.regression)
    )


def _deciding(regression: RegressionConfig) -> dict[str, Any]:
    """All but how often the training is looked at."""
    return regression.model_dump(exclude={"train": {*FREE_IN_TRAIN, "workers"}})


def _link(source: Path, target: Path) -> None:
    target.rmdir()
    link_folder(source, target)


def prepare_pairs(distilling: Distillation) -> Pairs:
    """The pairs, those that are missing drawn first. All processes must call it.

    Raises:
        UserError: the folder holds pairs of another teacher or of other settings.
    """
    group = distilling.group
    with group.together():
        place = distilling.folder.path / "pairs"
        if group.main:
            _open(distilling, place)
    with group.together():
        pairs = opened(distilling, place)
        missing = pairs.shards.missing()
    if missing:
        _draw(distilling, pairs, missing)
    return pairs


def opened(distilling: Distillation, place: Path) -> Pairs:
    """The pairs of a folder; there may be some missing."""
    file = place / PAIRS.name
    facts = read_json(file, "out", f"{file} is missing")
    pipe = distilling.pipe
    names, count = tuple(pipe.config.class_names), pipe.transformer.num_classes
    shards = Shards(place, facts["count"], shard_size(facts["count"]))
    return Pairs(shards, names, count, facts["seed"])


def facts_of(distilling: Distillation) -> dict[str, Any]:
    """What decides the pairs, but for their seed."""
    config = distilling.config
    free = {"batch_size", "decode_batch_size", "decode_tiled", "count"}
    settings = with_guidance(config.pairs.model_dump(mode="json", exclude=free))
    guidance = config.pairs.guidance
    guide = None
    if isinstance(guidance, AutoGuidanceConfig):
        guide = guide_digest(guidance, config.source)
    return {
        "teacher": distilling.teacher,
        "guide": guide,
        "settings": settings,
        "count": config.pairs.count,
    }


def _open(distilling: Distillation, place: Path) -> None:
    """Write what the pairs are, or compare it with what is there."""
    wanted = facts_of(distilling)
    file = place / PAIRS.name
    if not file.exists():
        place.mkdir(parents=True, exist_ok=True)
        write_json(file, {**wanted, "seed": pair_seed(distilling.config.seed)})
        return
    there = read_json(file, "out", f"{file} is missing")
    remedy = f"choose another --out, or remove the whole folder {place.parent}"
    _same_facts("pairs", place, there, wanted, remedy)


def _same_facts(
    field: str, place: Path, there: dict[str, Any], wanted: dict[str, Any], remedy: str
) -> None:
    """Raise UserError if the pairs in ``place``, of which ``there`` is told, are not as wanted."""
    for name, value in wanted.items():
        if there.get(name) != value:
            weights = name in ("teacher", "guide")
            shown = "" if weights else f": {there.get(name)} there, {value} here"
            raise UserError(
                f"{field}: {place} was drawn with another {name.rstrip('s')}{shown}; {remedy}"
            )


def _draw(distilling: Distillation, pairs: Pairs, missing: list[range]) -> None:
    """Draw the images of the files that are ``missing``, and store them."""
    config, pipe = distilling.config.pairs, distilling.pipe
    with distilling.group.together():
        set_up(pipe, config, distilling.guide)
        rule = build_rule(config.guidance)

    def draw(numbers: list[int], labels: Tensor) -> Tensor:
        x0: Tensor = pipe(
            class_labels=labels,
            num_inference_steps=config.steps,
            guidance=rule,
            seed=pairs.seed,
            image_numbers=numbers,
            output_type="latent",
            time_shift=config.time_shift,
            guide=distilling.guide,
        ).images
        if not bool(torch.isfinite(x0).all()):
            raise UserError(
                "pairs: the teacher's images are not finite; its guidance is too strong"
            )
        return x0

    def store(numbers: Sequence[int]) -> None:
        make_pairs(pairs, numbers, draw, config.batch_size)

    try:
        draw_shared(missing, len(pairs), store, distilling.group)
    except Interrupted as stop:
        there = pairs.shards.count - sum(map(len, pairs.shards.missing()))
        left = f"{there} of {len(pairs)} of the teacher's images are kept, the same command goes on"
        raise Interrupted(stop.signum, left) from None
    finally:  # students are trained with the encoding as the model states it
        pipe.transformer.use_position(PositionOverrides())
