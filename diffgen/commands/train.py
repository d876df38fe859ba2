"""``train``: from a configuration to a run folder with a pipeline, pictures and scores."""

import gc
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from diffgen.commands.begin_training import fresh_state, open_accelerator, tell_resumed
from diffgen.commands.export import Exporter
from diffgen.commands.left_out import tell_left_out
from diffgen.commands.measures import open_measures
from diffgen.commands.report import draw_report
from diffgen.commands.train_model import build_models, open_alignment
from diffgen.config.base import parse_size, token_grid
from diffgen.config.positions import RPE2DConfig
from diffgen.config.train import TrainConfig
from diffgen.data.budget import cut_to_budget
from diffgen.data.fit import Limits
from diffgen.data.hub import HubStream
from diffgen.data.latents import Latents
from diffgen.data.order import TrainingData
from diffgen.data.source import ImageSource, build_images
from diffgen.device import chosen_device, on_cpu
from diffgen.errors import SharedError, UserError
from diffgen.files import locked
from diffgen.group import Group
from diffgen.models.dit import DiT
from diffgen.processes import build_process
from diffgen.sampling.preview import draw_preview
from diffgen.signals import Interrupted
from diffgen.training.checkpoint import TrainingState
from diffgen.training.checkpoints import Checkpoints
from diffgen.training.draws import Draws
from diffgen.training.latents import Encoder, open_encoder
from diffgen.training.loop import Hooks, Loop, Measure
from diffgen.training.run_folder import RunFolder
from diffgen.training.sharding import shard
from diffgen.training.step import Objective
from diffgen.training.throughput import Throughput, open_throughput
from diffgen.training.trackers import check_trackers, start_trackers


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
        gc.collect()  # what a split model leaves would hold connections until Python itself ends
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
    side = config.model.patch_size if isinstance(images, Latents) else token
    with group.together():
        set_seed(config.seed)
        objective = build_objective(config, num_classes, accelerator.device, encode)
        if not data.mixed_sizes:
            data.draws = build_draws(objective, encode)
        model, averaged = build_models(config, num_classes, shape, accelerator, folder)
        alignment = open_alignment(config, objective, model)
    names = images.class_names
    state = begin_training(config, model, accelerator, group, folder, names, data.count)
    exporter = Exporter(config, folder, names[:num_classes], encode.space if encode else None)
    with group.together():
        if group.main:
            exporter.check(state)
            start_trackers(config, accelerator, state.seen)
    if state.seen:  # a kill may have come between the checkpoint and its snapshot
        on_main(exporter.snapshot, state, group)
    limits = size_limits(config, token)
    measures = open_measures(config, group, objective, exporter, averaged, names, limits)
    throughput = open_throughput(config, averaged, accelerator.device, group.world)
    Loop(
        settings=config.train,
        accelerator=accelerator,
        group=group,
        data=data,
        model=model if state.sharded else accelerator.prepare(model),
        objective=alignment or objective,
        state=state,
        folder=folder,
        hooks=build_hooks(exporter, averaged, measures, throughput),
        parts=alignment.parts if alignment else dict,
        cut=lambda batch: cut_to_budget(batch, side, config.train.token_budget),
        remedy="lower --optimizer rates in a new --out, with --init, may help",
    ).run()
    on_main(lambda whole: exporter.save(averaged, exporter.export_weights(whole)), state, group)
    if group.main:
        try:
            draw_report(config, folder, images)
        except Interrupted as stop:
            left = "the training is finished, the same command draws and scores its pictures"
            raise Interrupted(stop.signum, left) from None


def build_hooks(
    exporter: Exporter, averaged: DiT, measures: Sequence[Measure], throughput: Throughput
) -> Hooks:
    """What happens beside the training, with the weights of its average in ``averaged``."""
    samples, drawn = exporter.folder.samples, exporter.config.sampling

    def preview(state: TrainingState) -> None:
        pipe = exporter.pipeline(averaged, state.ema.preview.weights)
        draw_preview(pipe, drawn, samples / f"images-{state.seen:09d}.png")

    def checkpoint(state: TrainingState) -> None:
        exporter.snapshot(state)
        exporter.save(averaged, state.ema.preview.weights)

    return Hooks(preview, checkpoint, measures, throughput.facts)


def on_main(action: Callable[[TrainingState], object], state: TrainingState, group: Group) -> None:
    """``action`` on the main process, with averages that are whole. All must call it."""
    whole = state.whole(group.main)
    with group.together():
        if group.main:
            action(whole)


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
        route=config.train.route,
        depth=model.depth,
    )


def build_draws(objective: Objective, encode: Encoder | None) -> Draws:
    """What ``objective`` draws for a sample, to be drawn where it is loaded."""
    latents = encode.space.format if encode else None
    posterior = encode is not None and encode.config.sample
    return Draws(objective.process, objective.seed, latents, posterior)


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


def begin_training(
    config: TrainConfig,
    model: DiT,
    accelerator: Accelerator,
    group: Group,
    folder: RunFolder,
    class_names: tuple[str, ...],
    num_images: int | None,
) -> TrainingState:
    """The state of ``model``, split among the processes if so asked, fresh or resumed.

    All processes must call it; what waits for others in it stands outside of common blocks.
    """
    sharded = config.train.sharding == "full"
    if sharded:
        shard(model, accelerator.device, group.world, accelerator.mixed_precision == "bf16")
    with group.together():
        state = fresh_state(config, model, accelerator, class_names, num_images, sharded=sharded)
    newest = Checkpoints(folder.path).newest()
    if newest is not None:
        state.load_together(newest, group)
    with group.together():
        tell_resumed(state, accelerator, folder)
    return state
