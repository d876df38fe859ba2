"""``lacon``: from a trained model and a condition to an aligner that reads it."""

import copy
import math
from collections.abc import Callable
from contextlib import ExitStack

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor

from diffgen.commands.aligner_report import build_examples, draw_reading, report
from diffgen.commands.begin_training import begin_state, open_accelerator
from diffgen.commands.left_out import tell_left_out
from diffgen.commands.load import CHANGED, load_pipeline
from diffgen.config.beside import Settled
from diffgen.config.lacon import LaconConfig
from diffgen.config.stored import read_json
from diffgen.data.hub import HubStream
from diffgen.data.source import ImageSource, build_images
from diffgen.device import on_cpu
from diffgen.errors import SharedError, UserError
from diffgen.files import locked, write_json
from diffgen.group import Group
from diffgen.lacon.aligner import Aligner
from diffgen.lacon.conditions import Condition
from diffgen.lacon.named import condition_named
from diffgen.lacon.training import AlignerObjective, MappedData, Reader, image_std, model_labels
from diffgen.models.beside import fingerprint
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
    with group.together():
        condition = condition_named(config.condition)
        settled = config.settled(condition.name)
        accelerator = open_accelerator(config.train, config.device, settled.out)
    with ExitStack() as lock:
        try:
            run(settled, condition, accelerator, group, lock)
        except (SharedError, Interrupted):
            accelerator.end_training()
            raise
        accelerator.end_training()


def run(
    settled: Settled[LaconConfig],
    condition: Condition,
    accelerator: Accelerator,
    group: Group,
    lock: ExitStack,
) -> None:
    """Build everything, then write: train, export, measure. ``lock`` holds that of the folder."""
    config, folder = settled.config, RunFolder(settled.out)
    with group.together():
        data, aligner, objective = build(settled, condition, accelerator)
        backbone = fingerprint(objective.denoiser.model)
        if group.main:
            examples, pictures = build_examples(settled, data, objective)
    if len(set(group.everyones(backbone))) > 1:
        raise SharedError(CHANGED.format(config.source))
    with group.together():
        if group.main:
            lock.enter_context(locked(folder.path))
            open_folder(settled, data.images, backbone, folder)
        names = data.images.class_names
        state = begin_state(config, aligner, accelerator, folder, names, data.count)
    if group.main:
        averaged = copy.deepcopy(aligner).requires_grad_(False).eval()
        averaged.register_to_config(backbone=backbone, image_std=image_std(examples.x0))

    def preview(state: TrainingState) -> None:
        target = folder.samples / f"images-{state.seen:09d}.png"
        averaged.load_state_dict(state.ema.preview.weights)
        draw_reading(examples, pictures, averaged, condition, objective.low, target)

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
        hooks=Hooks(sample=preview),
    ).run()
    if group.main:
        try:
            preview(state)
            report(settled, objective, examples, averaged)
        except Interrupted as stop:
            left = "the training is finished, the same command measures what it has learnt"
            raise Interrupted(stop.signum, left) from None


def build(
    settled: Settled[LaconConfig], condition: Condition, accelerator: Accelerator
) -> tuple[MappedData, Aligner, AlignerObjective]:
    """The pictures, a fresh aligner, and what it minimises on the frozen model."""
    config = settled.config
    data = MappedData(build_images(settled.data), config.seed, condition)
    pipe = load_pipeline(config.source, config.device, vae=config.vae).pipe
    pipe.transformer.requires_grad_(False)
    set_seed(config.seed)
    aligner = build_aligner(config, condition, pipe, accelerator)
    first_step = 1 / (pipe.process_config.most_steps or math.inf)  # a chain has no earlier time
    objective = AlignerObjective(
        denoiser=pipe.denoiser([]),
        reader=Reader(condition, accelerator.device, encoder(pipe)),
        blocks=aligner.blocks,
        labels=known_labels(settled, data.images, accelerator),
        seed=config.seed,
        class_dropout=config.class_dropout,
        low=max(config.low, first_step),
    )
    return data, aligner, objective


def open_folder(
    settled: Settled[LaconConfig], images: ImageSource | HubStream, backbone: str, folder: RunFolder
) -> None:
    """Make the folder, or check that it holds the aligner of this model; tell what is left out.

    ``origin.json`` tells the model by its weights.

    Raises:
        UserError: it holds another; what differs is named.
    """
    file = folder.path / "origin.json"
    newest = Checkpoints(folder.path, settled.config.train.keep_checkpoints).newest()
    if newest is not None:
        missing = f"{file} is gone, which tells what {newest} was trained on"
        if read_json(file, "out", missing).get("backbone") != backbone:
            raise UserError(
                f"source: {settled.config.source} is another model than {folder.path} was trained "
                "on, or has other weights by now; choose another --out"
            )
    folder.open(settled.config)
    write_json(file, {"backbone": backbone})
    tell_left_out(images, folder)
    if settled.replaced:
        why = "an aligner learns from pictures of one size, and from drawn ones whole"
        print(f"data.crop: center instead of {settled.replaced}; {why}")


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
    settled: Settled[LaconConfig], images: ImageSource | HubStream, accelerator: Accelerator
) -> Tensor:
    """The model's label of each class of the images."""
    source = settled.source
    labels, known = model_labels(images.class_names, source.class_names, source.num_classes)
    if not known:
        accelerator.print("data: its classes are not the model's, which is told none")
    return torch.tensor(labels)
