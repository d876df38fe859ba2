"""The second stage: the student against heads on its frozen teacher."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from diffgen.commands.begin_training import begin_state
from diffgen.commands.beside import encoder
from diffgen.commands.nitro.distillation import Distillation
from diffgen.commands.nitro.judge import Judge
from diffgen.commands.nitro.real import real_data
from diffgen.commands.nitro.report import report
from diffgen.commands.nitro.sheet import draw_sheet
from diffgen.errors import UserError
from diffgen.nitro.features import Backbone, crop_side, spread_taps
from diffgen.nitro.heads import HeadShape
from diffgen.nitro.objective import Adversarial
from diffgen.nitro.pairs import PairData, Pairs
from diffgen.nitro.pool import Compartments, Pool, head_types
from diffgen.nitro.turn import Turns
from diffgen.training.checkpoint import TrainingState
from diffgen.training.loop import Hooks, Loop


def train_student(distilling: Distillation, pairs: Pairs, begun: dict[str, Tensor]) -> None:
    """Train from the weights ``begun``, score every checkpoint, keep the best as pipeline."""
    config, group, folder = distilling.config, distilling.group, distilling.folder
    with group.together():
        data = PairData(pairs, config.seed) if config.real == "teacher" else real_data(distilling)
        model, averaged = distilling.student(), distilling.student()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(begun[name])
        objective = build_objective(distilling)
        state = begin_state(
            config,
            model,
            distilling.accelerator,
            folder,
            data.images.class_names,
            data.count,
            {"heads": objective.pool},
        )
        judge = Judge(distilling, pairs, averaged, objective.pool)
        if group.main:
            judge.begin(state)

    def preview(state: TrainingState) -> None:
        pipe = distilling.pipeline(averaged, state.ema.preview.weights, config.counts)
        draw_sheet(distilling, pairs, pipe, folder.samples / f"images-{state.seen:09d}.png")

    Loop(
        settings=config.train,
        accelerator=distilling.accelerator,
        group=group,
        data=data,
        model=distilling.accelerator.prepare(model),
        objective=objective,
        state=state,
        folder=folder,
        hooks=Hooks(sample=preview, checkpoint=judge.judge),
        parts=objective.parts,
        stepped=lambda: objective.step(reducer(distilling)),
        remedy="lower --optimizer rates in a new --out, with --reuse of this one, may help",
    ).run()
    if group.main:
        report(distilling)


def reducer(distilling: Distillation) -> Callable[[Tensor], Tensor]:
    """A tensor -> its mean over the processes."""

    def mean(tensor: Tensor) -> Tensor:
        reduced: Tensor = distilling.accelerator.reduce(tensor, "mean")
        return reduced

    return mean


def build_objective(distilling: Distillation) -> Adversarial:
    """Backbone, pool and draws as the configuration asks.

    Raises:
        UserError: the pool is too small to have a head everywhere.
    """
    config, teacher = distilling.config, distilling.pipe.transformer
    asked = config.heads
    places = spread_taps(len(teacher.blocks))
    types = head_types(asked.local, asked.unconditional)
    levels = len(asked.levels) if asked.by_level else 1
    compartments = Compartments(levels, len(types), len(places), asked.pool)
    cells = levels * len(types) * len(places)
    if compartments.each < asked.share:
        raise UserError(
            f"heads.pool: {asked.pool} heads cannot give {asked.share} to each of {cells} "
            f"compartments ({levels} levels, {len(types)} types, {len(places)} taps); give "
            f"{cells * asked.share} or more"
        )
    shape = head_shape(distilling)
    seed = config.seed
    pool = Pool(shape, compartments.total, seed, asked.lr, asked.betas).to(distilling.device)
    distilling.accelerator.print(
        f"heads: {compartments.total}, {compartments.each} for each of {cells} compartments, "
        f"{sum(b.numel() for n, b in pool.named_buffers() if n in shape.names):,} parameters"
    )
    latent = distilling.pipe.latent_format
    return Adversarial(
        student=distilling.calls,
        backbone=Backbone(teacher.eval(), distilling.process, places),
        pool=pool,
        types=types,
        turns=Turns(
            seed=seed,
            levels=len(asked.levels),
            compartments=compartments,
            share=asked.share,
            grid=teacher.grid,
            local_side=asked.local_side,
            courses=config.courses,
        ),
        levels=asked.levels,
        loss=asked.loss,
        r1=asked.r1,
        refresh=asked.refresh,
        batch_size=config.train.batch_size,
        null_label=teacher.num_classes,
        device=distilling.device,
        encode=encoder(distilling.pipe) if latent is not None else None,
    )


def head_shape(distilling: Distillation) -> HeadShape:
    """With as many convolutions as leave the smallest map two places a side."""
    asked, teacher = distilling.config.heads, distilling.pipe.transformer
    share = asked.local_side if asked.local else 1.0
    halvings = int(math.log2(min(crop_side(side, share) for side in teacher.grid))) - 1
    return HeadShape(
        teacher.config.hidden_size, asked.channels, max(0, min(asked.convolutions, halvings))
    )
