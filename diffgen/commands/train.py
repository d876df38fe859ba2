"""``train``: from a configuration to a run folder with a pipeline, pictures and scores."""

import copy
from contextlib import ExitStack

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from diffgen.commands.begin_training import begin_state, open_accelerator
from diffgen.commands.export import Exporter
from diffgen.commands.left_out import tell_left_out
from diffgen.commands.report import draw_report
from diffgen.config.base import parse_size, token_grid
from diffgen.config.model import Attention
from diffgen.config.positions import RPE2DConfig
from diffgen.config.train import TrainConfig
from diffgen.data.budget import cut_to_budget
from diffgen.data.fit import Limits
from diffgen.data.hub import HubStream
from diffgen.data.order import TrainingData
from diffgen.data.source import ImageSource, build_images
from diffgen.device import chosen_device, on_cpu
from diffgen.errors import SharedError, UserError
from diffgen.files import locked
from diffgen.group import Group
from diffgen.models.attention import chosen_backend
from diffgen.models.dit import DiT
from diffgen.processes import build_process
from diffgen.sampling.preview import draw_preview
from diffgen.signals import Interrupted
from diffgen.training.checkpoint import Checkpoints, TrainingState
from diffgen.training.initialise import adopt_weights, moved_positions
from diffgen.training.latents import Encoder, open_encoder
from diffgen.training.loop import Hooks, Loop
from diffgen.training.run_folder import RunFolder
from diffgen.training.step import Objective
from diffgen.training.trackers import check_trackers, start_trackers
from diffgen.training.trainable import choose_trainable


def train(config: TrainConfig) -> None:
    """Train, or resume training, then draw and score what came out.

    Raises:
        UserError: anything a user can mend; see its message.
        Interrupted: a signal came; see its message.
    """
    group = Group.join(cpu=on_cpu(config.device))
    folder = RunFolder(config.out)
    with ExitStack() as lock:
        with group.together():
            accelerator = build_accelerator(config)
            if group.main:
                lock.enter_context(locked(folder.path))
        try:
            run(config, accelerator, group, folder)
        except (SharedError, Interrupted):
            accelerator.end_training()
            raise
        accelerator.end_training()


def run(config: TrainConfig, accelerator: Accelerator, group: Group, folder: RunFolder) -> None:
    """Build everything, train, export, report."""
    with group.together():
        token = config.model.patch_size * config.factor()
        images = build_images(config.data, limits=size_limits(config, token))
        num_classes = class_count(config, images)
        if group.main:
            folder.open(config)
            tell_left_out(images, folder)
    data = TrainingData(images, config.seed, config.data.mixed_sizes)
    encode = open_encoder(config, group, accelerator.device, folder, data)
    height, width = parse_size(config.data.size)
    shape = encode.space.shape(height, width) if encode else (3, height, width)
    with group.together():
        set_seed(config.seed)
        model = DiT.build(
            config.model,
            num_classes=num_classes,
            in_channels=shape[0],
            sample_size=shape[1:],
            learned_variance=config.process.learned_variance,
        )
        packed = config.data.mixed_sizes and config.train.mixed == "packed"
        tell_attention(model.attention, packed, accelerator)
        state = build_state(config, model, accelerator, folder, images.class_names, data.count)
        exporter = Exporter(
            config, folder, images.class_names[:num_classes], encode.space if encode else None
        )
        if group.main:
            start_trackers(config, accelerator, state.seen)
            if state.seen:  # a kill may have come between the checkpoint and its snapshot
                exporter.snapshot(state)
    preview_model = copy.deepcopy(model)
    preview_model.attention = "auto"  # it draws in fp32, which varlen cannot

    def preview(state: TrainingState) -> None:
        pipe = exporter.pipeline(preview_model, state.ema.preview.weights)
        draw_preview(pipe, config.sampling, folder.samples / f"images-{state.seen:09d}.png")

    def checkpoint(state: TrainingState) -> None:
        exporter.snapshot(state)
        exporter.save(preview_model, state.ema.preview.weights)

    Loop(
        settings=config.train,
        accelerator=accelerator,
        group=group,
        data=data,
        model=accelerator.prepare(model),
        objective=build_objective(config, num_classes, accelerator.device, encode),
        state=state,
        folder=folder,
        hooks=Hooks(sample=preview, checkpoint=checkpoint),
        cut=lambda batch: cut_to_budget(batch, token, config.train.token_budget),
        remedy="lower --optimizer rates in a new --out, with --init, may help",
    ).run()
    if group.main:
        exporter.save(preview_model, exporter.export_weights(state))
        try:
            draw_report(config, folder, images)
        except Interrupted as stop:
            left = "the training is finished, the same command draws and scores its pictures"
            raise Interrupted(stop.signum, left) from None


def size_limits(config: TrainConfig, token: int) -> Limits:
    """Whole tokens of ``token`` pixels, within the range of the encoding."""
    position = config.model.position
    if not isinstance(position, RPE2DConfig):
        return Limits(token)
    rows, columns = position.ranges(token_grid(parse_size(config.data.size), token))
    return Limits(token, (token * rows, token * columns))


def build_objective(
    config: TrainConfig, num_classes: int, device: torch.device, encode: Encoder | None
) -> Objective:
    """What is minimised."""
    model, position = config.model, config.model.position
    shared = {"sample": 1, "batch": config.train.batch_size}
    return Objective(
        process=build_process(config.process, model.time, model.prediction),
        seed=config.seed,
        null_label=num_classes,
        class_dropout=model.class_dropout,
        device=device,
        encode=encode,
        patch=model.patch_size,
        padded=config.train.mixed == "padded",
        crop=model.micro != "none" or model.crop_coords,
        micro_dropout=model.untold,
        share_positions=shared[position.scope] if isinstance(position, RPE2DConfig) else None,
    )


def tell_attention(asked: Attention, packed: bool, accelerator: Accelerator) -> None:
    """Print the backend that will compute, where there was something to choose."""
    cuda, half = accelerator.device.type == "cuda", accelerator.mixed_precision == "bf16"
    backend = chosen_backend(asked, packed, cuda, half)
    if cuda or asked != "auto":
        accelerator.print(f"attention: {backend}")


def build_accelerator(config: TrainConfig) -> Accelerator:
    """Accelerate on the device asked for.

    Raises:
        UserError: no such device, bf16 on a CPU, a batch the processes cannot share, or a
            tracker that is not installed.
    """
    check_trackers(config.track)
    if config.vae and config.vae.precision == "bf16":
        chosen_device(config.device, "vae.precision")
    return open_accelerator(config.train, config.device, config.out, config.track)


def class_count(config: TrainConfig, images: ImageSource | HubStream) -> int:
    """Classes of the model: as configured, or as many as the data has.

    Raises:
        UserError: fewer than the data has, which would mislabel images.
    """
    asked, present = config.model.num_classes, len(images.class_names)
    if asked is None:
        return present
    if 0 < asked < present:
        raise UserError(
            f"model.num_classes: {asked}, but the data has {present} classes; "
            "give at least that many, or 0 for an unconditional model"
        )
    return asked


def build_state(
    config: TrainConfig,
    model: DiT,
    accelerator: Accelerator,
    folder: RunFolder,
    class_names: tuple[str, ...],
    num_images: int | None,
) -> TrainingState:
    """Model, averages, optimisers and schedules: fresh, from another model, or resumed."""
    fresh: list[str] = []
    newest = Checkpoints(folder.path, config.train.keep_checkpoints).newest()
    if config.init and newest is None:
        adopted = adopt_weights(model, config.init)
        accelerator.print(f"took {adopted.taken} tensors from {config.init}")
        fresh = adopted.reinitialised
        for name in fresh:
            accelerator.print(f"  started afresh: {name}")
        for name in adopted.unused:
            accelerator.print(f"  left behind: {name}")
        grid = token_grid(model.config.sample_size, model.config.patch_size)
        for line in moved_positions(config.model.position, grid, config.init):
            accelerator.print(f"  {line}")
    share = choose_trainable(model, config.train.trainable, fresh)
    if config.train.trainable:
        accelerator.print(f"training {share:.2%} of the parameters")
    return begin_state(config, model, accelerator, folder, class_names, num_images)
