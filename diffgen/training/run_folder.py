"""The folder of one training run: its settings, its log, and whether it may be resumed."""

import json
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from diffgen.config.base import Section
from diffgen.config.command_line import load, to_yaml
from diffgen.config.loop import LoopConfig
from diffgen.errors import UserError
from diffgen.files import write_file
from diffgen.training.checkpoints import Checkpoints, seen_of

# Settings that may differ when a run is resumed: they change no weight up to where it stands.
# The same up to rounding: how a batch lies in memory, and what computes.
FREE = (
    *("train.mixed", "train.token_budget", "train.compile"),
    *("device", "out", "source", "reuse", "track", "sampling", "report", "ema.export"),
    *("train.images", "train.workers", "data.on_error", "regression.train.workers"),
    *("validation", "train.gradient_checkpointing"),
    *("pairs.batch_size", "pairs.decode_batch_size", "pairs.decode_tiled"),
)
FREE_IN_TRAIN = (
    *("log_images", "sample_images", "checkpoint_images"),
    *("keep_checkpoints", "milestone_images"),
)


class RunFolder:
    """``runs/NAME/``: config.yaml, metrics.jsonl, samples/, checkpoints/, pipeline/.

    A run on latents also keeps its autoencoder, vae/, their normalisation, latents.json, and of
    prepared ones a digest, latents-source.json.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.metrics = path / "metrics.jsonl"
        self.validation = path / "validation.jsonl"
        self.samples = path / "samples"
        self.pipeline = path / "pipeline"
        self.vae = path / "vae"
        self.latents = path / "latents.json"

    def open(self, config: Section) -> None:
        """Make the folder, or check that the run in it is the one ``config`` describes.

        Newest checkpoints that are damaged are named and set aside.

        Raises:
            UserError: it holds another run (every differing field is named), none of its
                checkpoints is whole, or it cannot be made.
        """
        begun = any(self.path.glob("checkpoints/images-*")) or any(
            self.path.glob("regression/checkpoints/images-*")  # of a student
        )
        if begun:
            if not self.config.exists():
                raise UserError(
                    f"out: {self.config} is gone, so it cannot be told whether the run in "
                    f"{self.path} is this one; bring it back, or choose another --out"
                )
            differing = list(differences(load(type(config), self.config), config))
            if differing:
                lines = "\n".join(f"  {line}" for line in differing)
                raise UserError(
                    f"out: {self.path} holds a run with other settings; choose another --out, "
                    f"or take its settings with --config {self.config}\n{lines}"
                )
        stages = {"train": (self.path, getattr(config, "train", None))}
        if (regression := getattr(config, "regression", None)) is not None:  # of a student
            stages["regression.train"] = (self.path / "regression", regression.train)
        for field, (run, loop) in stages.items():
            Checkpoints(run).sweep()
            Checkpoints(run).set_aside_damaged(lambda line: print(line, file=sys.stderr))
            if loop is not None:
                _check_length(run, loop, f"{field}.images")
        write_file(self.config, lambda path: path.write_text(to_yaml(config), encoding="utf-8"))

    def log(self, line: dict[str, Any]) -> None:
        """Append a line to metrics.jsonl."""
        append_line(self.metrics, line)

    def log_validation(self, line: dict[str, Any]) -> None:
        """Append a line to validation.jsonl."""
        append_line(self.validation, line)

    def cut_log(self, seen: int) -> None:
        """Drop the lines of both logs beyond ``seen`` images, and one cut off by a kill."""
        for file in (self.metrics, self.validation):
            if file.exists():
                kept = [line for line in whole_lines(file) if line["images"] <= seen]
                write_file(file, partial(_write_lines, kept))

    def lines(self) -> Iterator[dict[str, Any]]:
        """The whole lines of metrics.jsonl."""
        return whole_lines(self.metrics)


def _check_length(run: Path, loop: LoopConfig, field: str) -> None:
    """Raise UserError if the training in ``run`` is beyond the length it is asked for."""
    newest = Checkpoints(run).newest()
    if newest is not None and seen_of(newest) >= loop.images + loop.batch_size:
        raise UserError(
            f"{field}: {loop.images:,}, but the training in {run} has seen {seen_of(newest):,}; "
            "give at least as many, or choose another --out"
        )


def _write_lines(lines: list[dict[str, Any]], file: Path) -> None:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def append_line(file: Path, line: dict[str, Any]) -> None:
    """Add a line of JSON. Raises UserError: no space or no permission."""
    try:
        with file.open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error}") from None


def whole_lines(file: Path) -> Iterator[dict[str, Any]]:
    """The lines of a log, up to one that a kill cut off."""
    for text in file.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(text)
        except json.JSONDecodeError:
            return


def differences(old: Section, new: Section) -> Iterator[str]:
    """Fields, as ``name: old value there, new value here``, that forbid resuming."""
    before, now = (flatten(config.model_dump(mode="json")) for config in (old, new))
    for name in sorted(before.keys() | now.keys()):
        section, (place, _, field) = name.partition(".")[0], name.rpartition(".")
        in_train = place in ("train", "regression.train") and field in FREE_IN_TRAIN
        free = name in FREE or section in FREE or in_train
        if not free and not _same(before.get(name), now.get(name)):
            yield f"{name}: {before.get(name)} there, {now.get(name)} here"


def _same(one: Any, other: Any) -> bool:
    """True for equal values, and for two ways to write the place of a file or folder there is."""
    if not (isinstance(one, str) and isinstance(other, str)) or one == other:
        return bool(one == other)
    return os.path.exists(one) and os.path.realpath(one) == os.path.realpath(other)


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mapping -> one of dotted names."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat
