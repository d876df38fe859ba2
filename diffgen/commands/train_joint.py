"""``joint``: from a trained model and pairs of pictures to an adapter that draws both."""

import copy
from typing import Any, NamedTuple

from accelerate.utils import set_seed
from torch import nn

from diffgen.commands.beside import Training, encoder, known_labels, tell_size, train_beside
from diffgen.commands.condition_files import BLACK, WHITE
from diffgen.commands.joint_report import build_pairs, draw_sheet, drawer_of, report, reported
from diffgen.commands.load import load_pipeline
from diffgen.config.beside import Settled
from diffgen.config.command_line import load
from diffgen.config.data import FolderConfig
from diffgen.config.joint import CHANNELS_SUFFIX, FOLDER, JointConfig
from diffgen.config.places import run_folder
from diffgen.config.process import DDPMConfig, MinSNRWeighting
from diffgen.config.train import TrainConfig
from diffgen.data.hub import HubStream
from diffgen.data.paired import PairedImages
from diffgen.data.source import ImageSource, build_images
from diffgen.errors import UserError
from diffgen.files import write_folder
from diffgen.joint.adapter import JointAdapter
from diffgen.joint.channels import ChannelsObjective, widened
from diffgen.joint.pairs import folder_pair, pair_named, read_from_files
from diffgen.joint.training import Joined, JointObjective, Tally, named_losses
from diffgen.lacon.conditions import Condition
from diffgen.lacon.training import MappedData, Reader
from diffgen.models.beside import fingerprint
from diffgen.models.dit import DiT
from diffgen.pipeline import DiffGenPipeline
from diffgen.processes import Process, build_process
from diffgen.training.checkpoint import TrainingState


def train_joint(config: JointConfig) -> None:
    """Train, or resume training, then draw both ways and measure it.

    Raises:
        UserError: anything a user can mend; see its message.
        Interrupted: a signal came; see its message.
    """
    train_beside(config, pair_of, run, CHANNELS_SUFFIX if config.method == "channels" else "")


def pair_of(config: JointConfig) -> Condition:
    """What images are paired with. Raises UserError: see ``pair_named``."""
    if config.pair == FOLDER:
        return folder_pair(config.called)
    found = pair_named(config.pair)
    return found if config.pair_path is None else read_from_files(found)


class Built(NamedTuple):
    """All that is made before anything is written."""

    data: MappedData
    pipe: DiffGenPipeline
    """Of the frozen model."""
    trained: JointAdapter | DiT
    module: nn.Module
    """What the objective calls."""
    objective: JointObjective | ChannelsObjective
    tally: Tally | None
    """Losses by branch and time, with two branches."""


def run(training: Training[JointConfig]) -> None:
    """Build everything, then write: train, export, draw, measure."""
    with training.group.together():
        built = build(training)
        backbone = fingerprint(built.pipe.transformer)
        if training.group.main:
            pairs = build_pairs(training, built.data, built.objective)
    state = training.begin(built.trained, built.data, backbone)
    before = state.seen
    if training.group.main:
        averaged = copy.deepcopy(built.trained).requires_grad_(False).eval()
        if isinstance(averaged, JointAdapter):
            averaged.register_to_config(backbone=backbone)
        drawer = drawer_of(training, built.pipe, averaged)

    def preview(state: TrainingState) -> None:
        averaged.load_state_dict(state.ema.preview.weights)
        target = training.folder.samples / f"images-{state.seen:09d}.png"
        draw_sheet(pairs, drawer, target)

    def finish() -> None:
        if state.seen == before and reported(training, drawer, state.seen):
            return
        averaged.load_state_dict(state.ema.preview.weights)
        write_folder(training.settled.out / drawer.kind, averaged.save_pretrained)
        preview(state)
        report(training, pairs, drawer, state.seen)

    def parts() -> dict[str, tuple[float, float]]:
        return {} if built.tally is None else named_losses(built.tally.take())

    training.loop(built.module, built.objective, built.data, state, preview, parts)
    training.end(finish, "draws and measures what it has learnt")


def build(training: Training[JointConfig]) -> Built:
    """The pairs, what is trained, fresh, and what it minimises."""
    settled, condition, device = training.settled, training.condition, training.accelerator.device
    config = settled.config
    data = MappedData(images_of(settled, condition), config.seed, condition)
    check_maps(data, condition)
    pipe = load_pipeline(config.source, config.device, vae=config.vae).pipe
    model = pipe.transformer.requires_grad_(False)
    set_seed(config.seed)
    common: dict[str, Any] = {
        "process": training_process(settled, pipe),
        "reader": Reader(condition, device, encoder(pipe)),
        "labels": known_labels(training, data.images),
        "null_label": model.num_classes,
        "seed": config.seed,
        "class_dropout": config.class_dropout,
    }
    if config.method == "channels":
        wide = widened(model)
        tell_size(training, "model", wide, model)
        return Built(data, pipe, wide, wide, ChannelsObjective(**common), None)
    adapter, tally = build_adapter(training, model), Tally(device)
    objective = JointObjective(
        **common, times=config.times, joint_dropout=config.joint_dropout, tally=tally
    )
    return Built(data, pipe, adapter, Joined(model, adapter), objective, tally)


def check_maps(data: MappedData, condition: Condition) -> None:
    """Raises UserError: neither has the data maps of ``condition``, nor do pictures tell them."""
    if data.stored is None and condition.find is None:
        raise UserError(
            f"pair: {condition.name} cannot be found in pictures; it needs data that brings it, or "
            "--pair-path DIR, a folder of its maps, with --data.kind folder"
        )


def build_adapter(training: Training[JointConfig], model: DiT) -> JointAdapter:
    """A fresh one for ``model``; how large it is, is printed."""
    config, condition = training.settled.config, training.condition
    adapter = JointAdapter.of(
        model,
        condition.name,
        condition.channels,
        condition.binary,
        rank=config.rank,
        condition_rank=config.condition_rank,
        every=config.every,
        projection=config.projection,
        projection_rank=config.projection_rank,
    )
    stated = adapter.config
    ranks = {
        "joint attention": stated.rank,
        "the condition's own": stated.condition_rank,
        "projection": stated.projection_rank or "full",
    }
    told = f"ranks: {', '.join(f'{what} {rank}' for what, rank in ranks.items())}"
    tell_size(training, "adapter", adapter, model, told)
    return adapter


def images_of(settled: Settled[JointConfig], condition: Condition) -> ImageSource | HubStream:
    """The training images, with those of a folder where they are paired with such.

    Transparent parts of these are what ``stored_map`` takes them for.
    """
    config, data = settled.config, settled.data
    if config.pair_path and isinstance(data, FolderConfig):
        background, grey = BLACK if condition.binary else WHITE, condition.channels == 1
        return PairedImages(data, config.pair_path, background=background, grey=grey)
    return build_images(data)


def training_process(settled: Settled[JointConfig], pipe: DiffGenPipeline) -> Process:
    """The model's, with the times its own run states of a flow, and the weights of a chain.

    Raises:
        UserError: its run folder's configuration cannot be read.
    """
    stated, run = pipe.process_config, run_folder(settled.source)
    if isinstance(stated, DDPMConfig):
        weighting = MinSNRWeighting(gamma=settled.config.min_snr_gamma)
        stated = stated.model_copy(update={"weighting": weighting})
    elif run is not None:
        stated = load(TrainConfig, run / "config.yaml").process
    model = pipe.transformer
    return build_process(stated, model.convention, model.config.prediction)
