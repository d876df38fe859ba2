"""The images of an evaluation that a model draws: their classes, and what they shall match."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from diffgen.commands.bench import KEPT, Bench
from diffgen.commands.digests import settings_digest
from diffgen.commands.drawn_classes import AS_CONDITIONS, IN_TURN, same_classes
from diffgen.commands.load import Loaded
from diffgen.commands.parts import Parts
from diffgen.commands.saved_images import save_batch
from diffgen.config.base import parse_size
from diffgen.config.evaluate import EvaluateConfig
from diffgen.config.sampling import SamplingConfig
from diffgen.metrics.read import Batch, Reading, read
from diffgen.sampling.batches import Batch as Drawn
from diffgen.sampling.batches import Constrain, draw_batches, labels_in_turn, unconstrained

Draw: TypeAlias = Callable[
    [Loaded, EvaluateConfig, Mapping[int, int], tuple[int, int], Sequence[range]], Iterator[Drawn]
]
"""From a model, by the settings, images of these labels by number, of a height and width, in
batches of these numbers."""


@dataclass(frozen=True)
class Plan:
    """What images are drawn with, beside the settings of their evaluation."""

    labels: Sequence[int]
    """Of each image in turn; beyond their end from the start again."""
    rule: str
    """Where they come from, in words."""
    constrain: Constrain = unconstrained
    """What images shall match, by their numbers."""
    recurrence: int = 1
    """See the pipeline's."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """All that decides what they match."""
    keep: int = KEPT
    """So many of the first images are kept as pictures."""
    draw: Draw | None = None
    """How they are drawn; None: by the pipeline, under what ``constrain`` says."""

    def of(self, numbers: Sequence[int]) -> dict[int, int]:
        """The labels of these images."""
        return {n: self.labels[n % len(self.labels)] for n in numbers}


def as_conditions(bench: Bench, count: int, names: tuple[str, ...]) -> tuple[list[int], str]:
    """The class of each of ``count`` images that shall match real ones, and the rule in words.

    The real ones are those that FID does not compare with; ``names``: of the model's classes. All
    processes must call it.
    """
    _, other = bench.real(count, names)
    same = same_classes(other, names) if other else []
    return (same, AS_CONDITIONS) if same else (labels_in_turn(count, len(names)), IN_TURN)


def read_drawn(
    bench: Bench, config: EvaluateConfig, plan: Plan, parts: Parts, name: str, numbers: range
) -> Reading:
    """Draw images ``numbers`` and read them through the networks of ``parts``.

    All processes must call it. What is in the parts under ``name`` already is not drawn again.
    """
    loaded = bench.model(config)
    with bench.group.together():
        facts = facts_of(config, loaded, plan, numbers, bench.size)
        shards = parts.shards(name, len(numbers), config.batch_size, facts)

    def draw(batches: Sequence[range]) -> Iterator[Batch]:
        return drawn(loaded, config, plan, bench.size, numbers, batches)

    return read(
        parts.extractors,
        draw,
        shards,
        config.batch_size,
        bench.group,
        class_names=loaded.source.every_name,
        keep=plan.keep,
        describe="drawing",
    )


def drawn(
    loaded: Loaded,
    config: EvaluateConfig,
    plan: Plan,
    size: str,
    numbers: range,
    batches: Sequence[range],
) -> Iterator[Batch]:
    """The batches at these places of ``numbers``."""
    height, width = parse_size(size)
    labels = plan.of(numbers)
    chosen = [numbers[places.start : places.stop] for places in batches]
    if plan.draw is not None:
        found = plan.draw(loaded, config, labels, (height, width), chosen)
    else:
        found = draw_batches(
            loaded.pipe,
            config,
            labels,
            height=height,
            width=width,
            seed=config.seed,
            batches=chosen,
            guide=loaded.guide,
            constrain=plan.constrain,
            recurrence=plan.recurrence,
        )
    for places, batch in zip(batches, found, strict=True):
        if config.save is not None:
            save_batch(config.save, batch, loaded.source.every_name)
        yield places, batch.images, batch.labels


def facts_of(
    config: EvaluateConfig, loaded: Loaded, plan: Plan, numbers: range, size: str
) -> dict[str, Any]:
    """All that decides the images drawn from a model."""
    chosen = config.model_dump(mode="json", include={*SamplingConfig.model_fields, "seed"})
    return {
        "settings": chosen,
        "weights": loaded.weights,
        "guide": loaded.guide_weights,
        "pipeline": settings_digest(loaded.source.pipeline),
        "labels": list(plan.of(numbers).values()),
        "size": size,
        "device": str(loaded.pipe.device),
        "dtype": config.dtype,
        "save": config.save and str(config.save.resolve()),
        "first": numbers.start,
        **plan.facts,
    }
