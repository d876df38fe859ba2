"""The folder of one training run: its settings, its log, and whether it may be resumed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diffgen.config.base import Section
from diffgen.config.command_line import load, to_yaml
from diffgen.errors import UserError
from diffgen.files import write_file

# Settings that may differ when a run is resumed: they change no weight up to where it stands.
# The same up to rounding: how a batch lies in memory.
FREE = (
    *("train.mixed", "train.token_budget"),
    *("device", "out", "source", "reuse", "track", "sampling", "report", "ema.export"),
    *("train.images", "train.workers", "data.on_error", "regression.train.workers"),
    *("pairs.batch_size", "pairs.decode_batch_size", "pairs.decode_tiled"),
)
FREE_IN_TRAIN = ("log_images", "sample_images", "checkpoint_images", "keep_checkpoints")


class RunFolder:
    """``runs/NAME/``: config.yaml, metrics.jsonl, samples/, checkpoints/, pipeline/.

    A run on latents also keeps its autoencoder, vae/, and their normalisation, latents.json.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.metrics = path / "metrics.jsonl"
        self.samples = path / "samples"
        self.pipeline = path / "pipeline"
        self.vae = path / "vae"
        self.latents = path / "latents.json"

    def open(self, config: Section) -> None:
        """Make the folder, or check that the run in it is the one ``config`` describes.

        Raises:
            UserError: it holds another run (every differing field is named), or cannot be made.
        """
        begun = any(self.path.glob("checkpoints/images-*")) or any(
            self.path.glob("regression/checkpoints/images-*")  # of a student
        )
        if self.config.exists() and begun:
            differing = list(differences(load(type(config), self.config), config))
            if differing:
                lines = "\n".join(f"  {line}" for line in differing)
                raise UserError(
                    f"out: {self.path} holds a run with other settings; choose another --out, "
                    f"or take its settings with --config {self.config}\n{lines}"
                )
        write_file(self.config, lambda path: path.write_text(to_yaml(config), encoding="utf-8"))

    def log(self, line: dict[str, Any]) -> None:
        """Append a line to metrics.jsonl."""
        try:
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise UserError(f"{self.metrics} cannot be written: {error}") from None

    def cut_log(self, seen: int) -> None:
        """Drop the lines of metrics.jsonl beyond ``seen`` images, and one cut off by a kill."""
        if not self.metrics.exists():
            return
        kept = [line for line in self.lines() if line["images"] <= seen]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_file(self.metrics, lambda path: path.write_text(text, encoding="utf-8"))

    def lines(self) -> Iterator[dict[str, Any]]:
        """The whole lines of metrics.jsonl."""
        for text in self.metrics.read_text(encoding="utf-8").splitlines():
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
        if not free and before.get(name) != now.get(name):
            yield f"{name}: {before.get(name)} there, {now.get(name)} here"


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mapping -> one of dotted names."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat
