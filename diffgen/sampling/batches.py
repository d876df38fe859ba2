"""Many images from one pipeline, in batches, each from its own noise."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from diffusers import LCMScheduler
from torch import Tensor

from diffgen.config.sampling import SamplingConfig
from diffgen.data.pixels import to_uint8
from diffgen.errors import UserError
from diffgen.group import cut
from diffgen.guidance import Constraint, build_rule
from diffgen.pipeline import DiffGenPipeline
from diffgen.sampling.schedulers import build_scheduler

Constrain: TypeAlias = Callable[[Sequence[int]], Sequence[Constraint]]
"""What the images of these numbers shall match."""


def unconstrained(numbers: Sequence[int]) -> Sequence[Constraint]:
    """Nothing to match."""
    return ()


@dataclass(frozen=True)
class Batch:
    """Images ``numbers`` of a sampling run."""

    numbers: list[int]
    labels: Tensor
    """(B,) int64."""
    images: Tensor
    """(B, C, H, W) uint8."""


def set_up(
    pipe: DiffGenPipeline, config: SamplingConfig, guide: DiffGenPipeline | None = None
) -> None:
    """Give the pipeline the solver, frequency scaling and temperature ``config`` names.

    The ``guide`` gets the last two as well: a difference of encodings is no guidance.

    A solver of the class it was saved with is kept with all its settings; another keeps the size
    shift of a flow and the spacing of a chain's steps.

    Raises:
        UserError: the model's encoding cannot be scaled so.
    """
    try:
        pipe.transformer.use_position(config)
        if guide is not None:
            guide.transformer.use_position(config)
    except ValueError as error:
        raise UserError(str(error)) from None
    saved = pipe.scheduler.config
    shift = float(saved.get("shift") or saved.get("flow_shift") or 1.0)
    process = pipe.process_config
    named = build_scheduler(config.scheduler, shift, process)
    if type(named) is type(pipe.scheduler):
        return
    spaced = process.kind == "ddpm" and not isinstance(named, LCMScheduler)
    if spaced and "timestep_spacing" in saved:
        spacing = {key: saved.get(key, 0) for key in ("timestep_spacing", "steps_offset")}
        named = type(named).from_config(named.config, **spacing)
    pipe.scheduler = named


def draw_batches(
    pipe: DiffGenPipeline,
    config: SamplingConfig,
    labels: Sequence[int] | Mapping[int, int],
    *,
    height: int,
    width: int,
    seed: int,
    batches: Iterable[range] | None = None,
    guide: DiffGenPipeline | None = None,
    constrain: Constrain = unconstrained,
    recurrence: int = 1,
) -> Iterator[Batch]:
    """Draw image k with label ``labels[k]`` from the noise of (seed, k), ``batch_size`` at a time.

    ``batches``: the numbers of the batches to draw; None: all images, as ``cut`` cuts them.
    ``height`` and ``width`` are pixels of the images. A model without classes (``labels`` all
    ``num_classes``) is drawn without guidance. ``guide``: the weaker model of autoguidance.
    ``constrain``: constraints of the images by their numbers, see the pipeline's ``constraints``;
    ``recurrence``: as there.
    """
    set_up(pipe, config, guide)
    rule = build_rule(config.guidance)
    for numbers in map(list, cut(len(labels), config.batch_size) if batches is None else batches):
        chosen = torch.tensor([labels[k] for k in numbers])
        x0 = pipe(
            class_labels=chosen,
            num_inference_steps=config.steps,
            guidance=rule,
            height=height,
            width=width,
            seed=seed,
            image_numbers=numbers,
            output_type="latent",
            time_shift=config.time_shift,
            guide=guide,
            constraints=constrain(numbers),
            recurrence=recurrence,
        ).images
        if not bool(x0.isfinite().all()):
            raise UserError(
                "the drawn images are not finite: guidance or a constraint is too strong for this "
                "model, or its weights are damaged"
            )
        images = pipe.decode(x0, config.decode_batch_size, config.decode_tiled)
        yield Batch(numbers, chosen, to_uint8(images).cpu())


def labels_in_turn(count: int, num_classes: int, chosen: list[int] | None = None) -> list[int]:
    """``count`` labels that go through ``chosen`` (None: all classes) in turn.

    Without classes every label is the null class, 0.
    """
    turn = chosen or list(range(num_classes)) or [0]
    return [turn[k % len(turn)] for k in range(count)]
