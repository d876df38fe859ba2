"""The adversarial stage: the student against heads on its frozen teacher."""

import math
from collections.abc import Callable

from torch import Tensor

from diffgen.commands.begin_training import begin_state
from diffgen.commands.beside import encoder
from diffgen.commands.nitro.distillation import Distillation
from diffgen.commands.nitro.judge import Judge
from diffgen.commands.nitro.real import RealData
from diffgen.commands.nitro.report import report
from diffgen.commands.nitro.sheet import previewer
from diffgen.metrics.extractor import Extractor
from diffgen.models.dit import DiT
from diffgen.nitro.features import Backbone, crop_side, spread_taps
from diffgen.nitro.heads import HeadShape
from diffgen.nitro.objective import Adversarial
from diffgen.nitro.pairs import PairData, Pairs
from diffgen.nitro.pool import Compartments, Pool, head_types
from diffgen.nitro.turn import Turns
from diffgen.training.loop import Hooks, Loop


def train_student(
    distilling: Distillation,
    model: DiT,
    pairs: Pairs,
    real: RealData | None,
    extractor: Extractor | None,
) -> None:
    """Train ``model`` as the regression left it, score every checkpoint, keep the best as pipeline.

    Args:
        pairs: the teacher's images.
        real: what the heads take for real in their place.
        extractor: that scores, on the main process.
    """
    config, group, folder = distilling.config, distilling.group, distilling.folder
    with group.together():
        data = real.samples if real else PairData(pairs, config.seed)
        averaged = distilling.student()
        preview = previewer(distilling, pairs, averaged, folder.samples)
        objective = build_objective(distilling, real.labels if real else None)
        state = begin_state(
            config,
            model,
            distilling.accelerator,
            folder,
            data.images.class_names,
            data.count,
            {"heads": objective.pool},
        )
        hooks = Hooks(sample=preview)
        if extractor is not None:
            judge = Judge(distilling, extractor, pairs, averaged, objective.pool)
            judge.begin(state)
            hooks = Hooks(sample=preview, checkpoint=judge.judge)

    Loop(
        settings=config.train,
        accelerator=distilling.accelerator,
        group=group,
        data=data,
        model=distilling.accelerator.prepare(model),
        objective=objective,
        state=state,
        folder=folder,
        hooks=hooks,
        parts=objective.parts,
        stepped=lambda: objective.step(reducer(distilling)),
        remedy="lower --optimizer rates in a new --out, with --reuse of this one, may help",
    ).run()
    if group.main:
        preview(state)
        report(distilling)


def reducer(distilling: Distillation) -> Callable[[Tensor], Tensor]:
    """A tensor -> its mean over the processes."""

    def mean(tensor: Tensor) -> Tensor:
        reduced: Tensor = distilling.accelerator.reduce(tensor, "mean")
        return reduced

    return mean


def build_objective(distilling: Distillation, labels: Tensor | None = None) -> Adversarial:
    """Backbone, pool and draws as the configuration asks; ``labels``: see ``Adversarial``."""
    config, teacher = distilling.config, distilling.pipe.transformer
    asked = config.heads
    places = spread_taps(len(teacher.blocks))
    types = head_types(asked.local, asked.unconditional and teacher.num_classes > 0)
    levels = len(asked.levels) if asked.by_level else 1
    compartments = Compartments(levels, len(types), len(places), asked.pool)
    cells = levels * len(types) * len(places)
    shape = head_shape(distilling)
    seed = config.seed
    pool = Pool(shape, compartments.total, seed, asked.lr, asked.betas).to(distilling.device)
    distilling.accelerator.print(
        f"heads: {compartments.total}, {compartments.each} for each of {cells} compartments, "
        f"{sum(b.numel() for n, b in pool.named_buffers() if n in shape.names):,} parameters"
    )
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
            grid=distilling.grid,
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
        encode=encoder(distilling.pipe),
        labels=labels,
    )


def head_shape(distilling: Distillation) -> HeadShape:
    """With as many convolutions as leave the smallest map two places a side."""
    asked, width = distilling.config.heads, distilling.pipe.transformer.config.hidden_size
    share = asked.local_side if asked.local else 1.0
    halvings = int(math.log2(min(crop_side(side, share) for side in distilling.grid))) - 1
    return HeadShape(width, asked.channels, max(0, min(asked.convolutions, halvings)))
