"""Drawing, scoring and measuring one cell after the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any, cast

from torch import Tensor

from diffgen.commands.drawing import Plan, drawn, read_drawn
from diffgen.commands.evaluate import Scored, score_on
from diffgen.commands.lacon_sweep.aligners import Stored
from diffgen.commands.lacon_sweep.figures import over_images
from diffgen.commands.lacon_sweep.opened import Opened, open_all
from diffgen.commands.parts import Parts
from diffgen.config.base import parse_size
from diffgen.config.evaluate import EvaluateConfig
from diffgen.config.lacon_cell import LaconCellConfig, LateConfig
from diffgen.data.pixels import from_uint8
from diffgen.group import Group
from diffgen.guidance import Constraint
from diffgen.lacon.fidelity import colour_error
from diffgen.lacon.losses import Aligned

AGAIN = 64
"""Images that are drawn once more: with other noise, and under another picture's map."""
TIMED, PAIRS = 16, 3
"""Images that are drawn by turns with and without a constraint for its cost, and how often."""


@dataclass(frozen=True)
class Scorer:
    """Fills cells; everything is opened at the first.

    Args:
        stored: conditions and aligners.
        config: of any cell.
        group: the processes; all must call it.
        parts: folder for what is seen of the real pictures.
    """

    stored: Mapping[str, Stored]
    config: LaconCellConfig
    group: Group
    parts: Path

    @cached_property
    def opened(self) -> Opened:
        """What cells share."""
        return open_all(self.stored, self.config, self.group, self.parts)

    def __call__(self, config: EvaluateConfig, parts: Path) -> Scored:
        """The evaluation of a cell, and beside its figures those of its constraint."""
        cell = cast(LaconCellConfig, config)
        seconds: list[float] = []
        plan = replace(self.plan(cell.late), timed=seconds.append)
        scored = score_on(self.opened.bench, cell, parts, plan)
        again, control = self.redrawn(cell, plan, parts)
        with self.group.together():
            if self.group.main:
                pictures = scored.readings.images.pictures
                measured = self.measured(cell, pictures, again, control)
                pairs = self.in_turn(cell, plan) if cell.late or not seconds else []
                measured["seconds"] = median(seconds or [guided for guided, _ in pairs])
                measured["times"] = median(a / b for a, b in pairs) if cell.late else 1.0
                return scored._replace(content={**scored.content, "measured": measured})
        return scored

    def plan(self, late: LateConfig | None, shift: int = 0) -> Plan:
        """Image k under the map of picture k + ``shift``, in the class of picture k."""
        opened = self.opened
        free = Plan(opened.labels, opened.rule, keep=opened.count)
        if late is None:
            return free
        height, width = parse_size(opened.bench.size)
        pipe = opened.bench.model(self.config).pipe
        _, *size = pipe.geometry.shape(height, width)
        condition, aligner = opened.conditions[late.condition], opened.aligners[late.condition]

        def constrain(numbers: Sequence[int]) -> list[Constraint]:
            places = [(n + shift) % opened.count for n in numbers]
            maps = condition.shrink(opened.wanted.maps(condition, places), (size[0], size[1]))
            loss = Aligned(aligner, condition, maps.to(pipe.device))
            return [Constraint(loss, late.scale, late.form, late.until)]

        facts = {"late": late.model_dump(mode="json"), "shift": shift}
        return replace(free, constrain=constrain, recurrence=late.recurrence, facts=facts)

    def redrawn(
        self, config: LaconCellConfig, plan: Plan, parts: Path
    ) -> tuple[Tensor, Tensor | None]:
        """The first images of ``plan`` with other noise, and with the same under other maps.

        Both (n, 3, H, W) uint8; None: there are no maps.
        """
        bench, count, unread = self.opened.bench, self.opened.count, Parts(parts, {})
        further = range(count, count + min(AGAIN, count))
        again = read_drawn(bench, config, plan, unread, "again", further).pictures
        if config.late is None:
            return again, None
        other = replace(self.plan(config.late, shift=1), timed=plan.timed)
        first = range(len(further))
        return again, read_drawn(bench, config, other, unread, "another", first).pictures

    def measured(
        self, config: LaconCellConfig, pictures: Tensor, again: Tensor, control: Tensor | None
    ) -> dict[str, Any]:
        """Fidelity and control of a cell, what real pictures get, and variation.

        Args:
            config: of the cell.
            pictures: (N, 3, H, W) uint8, its images.
            again, control: as of ``redrawn``.
        """
        opened, judge, late = self.opened, self.opened.judge, config.late
        chosen = {name: opened.conditions[name] for name in config.conditions}

        def fidelity(images: Tensor) -> dict[str, Any]:
            return {n: over_images(judge.fidelity(c, images)) for n, c in chosen.items()}

        variation = colour_error(from_uint8(pictures[: len(again)]), from_uint8(again))
        return {
            "fidelity": fidelity(pictures),
            "control": {} if control is None else fidelity(control),
            "real": {n: over_images(judge.ceiling(c, len(pictures))) for n, c in chosen.items()},
            "read_by": {n: judge.named(c) for n, c in chosen.items()},
            "variation": over_images(variation.tolist()),
            "again": len(again),
            "until": None if late is None else self.ends(late),
        }

    def ends(self, late: LateConfig) -> float:
        """The time a constraint ends at."""
        own = float(self.opened.aligners[late.condition].config.until)
        return own if late.until is None else late.until

    def in_turn(self, config: LaconCellConfig, plan: Plan) -> list[tuple[float, float]]:
        """Seconds an image of the same few under ``plan`` and unguided, drawn by turns.

        A machine's speed may change from one cell to the next, hardly from one batch to the next.
        """
        opened, seconds = self.opened, list[float]()
        numbers = range(min(TIMED, config.batch_size, opened.count))
        loaded = opened.bench.model(config)
        for one in (plan, self.plan(None)) * PAIRS:
            told = replace(one, timed=seconds.append)
            list(drawn(loaded, config, told, opened.bench.size, numbers, [numbers]))
        return list(zip(seconds[::2], seconds[1::2], strict=True))
