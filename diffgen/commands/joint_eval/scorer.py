"""Drawing, scoring and measuring one cell after the other."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Literal, cast

import torch

from diffgen.commands.bench import Bench
from diffgen.commands.condition_kinds import own_size
from diffgen.commands.drawing import Draw, Plan, drawn, read_drawn
from diffgen.commands.drawn_classes import AS_CONDITIONS, IN_TURN, same_classes
from diffgen.commands.evaluate import Scored, score_on
from diffgen.commands.joint_eval.draws import AsDrawn, ByChannels, Jointly
from diffgen.commands.joint_eval.measures import AGAIN, rows_of
from diffgen.commands.lacon_sweep.wanted import Wanted
from diffgen.commands.parts import Parts
from diffgen.commands.sweeps import figure
from diffgen.config.base import parse_size
from diffgen.config.evaluate import EvaluateConfig
from diffgen.config.joint_eval import JointCellConfig, JointEvalConfig
from diffgen.data.pixels import from_uint8
from diffgen.group import Group
from diffgen.guidance import Constraint
from diffgen.joint.channels import load_channels
from diffgen.joint.load import load_adapter
from diffgen.joint.pictures import IMAGE
from diffgen.joint.pipeline import JointPipeline
from diffgen.lacon.load import load_aligner
from diffgen.lacon.losses import Aligned
from diffgen.metrics.reader import load_reader
from diffgen.sampling.batches import labels_in_turn

Inverse = Literal["maps", "untold"]
INVERSE: tuple[Inverse, ...] = ("maps", "untold")
"""Rows of maps that are drawn from pictures: told their class, and not."""
TIMED, PAIRS = 16, 3
"""Images that are drawn by turns with and without a map for the time, and how often."""


class Scorer:
    """Fills cells. All processes of ``group`` must make one, and call it alike.

    Args:
        config: of all cells.
        wanted: what images shall match.
        group: the processes.
        parts: folder for what is seen of the real pictures.

    Raises:
        UserError: anything a user can mend; see its message.
    """

    def __init__(self, config: JointEvalConfig, wanted: Wanted, group: Group, parts: Path) -> None:
        self.wanted, self.count = wanted, len(wanted.pictures)
        base = config.cell("base", config.seeds[0], {}, {})
        self.bench = Bench(base, group, parts, wanted.size)
        loaded = self.bench.model(base)
        names, model = loaded.source.every_name, loaded.pipe.transformer
        self.pipe = loaded.pipe
        self.adapters, self.aligners, self.channels = {}, {}, {}
        with group.together():
            self.bench.counted()
            self.reader = load_reader(self.pipe.device)
            for name, one in wanted.conditions.items():
                own = one.condition.name
                adapter, _ = load_adapter(one.folder, model, "conditions", own)
                self.adapters[name] = adapter, one.condition
                if "lacon" in config.baselines:
                    folder = config.folder("lacon", own)
                    aligner = load_aligner(folder, model, "baselines", one.condition)
                    self.aligners[name] = aligner
                if "channels" in config.baselines:
                    folder = config.folder("channels", own)
                    self.channels[name] = load_channels(folder, model, "baselines")
        _, other = self.bench.real(self.count, names)
        self.labels, self.rule = (same_classes(other, names) if other else []), AS_CONDITIONS
        if not self.labels:
            self.labels, self.rule = labels_in_turn(self.count, len(names)), IN_TURN

    def __call__(self, config: EvaluateConfig, parts: Path) -> Scored:
        """The evaluation of a cell, and beside its figures those of its maps."""
        cell, group = cast(JointCellConfig, config), self.bench.group
        plan, unread, whole = self.plan(cell), Parts(parts, {}), range(self.count)
        drawing, control = plan, None
        maps: dict[str, torch.Tensor] = {}
        if cell.how == "joint":  # images above their maps, of which the images are then scored
            pairs = read_drawn(self.bench, cell, plan, unread, "pairs", whole).pictures
            images, maps["joint"] = pairs.chunk(2, dim=-2)
            drawing = replace(plan, draw=AsDrawn(images))
        elif cell.how == "given" and len(cell.modules) == 1:
            for row in INVERSE:
                inverse = self.plan(cell, inverse=row)
                maps[row] = read_drawn(self.bench, cell, inverse, unread, row, whole).pictures
        scored = score_on(self.bench, cell, parts, drawing)
        if cell.how not in ("base", "joint"):
            few, shifted = range(min(AGAIN, self.count)), self.plan(cell, shift=1)
            control = read_drawn(self.bench, cell, shifted, unread, "control", few).pictures
        with group.together():
            if not group.main:
                return scored
            images = scored.readings.images.pictures
            rows = rows_of(cell, self.wanted, self.reader, images, maps, control)
            measured = {"rows": rows, **self.cost(cell, plan)}
            if maps:  # the grid shows the first below
                both = torch.cat([images, *list(maps.values())[:1]], dim=-2)
                seen = replace(scored.readings.images, pictures=both)
                scored = scored._replace(readings=replace(scored.readings, images=seen))
            return scored._replace(content={**scored.content, "measured": measured})

    def plan(
        self,
        cell: JointCellConfig,
        shift: int = 0,
        inverse: Inverse | None = None,
    ) -> Plan:
        """Image k from the map of picture k + ``shift``, in the class of picture k.

        ``inverse``: the map of picture k, from the picture, which is told its class or not.
        """
        facts = {
            **{"how": cell.how, "modules": cell.modules, "maps": cell.conditions},
            **{"shift": shift, "inverse": inverse, "given": self.count},
        }
        null = self.pipe.transformer.num_classes
        labels = [null] * self.count if inverse == "untold" else self.labels
        plan = Plan(labels, self.rule, keep=self.count, facts=facts)
        given = {name: self.wanted.conditions[name].maps.roll(-shift, 0) for name in cell.modules}
        if cell.how == "base":
            return plan
        if cell.how in ("given", "joint"):
            return replace(plan, draw=self._jointly(cell.how, given, inverse is not None))
        ((name, maps),) = given.items()
        condition = self.wanted.conditions[name].condition
        if cell.how == "channels":
            return replace(plan, draw=ByChannels(self.channels[name], condition, maps))
        small = condition.shrink(maps, own_size(self.pipe, parse_size(self.wanted.size)))
        small, aligner = small.to(self.pipe.device), self.aligners[name]

        def constrain(numbers: Sequence[int]) -> list[Constraint]:
            return [Constraint(Aligned(aligner, condition, small[list(numbers)]))]

        return replace(plan, constrain=constrain)

    def _jointly(self, how: str, given: Mapping[str, torch.Tensor], inverse: bool) -> Draw:
        """Drawing by the adapters of the conditions ``given``."""
        joint = JointPipeline(self.pipe, [self.adapters[name] for name in given])
        own = [self.wanted.conditions[name].condition.name for name in given]
        if how == "joint":
            return Jointly(joint, {}, [IMAGE, *own])
        if inverse:
            return Jointly(joint, {IMAGE: from_uint8(self.wanted.pictures)}, own)
        return Jointly(joint, dict(zip(own, given.values(), strict=True)), [IMAGE])

    def cost(self, cell: JointCellConfig, plan: Plan) -> dict[str, Any]:
        """Seconds an image of the same few under ``plan``, and how many times the base's.

        They are drawn by turns: a machine's speed may change from one cell to the next, hardly
        from one batch to the next.
        """
        numbers = range(min(TIMED, cell.batch_size, self.count))
        free, loaded = Plan(self.labels, self.rule), self.bench.model(cell)
        seconds = []
        for one in (plan, free) * PAIRS:
            before = perf_counter()
            list(drawn(loaded, cell, one, self.wanted.size, numbers, [numbers]))
            seconds.append((perf_counter() - before) / len(numbers))
        pairs = zip(seconds[::2], seconds[1::2], strict=True)
        times = 1.0 if cell.how == "base" else median(one / base for one, base in pairs)
        return {"seconds": figure(median(seconds[::2])), "times": figure(times)}
