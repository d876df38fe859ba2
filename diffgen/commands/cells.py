"""The cells of a table of evaluations: each is kept when it is done, so that a table goes on."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from PIL import Image
from tqdm import tqdm

from diffgen.commands.digests import guide_digest, model_digests
from diffgen.commands.evaluate import Scored
from diffgen.commands.parts import remove
from diffgen.commands.saved_scores import FREE
from diffgen.config.evaluate import EvaluateConfig
from diffgen.config.guidance import AutoGuidanceConfig, with_guidance
from diffgen.data.pixels import to_pil
from diffgen.device import on_cpu
from diffgen.files import locked, write_file, write_json
from diffgen.group import Group
from diffgen.signals import Interrupted

SPELLED = (*FREE, "source")  # the same model by another path is told by its weights
NEEDED = {"settings", "weights", "model", "pictures", "scores", "intervals", "floor", "counts"}
Models: TypeAlias = tuple[str, str, str | None]
Score: TypeAlias = Callable[[EvaluateConfig, Path], Scored]
"""Evaluates, with a folder for what is not done yet."""


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
    def models(self) -> tuple[Any, ...]:
        """What names its models: cells that agree here are drawn by the same."""
        guidance = self.config.guidance
        guide = guidance.named if isinstance(guidance, AutoGuidanceConfig) else None
        return self.config.source, self.config.vae, guide

    def content(self) -> dict[str, Any] | None:
        """The figures; None: there are none that can be read."""
        try:
            found: dict[str, Any] = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        whole = isinstance(found, dict) and found.keys() >= NEEDED and readable(self.picture)
        return found if whole else None

    def drawn_by(self) -> Models:
        """Digests of the models as they are now: of weights, settings, and the guide's of both."""
        config, guidance = self.config, self.config.guidance
        guide = None
        if isinstance(guidance, AutoGuidanceConfig):
            guide = guide_digest(guidance, config.source)
        return (*model_digests(config.source, config.vae), guide)

    def up_to_date(self, models: Models) -> bool:
        """True where it holds the figures of its settings and ``models``."""
        found = self.content()
        if found is None or found["pictures"] != self.pictures:
            return False
        try:
            stated = with_guidance(found["settings"])
        except (ValueError, TypeError, AttributeError):  # of another version, or none of ours
            return False
        wanted = self.config.model_dump(mode="json")
        same = all(stated.get(k) == v for k, v in wanted.items() if k not in SPELLED)
        return same and models == (found["weights"], found["model"], found.get("guide_weights"))

    def fill(self, group: Group, models: Models, score: Score) -> None:
        """Draw, score and save it. All processes must call it."""
        scored = score(self.config, self.file.with_suffix(".parts"))
        with group.together():
            if group.main:
                first = scored.readings.images.pictures[: self.pictures]
                strip = torch.cat(list(first), dim=-1)
                write_file(self.picture, to_pil(strip[None])[0].save)
                more = {"pictures": self.pictures, "model": models[1]}
                write_json(self.file, {**scored.content, **more})
                remove(scored.shards)


Table: TypeAlias = Mapping[Any, Cell]
"""Cells by their place; several places may show one."""


def fill_table(
    out: Path,
    device: str,
    table: Callable[[], Table],
    scorer: Callable[[Table, Group], Score],
    report: Callable[[Table], object],
) -> None:
    """Fill the cells of ``table`` in the folder ``out`` that are missing, then ``report``.

    Raises:
        UserError: anything a user can mend; see its message.
        Interrupted: a signal came; its message tells how many cells there are.
    """
    group = Group.join(cpu=on_cpu(device))
    with ExitStack() as lock:
        with group.together():
            if group.main:
                out.mkdir(parents=True, exist_ok=True)
                lock.enter_context(locked(out))
            cells = table()
        distinct = list({cell.file: cell for cell in cells.values()}.values())
        fill_all(distinct, out, group, scorer(cells, group))
        with group.together():
            if group.main:
                report(cells)
    group.leave()


def fill_all(cells: Sequence[Cell], out: Path, group: Group, score: Score) -> None:
    """Fill the cells that are missing.

    Raises:
        UserError: anything a user can mend; see its message.
        Interrupted: a signal came; its message tells how many cells there are in ``out``.
    """
    with group.together():
        known: dict[Any, Models] = {}  # a digest reads every file: once for cells of one model
        for cell in cells:
            if cell.models not in known:
                known[cell.models] = cell.drawn_by()
        todo = [cell for cell in cells if not cell.up_to_date(known[cell.models])]
        others = sum(cell.content() is not None for cell in todo)
        if others and group.main:
            print(
                f"{out}: {others} cells of other settings or models are drawn anew", file=sys.stderr
            )
    try:
        for cell in tqdm(todo, unit="cell", desc="cells", disable=not group.main):
            cell.fill(group, known[cell.models], score)
    except Interrupted as stop:
        there = sum(cell.up_to_date(known[cell.models]) for cell in cells)
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
