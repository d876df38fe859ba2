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

from diffgen.commands.evaluate import Scored
from diffgen.commands.origins import Origin, origin_of
from diffgen.commands.parts import held
from diffgen.commands.saved_scores import FREE
from diffgen.config.evaluate import EvaluateConfig
from diffgen.config.guidance import AutoGuidanceConfig, with_guidance
from diffgen.data.pixels import to_pil
from diffgen.device import on_cpu
from diffgen.files import locked, write_file, write_json
from diffgen.group import Group
from diffgen.signals import Interrupted

SPELLED = (*FREE, "source")  # the same model by another path is told by its weights
NEEDED = {
    *("settings", "weights", "model", "pictures", "extractor", "further"),
    *("scores", "intervals", "floor", "counts"),
}
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
    def named(self) -> tuple[Any, ...]:
        """What names its models, reference and networks: cells that agree have the same origin."""
        config, guidance = self.config, self.config.guidance
        guide = guidance.named if isinstance(guidance, AutoGuidanceConfig) else None
        weights = tuple(network.weights for network in config.extractors())
        return config.source, config.vae, guide, config.reference, weights

    def content(self) -> dict[str, Any] | None:
        """The figures; None: there are none that can be read."""
        try:
            found: dict[str, Any] = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        whole = isinstance(found, dict) and found.keys() >= NEEDED and readable(self.picture)
        return found if whole else None

    def up_to_date(self, origin: Origin) -> bool:
        """True where it holds the figures of its settings and of ``origin``."""
        found = self.content()
        if found is None or found["pictures"] != self.pictures:
            return False
        try:
            stated = with_guidance(found["settings"])
        except (ValueError, TypeError, AttributeError):  # of another version, or none of ours
            return False
        wanted = self.config.model_dump(mode="json")
        same = all(stated.get(k) == v for k, v in wanted.items() if k not in SPELLED)
        return same and origin.is_of(found)

    def fill(self, group: Group, origin: Origin, score: Score) -> None:
        """Draw, score and save it. All processes must call it."""
        parts = self.file.with_suffix(".parts")
        with held(parts, group):
            scored = score(self.config, parts)
            with group.together():
                if group.main:
                    first = scored.readings.images.pictures[: self.pictures]
                    strip = torch.cat(list(first), dim=-1)
                    write_file(self.picture, to_pil(strip[None])[0].save)
                    more = {"pictures": self.pictures, **origin.stated}
                    write_json(self.file, {**scored.content, **more})


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
        fill_all(distinct, out, group, lambda: scorer(cells, group))
        with group.together():
            if group.main:
                report(cells)
    group.leave()


def fill_all(cells: Sequence[Cell], out: Path, group: Group, scorer: Callable[[], Score]) -> None:
    """Fill the cells that are missing; what fills them is opened only where one is.

    Raises:
        UserError: anything a user can mend; see its message.
        Interrupted: a signal came; its message tells how many cells there are in ``out``.
    """
    with group.together():
        known: dict[Any, Origin] = {}  # a digest reads every file: once for cells of one origin
        for cell in cells:
            if cell.named not in known:
                known[cell.named] = origin_of(cell.config)
        todo = [cell for cell in cells if not cell.up_to_date(known[cell.named])]
        others = sum(cell.content() is not None for cell in todo)
        if others and group.main:
            print(
                f"{out}: {others} cells of other settings, models or references are drawn anew",
                file=sys.stderr,
            )
    try:
        if todo:
            score = scorer()
        for cell in tqdm(todo, unit="cell", desc="cells", disable=not group.main):
            cell.fill(group, known[cell.named], score)
    except Interrupted as stop:
        there = sum(cell.up_to_date(known[cell.named]) for cell in cells)
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
