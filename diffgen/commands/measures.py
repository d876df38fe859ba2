"""What a training measures on its way: the loss on held-out images, and FID."""

from collections.abc import Sequence

from diffgen.commands.export import Exporter
from diffgen.commands.periodic_fid import PeriodicFID
from diffgen.config.train import TrainConfig
from diffgen.config.validation import DRAWN
from diffgen.data.fit import WHOLE, Limits
from diffgen.data.hub import HubStream
from diffgen.data.source import ImageSource, build_images
from diffgen.group import Group
from diffgen.models.dit import DiT
from diffgen.training.checkpoint import TrainingState
from diffgen.training.loop import Measure
from diffgen.training.step import Objective
from diffgen.training.validation import open_validation


def open_measures(
    config: TrainConfig,
    group: Group,
    objective: Objective,
    exporter: Exporter,
    model: DiT,
    class_names: Sequence[str],
    limits: Limits = WHOLE,
) -> list[Measure]:
    """What ``config.validation`` asks for; all processes must call it.

    Args:
        config: of the training.
        group: this process's part.
        objective: what is minimised, for its settings.
        exporter: makes a pipeline of averaged weights.
        model: gets them; not the one that trains.
        class_names: of the data that is trained on.
        limits: as the training's images have them.

    Raises:
        UserError: held-out images, the reference or the extractor cannot be had or do not fit.
    """
    settings = config.validation
    measures: list[Measure] = []
    with group.together():
        held_out = open_held_out(config, limits)
        if settings.every_images:
            assert held_out is not None  # ``misfits`` has seen to it
            loss = open_validation(config, held_out, class_names, objective, model, group)
            measures.append(
                Measure(
                    settings.every_images,
                    lambda state: loss.measure(state.ema.preview.weights, state.seen),
                )
            )
    if settings.fid_every_images:
        fid = PeriodicFID(config, group, model.device, held_out)

        def take(state: TrainingState) -> dict[str, object] | None:
            return fid.measure(exporter.pipeline(model, state.ema.preview.weights), state.seen)

        measures.append(Measure(settings.fid_every_images, take))
    return measures


def open_held_out(config: TrainConfig, limits: Limits = WHOLE) -> ImageSource | None:
    """The held-out images; None: nothing that is measured needs any.

    Raises:
        UserError: they cannot be had.
    """
    asked = config.validation
    fid_needs = asked.fid_every_images and asked.reference is None
    there = config.data.kind in DRAWN or asked.data is not None
    if not there or not (asked.every_images or fid_needs):
        return None
    images = build_images(asked.held_out(config.data), "held_out", limits)
    assert not isinstance(images, HubStream)  # a held-out split is not streamed
    return images
