"""``lacon``: from a trained model and a condition to an aligner that reads it."""

from collections.abc import Callable
from contextlib import ExitStack

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor

from diffgen.commands.aligner_export import AlignerExport
from diffgen.commands.aligner_report import build_examples, draw_reading, gather, report
from diffgen.commands.left_out import tell_left_out
from diffgen.commands.load import CHANGED, load_pipeline
from diffgen.commands.trainings import begin_state, open_accelerator
from diffgen.config.lacon import LaconConfig, Settled
from diffgen.config.stored import read_json
from diffgen.data.hub import HubStream
from diffgen.data.source import ImageSource, build_images
from diffgen.device import on_cpu
from diffgen.errors import SharedError, UserError
from diffgen.files import locked, write_json
from diffgen.group import Group
from diffgen.lacon.aligner import Aligner
from diffgen.lacon.conditions import Condition
from diffgen.lacon.load import fingerprint
from diffgen.lacon.named import condition_named, folder_name
from diffgen.lacon.training import (
    AlignerObjective,
    MappedData,
    Reader,
    image_std,
    model_labels,
    stored_maps,
)
from diffgen.models.vae import LatentSpace
from diffgen.pipeline import DiffGenPipeline
from diffgen.signals import Interrupted
from diffgen.training.checkpoint import Checkpoints, TrainingState
from diffgen.training.loop import Hooks, Loop
from diffgen.training.run_folder import RunFolder


def train_aligner(config: LaconConfig) -> None:
    """Train, or resume training, then measure what the aligner reads at each time.

    Raises:
        UserError: anything a user can mend; see its message.
        Interrupted: a signal came; see its message.
    """
    group = Group.join(cpu=on_cpu(config.device))
    with ExitStack() as lock:
        with group.together():
            condition = condition_named(config.condition)
            settled = config.settled(folder_name(condition.name))
            images = build_images(settled.data)
            data = MappedData(images, config.seed, stored_maps(images, condition))
            accelerator = open_accelerator(config.train, config.device, settled.out)
            if group.main:
                lock.enter_context(locked(settled.out))
        try:
            run(settled, condition, data, accelerator, group)
        except (SharedError, Interrupted):
            accelerator.end_training()
            raise
        accelerator.end_training()


def run(
    settled: Settled,
    condition: Condition,
    data: MappedData,
    accelerator: Accelerator,
    group: Group,
) -> None:
    """Build everything, train, export, measure."""
    config, folder = settled.config, RunFolder(settled.out)
    with group.together():
        pipe = load_pipeline(config.source, config.device, vae=config.vae).pipe
        pipe.transformer.requires_grad_(False)
        backbone = fingerprint(pipe.transformer)
        if group.main:
            open_folder(settled, data.images, backbone, folder)
            tell_left_out(data.images, folder)
            if settled.replaced:
                why = "an aligner learns from pictures of one size, and from drawn ones whole"
                print(f"data.crop: center instead of {settled.replaced}; {why}")
    if len(set(group.everyones(backbone))) > 1:
        raise SharedError(CHANGED.format(config.source))
    with group.together():
        set_seed(config.seed)
        aligner = build_aligner(config, condition, pipe, accelerator)
        objective = AlignerObjective(
            denoiser=pipe.denoiser([]),
            reader=Reader(condition, accelerator.device, encoder(pipe)),
            blocks=aligner.blocks,
            labels=known_labels(settled, data.images, accelerator),
            seed=config.seed,
            class_dropout=config.class_dropout,
            low=config.low,
        )
        state = begin_state(config, aligner, accelerator, folder)
        if group.main:
            std = image_std(gather(data, objective.reader)[1])
            export = AlignerExport(aligner, folder, backbone=backbone, image_std=std)
            examples = build_examples(settled, data, objective)

    def preview(state: TrainingState) -> None:
        target = folder.samples / f"images-{state.seen:09d}.png"
        draw_reading(examples, export.averaged(state), condition, config.low, target)

    Loop(
        settings=config.train,
        accelerator=accelerator,
        group=group,
        data=data,
        model=accelerator.prepare(aligner),
        objective=objective,
        state=state,
        folder=folder,
        # What is still in training has no cut-off, and would steer at every time: it stays here.
        hooks=Hooks(sample=preview, checkpoint=lambda state: None),
    ).run()
    if group.main:
        try:
            preview(state)
            report(settled, condition, examples, export, state)
        except Interrupted as stop:
            left = "the training is finished, the same command measures what it has learnt"
            raise Interrupted(stop.signum, left) from None


def open_folder(
    settled: Settled, images: ImageSource | HubStream, backbone: str, folder: RunFolder
) -> None:
    """Make the folder, or check that it holds the aligner of this model and these images.

    ``origin.json`` tells the model by its weights and the images by their number and classes.

    Raises:
        UserError: it holds another; what differs is named.
    """
    folder.open(settled.config)
    count = None if isinstance(images, HubStream) else len(images)
    origin = {"backbone": backbone, "num_images": count, "class_names": list(images.class_names)}
    file = folder.path / "origin.json"
    newest = Checkpoints(folder.path, settled.config.train.keep_checkpoints).newest()
    if newest is None:
        write_json(file, origin)
        return
    before = read_json(file, "out", f"{file} is gone, which tells what {newest} was trained on")
    if before.get("backbone") != backbone:
        raise UserError(
            f"source: {settled.config.source} is another model than {folder.path} was trained on, "
            "or has other weights by now; choose another --out"
        )
    if before != origin:
        raise UserError(
            f"data: {folder.path} was trained on other images ({before.get('num_images')} then, "
            f"{count} now) or other classes; bring the old ones back, or choose another --out"
        )


def build_aligner(
    config: LaconConfig, condition: Condition, pipe: DiffGenPipeline, accelerator: Accelerator
) -> Aligner:
    """A fresh one for the model of ``pipe``; how large it is, is printed."""
    model = pipe.transformer
    aligner = Aligner.of(
        model,
        condition.name,
        condition.channels,
        blocks=config.blocks,
        width=config.width,
        head_width=config.head_width,
        fusion=config.fusion,
    )
    count, whole = (sum(p.numel() for p in one.parameters()) for one in (aligner, model))
    accelerator.print(
        f"aligner of {condition.name}: {count:,} parameters, {count / whole:.1%} of the model's, "
        f"on blocks {', '.join(map(str, aligner.blocks))} of {len(model.blocks)}"
    )
    return aligner


def encoder(pipe: DiffGenPipeline) -> Callable[[Tensor], Tensor] | None:
    """Pictures to what the model sees, the mode of the posterior; None: it sees pixels."""
    form = pipe.latent_format
    return None if form is None else LatentSpace(pipe.vae, form).encode


def known_labels(
    settled: Settled, images: ImageSource | HubStream, accelerator: Accelerator
) -> Tensor:
    """The model's label of each class of the images."""
    source = settled.source
    labels, known = model_labels(images.class_names, source.class_names, source.num_classes)
    if not known:
        accelerator.print("data: its classes are not the model's, which is told none")
    return torch.tensor(labels)
