"""``lacon``: from a trained model and a condition to an aligner that reads it."""

import copy
import math

from accelerate.utils import set_seed

from diffgen.commands.aligner_report import build_examples, draw_reading, report
from diffgen.commands.beside import Training, encoder, known_labels, tell_size, train_beside
from diffgen.commands.load import load_pipeline
from diffgen.config.lacon import LaconConfig
from diffgen.data.source import build_images
from diffgen.lacon.aligner import Aligner
from diffgen.lacon.named import condition_named
from diffgen.lacon.training import AlignerObjective, MappedData, Reader, image_std
from diffgen.models.beside import fingerprint
from diffgen.pipeline import DiffGenPipeline
from diffgen.training.checkpoint import TrainingState


def train_aligner(config: LaconConfig) -> None:
    """Train, or resume training, then measure what the aligner reads at each time.

    Raises:
        UserError: anything a user can mend; see its message.
        Interrupted: a signal came; see its message.
    """
    train_beside(config, lambda asked: condition_named(asked.condition), run)


def run(training: Training[LaconConfig]) -> None:
    """Build everything, then write: train, export, measure."""
    settled, condition, group = training.settled, training.condition, training.group
    with group.together():
        data, aligner, objective = build(training)
        backbone = fingerprint(objective.denoiser.model)
        if group.main:
            examples, pictures = build_examples(settled, data, objective)
    state = training.begin(aligner, data, backbone)
    if group.main:
        averaged = copy.deepcopy(aligner).requires_grad_(False).eval()
        averaged.register_to_config(backbone=backbone, image_std=image_std(examples.x0))

    def preview(state: TrainingState) -> None:
        target = training.folder.samples / f"images-{state.seen:09d}.png"
        averaged.load_state_dict(state.ema.preview.weights)
        draw_reading(examples, pictures, averaged, condition, objective.low, target)

    def measure() -> None:
        preview(state)
        report(settled, objective, examples, averaged)

    training.loop(aligner, objective, data, state, preview)
    training.end(measure, "measures what it has learnt")


def build(training: Training[LaconConfig]) -> tuple[MappedData, Aligner, AlignerObjective]:
    """The pictures, a fresh aligner, and what it minimises on the frozen model."""
    settled, condition = training.settled, training.condition
    config = settled.config
    data = MappedData(build_images(settled.data), config.seed, condition)
    pipe = load_pipeline(config.source, config.device, vae=config.vae).pipe
    pipe.transformer.requires_grad_(False)
    set_seed(config.seed)
    aligner = build_aligner(training, pipe)
    first_step = 1 / (pipe.process_config.most_steps or math.inf)  # a chain has no earlier time
    objective = AlignerObjective(
        denoiser=pipe.denoiser([]),
        reader=Reader(condition, training.accelerator.device, encoder(pipe)),
        blocks=aligner.blocks,
        labels=known_labels(training, data.images),
        seed=config.seed,
        class_dropout=config.class_dropout,
        low=max(config.low, first_step),
    )
    return data, aligner, objective


def build_aligner(training: Training[LaconConfig], pipe: DiffGenPipeline) -> Aligner:
    """A fresh one for the model of ``pipe``; how large it is, is printed."""
    config, condition, model = training.settled.config, training.condition, pipe.transformer
    aligner = Aligner.of(
        model,
        condition.name,
        condition.channels,
        blocks=config.blocks,
        width=config.width,
        head_width=config.head_width,
        fusion=config.fusion,
    )
    blocks = f"on blocks {', '.join(map(str, aligner.blocks))} of {len(model.blocks)}"
    tell_size(training, "aligner", aligner, model, blocks)
    return aligner
