"""The cells of a table of evaluations: each is kept when it is done, so that a table goes on."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from diffgen.commands.evaluate import Scored
from diffgen.commands.saved_scores import FREE
from diffgen.config.evaluate import EvaluateConfig
from diffgen.config.guidance import AutoGuidanceConfig, with_guidance
from diffgen.config.source import resolve
from diffgen.data.pixels import to_pil
from diffgen.files import weights_digest, write_file, write_json
from diffgen.group import Group
from diffgen.metrics.read import Batch
from diffgen.signals import Interrupted

SPELLED = (*FREE, "source")  # the same model by another path is told by its weights
NEEDED = {"settings", "weights", "model", "pictures", "scores", "floor", "counts"}
Score: TypeAlias = Callable[[EvaluateConfig, Callable[[Batch], object]], Scored]
"""Evaluates, and shows every batch that is drawn."""


class ModelDigests(NamedTuple):
    """What tells one model from another."""

    weights: str
    settings: str
    """Of every JSON file of its pipeline."""


@dataclass(frozen=True)
class Cell:
    """One evaluation; its figures and its first pictures are two files."""

    file: Path
    """The figures."""
    config: EvaluateConfig
    pictures: int
    """How many are kept."""

    @property
    def picture(self) -> Path:
        """The first images, side by side."""
        return self.file.with_suffix(".png")

    @property
    def guide(self) -> str | None:
        """Source of the weaker model that guides it; None: there is none."""
        guidance = self.config.guidance
        if not isinstance(guidance, AutoGuidanceConfig):
            return None
        return guidance.guide or self.config.source

    def content(self) -> dict[str, Any] | None:
        """The figures; None: there are none that can be read."""
        try:
            found: dict[str, Any] = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        whole = isinstance(found, dict) and found.keys() >= NEEDED and readable(self.picture)
        return found if whole else None

    def up_to_date(self, models: Mapping[str, ModelDigests]) -> bool:
        """True where it holds the figures of its settings and models."""
        found = self.content()
        if found is None or found["pictures"] != self.pictures:
            return False
        stated = with_guidance(found["settings"])
        wanted = self.config.model_dump(mode="json")
        same = all(stated.get(k) == v for k, v in wanted.items() if k not in SPELLED)
        guide = models[self.guide].weights if self.guide else None
        drawn_by = (found["weights"], found["model"], found.get("guide_weights"))
        return same and drawn_by == (*models[self.config.source], guide)

    def fill(self, group: Group, model: ModelDigests, score: Score) -> None:
        """Draw, score and save it. All processes must call it."""
        shown: dict[int, Tensor] = {}

        def show(batch: Batch) -> None:
            numbers, images, _ = batch
            first = zip(numbers, images, strict=True)
            shown.update({k: image for k, image in first if k < self.pictures})

        scored = score(self.config, show)
        every = {k: z for part in group.everyones(shown) for k, z in part.items()}
        with group.together():
            if group.main:
                strip = torch.cat([every[k] for k in sorted(every)], dim=-1)
                write_file(self.picture, to_pil(strip[None])[0].save)
                more = {"pictures": self.pictures, "model": model.settings}
                write_json(self.file, {**scored.content, **more})


def fill_all(cells: Sequence[Cell], out: Path, group: Group, score: Score) -> None:
    """Fill the cells that are missing.

    Raises:
        UserError: anything a user can mend; see its message.
        Interrupted: a signal came; its message tells how many cells there are in ``out``.
    """
    with group.together():
        sources = {cell.config.source for cell in cells} | {cell.guide for cell in cells}
        models = {source: model_digests(source) for source in sources if source is not None}
        todo = [cell for cell in cells if not cell.up_to_date(models)]
    try:
        for cell in tqdm(todo, unit="cell", desc="cells", disable=not group.main):
            cell.fill(group, models[cell.config.source], score)
    except Interrupted as stop:
        there = sum(cell.up_to_date(models) for cell in cells)
        left = f"{there} of {len(cells)} cells are in {out}, the same command goes on"
        raise Interrupted(stop.signum, left) from None


def readable(picture: Path) -> bool:
    """True for a picture file that is there and whole."""
    try:
        with Image.open(picture) as image:
            image.load()
    except (OSError, SyntaxError):  # the second is Pillow's for a broken PNG
        return False
    return True


def model_digests(source: str) -> ModelDigests:
    """Read all files of the pipeline ``source`` names."""
    pipeline = resolve(source).pipeline
    settings = b"".join(path.read_bytes() for path in sorted(pipeline.rglob("*.json")))
    return ModelDigests(weights_digest(pipeline), hashlib.sha256(settings).hexdigest())
