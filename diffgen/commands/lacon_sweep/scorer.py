"""Drawing, scoring and measuring one cell after the other."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from diffgen.commands.bench import Bench
from diffgen.commands.condition_kinds import own_size
from diffgen.commands.costs import cost
from diffgen.commands.drawing import Plan, as_conditions, read_drawn
from diffgen.commands.evaluate import Scored, score_on
from diffgen.commands.lacon_sweep.wanted import AGAIN, Wanted
from diffgen.commands.parts import Parts
from diffgen.commands.sweeps import over
from diffgen.config.base import parse_size
from diffgen.config.evaluate import EvaluateConfig
from diffgen.config.lacon_sweep import LaconCellConfig
from diffgen.data.pixels import from_uint8
from diffgen.group import Group
from diffgen.guidance import Constraint
from diffgen.lacon.fidelity import colour_error
from diffgen.lacon.load import ending, load_aligner
from diffgen.lacon.losses import Aligned
from diffgen.metrics.reader import load_reader


class Scorer:
    """Fills cells. All processes of ``group`` must make one, and call it alike.

    Args:
        wanted: what images shall match.
        config: of any cell.
        group: the processes.
        parts: folder for what is seen of the real pictures.

    Raises:
        UserError: anything a user can mend; see its message.
    """

    def __init__(self, wanted: Wanted, config: LaconCellConfig, group: Group, parts: Path) -> None:
        self.wanted, self.count = wanted, len(wanted.pictures)
        self.bench = Bench(config, group, parts, wanted.size)
        loaded = self.bench.model(config)
        names, pipe = loaded.source.every_name, loaded.pipe
        self.aligners, self.maps, self.real = {}, {}, {}
        with group.together():
            self.bench.counted()
            self.reader = load_reader(pipe.device)
            own = own_size(pipe, parse_size(wanted.size))
            for name, one in wanted.conditions.items():
                self.aligners[name] = load_aligner(
                    one.folder, pipe.transformer, "conditions", one.condition
                )
                self.maps[name] = one.condition.shrink(one.maps, own).to(pipe.device)
                if group.main:
                    self.real[name] = both(one.fidelity(wanted.pictures, self.reader))
        self.labels, self.rule = as_conditions(self.bench, self.count, names)

    def __call__(self, config: EvaluateConfig, parts: Path) -> Scored:
        """The evaluation of a cell, and beside its figures those of its constraint."""
        cell, group = cast(LaconCellConfig, config), self.bench.group
        plan, few = self.plan(cell), range(min(AGAIN, self.count))
        scored = score_on(self.bench, cell, parts, plan)
        shifted, unread = self.plan(cell, shift=1), Parts(parts, {})
        more = range(self.count, self.count + len(few))
        again = read_drawn(self.bench, cell, plan, unread, "again", more).pictures
        control = None
        if cell.late is not None:
            control = read_drawn(self.bench, cell, shifted, unread, "control", few).pictures
        with group.together():
            if group.main:
                images = scored.readings.images.pictures
                measured = self.measured(cell, images, again, control)
                unguided = cell.model_copy(update={"late": None})
                free = self.plan(unguided) if cell.late else None
                measured |= cost(self.bench, cell, plan, free, self.count)
                return scored._replace(content={**scored.content, "measured": measured})
        return scored

    def plan(self, cell: LaconCellConfig, shift: int = 0) -> Plan:
        """Image k under the map of picture k + ``shift``, in the class of picture k."""
        free, late = Plan(self.labels, self.rule, keep=self.count), cell.late
        if late is None:
            return free
        name = late.condition
        condition, aligner = self.wanted.conditions[name].condition, self.aligners[name]

        def constrain(numbers: Sequence[int]) -> list[Constraint]:
            maps = self.maps[name][[(n + shift) % self.count for n in numbers]]
            loss = Aligned(aligner, condition, maps)
            return [Constraint(loss, late.scale, late.form, late.until)]

        facts = {"late": late.model_dump(mode="json"), "maps": cell.conditions, "shift": shift}
        return replace(free, constrain=constrain, recurrence=late.recurrence, facts=facts)

    def measured(
        self, cell: LaconCellConfig, images: Tensor, again: Tensor, control: Tensor | None
    ) -> dict[str, Any]:
        """Fidelity, control and variation of a cell, and what real pictures get.

        ``images``: (N, 3, H, W) uint8; ``again`` and ``control``: n of them, drawn with other noise
        and under other maps (None: there are none).
        """
        found: dict[str, Any] = {"fidelity": {}, "first": {}, "control": {}}
        for name in cell.conditions:
            one = self.wanted.conditions[name]
            for what, value in both(one.fidelity(images, self.reader)).items():
                found[what][name] = value
            if control is not None:
                found["control"][name] = over(one.fidelity(control, self.reader))
        variation = colour_error(from_uint8(images[: len(again)]), from_uint8(again))
        until = None
        if late := cell.late:
            stated, folder = (
                self.aligners[late.condition].config,
                self.wanted.conditions[late.condition].folder,
            )
            until = ending(stated, late.until, "until", folder)
        return {
            **found,
            "real": {name: self.real[name] for name in cell.conditions},
            "variation": over(variation.tolist()),
            "again": len(again),
            "until": until,
        }


def both(values: list[float]) -> dict[str, Any]:
    """Fidelity of all images, and of the first ones, that a control is of."""
    return {"fidelity": over(values), "first": over(values[:AGAIN])}
