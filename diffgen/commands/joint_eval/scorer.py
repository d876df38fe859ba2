"""Drawing, scoring and measuring one cell after the other."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

import torch

from diffgen.commands.bench import Bench
from diffgen.commands.condition_kinds import own_size
from diffgen.commands.costs import cost
from diffgen.commands.drawing import Draw, Plan, as_conditions, read_drawn
from diffgen.commands.drawn_classes import AS_CONDITIONS
from diffgen.commands.evaluate import Scored, score_on
from diffgen.commands.joint_eval.draws import AsDrawn, ByChannels, Jointly
from diffgen.commands.joint_eval.measures import rows_of
from diffgen.commands.lacon_sweep.wanted import AGAIN, Wanted
from diffgen.commands.parts import Parts
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

Inverse = Literal["maps", "untold"]
INVERSE: tuple[Inverse, ...] = ("maps", "untold")
"""Rows of maps that are drawn from pictures: told their class, and not."""


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
                adapter, _ = load_adapter(one.folder, model, "conditions", one.condition)
                self.adapters[name] = adapter, one.condition
                if "lacon" in config.baselines:
                    folder = config.folder("lacon", own)
                    aligner = load_aligner(folder, model, "baselines", one.condition)
                    self.aligners[name] = aligner
                if "channels" in config.baselines:
                    folder = config.folder("channels", own)
                    wide = load_channels(folder, model, "baselines")
                    self.channels[name] = wide.to(model.dtype)
        self.labels, self.rule = as_conditions(self.bench, self.count, names)

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
            classes = self.labels, self.rule == AS_CONDITIONS
            rows = rows_of(cell, self.wanted, self.reader, images, maps, control, *classes)
            free = None if cell.how == "base" else Plan(self.labels, self.rule)
            measured = {"rows": rows, **cost(self.bench, cell, plan, free, self.count)}
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
