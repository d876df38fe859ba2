"""The model a training begins with, what draws with its averages, and what aligns it."""

import copy

from accelerate import Accelerator

from diffgen.config.base import token_grid
from diffgen.config.model import Attention
from diffgen.config.train import TrainConfig
from diffgen.models.attention import chosen_backend
from diffgen.models.compiled import compile_blocks
from diffgen.models.dit import DiT
from diffgen.training.align import Alignment, attach_projector, load_encoder
from diffgen.training.checkpoints import Checkpoints
from diffgen.training.initialise import adopt_weights, moved_positions
from diffgen.training.run_folder import RunFolder
from diffgen.training.step import Objective
from diffgen.training.trainable import choose_trainable


def build_models(
    config: TrainConfig,
    num_classes: int,
    shape: tuple[int, int, int],
    accelerator: Accelerator,
    folder: RunFolder,
) -> tuple[DiT, DiT]:
    """The model to train on images of ``shape`` (C, H, W), and one that gets its averaged weights.

    Raises:
        UserError: what it is to start from does not fit, or nothing of it would be trained.
    """
    model = DiT.build(
        config.model,
        num_classes=num_classes,
        in_channels=shape[0],
        sample_size=shape[1:],
        learned_variance=config.process.learned_variance,
    )
    averaged = copy.deepcopy(model).to(accelerator.device)
    averaged.attention = "auto"  # it draws in fp32, which varlen cannot
    begin_model(config, model, accelerator, folder)
    return model, averaged


def begin_model(
    config: TrainConfig, model: DiT, accelerator: Accelerator, folder: RunFolder
) -> None:
    """Give a new run the weights it starts from; choose what is trained, and how it computes."""
    model.to(accelerator.device)
    packed = config.data.mixed_sizes and config.train.mixed == "packed"
    tell_attention(model.attention, packed, accelerator)
    fresh: list[str] = []
    if config.init and Checkpoints(folder.path).newest() is None:
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
    if config.train.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    if config.train.compile:
        compile_blocks(model)


def tell_attention(asked: Attention, packed: bool, accelerator: Accelerator) -> None:
    """Print the backend that will compute, where there was something to choose."""
    cuda, half = accelerator.device.type == "cuda", accelerator.mixed_precision == "bf16"
    backend = chosen_backend(asked, packed, cuda, half)
    if cuda or asked != "auto":
        accelerator.print(f"attention: {backend}")


def open_alignment(config: TrainConfig, objective: Objective, model: DiT) -> Alignment | None:
    """What aligns ``model``, which gets a projector; None: nothing does.

    Raises:
        UserError: the encoder cannot be had, or gives no features of patches.
    """
    if config.align is None:
        return None
    encoder, features = load_encoder(config.align, model.device)
    attach_projector(model, config.align, features, config.seed)
    return Alignment(objective, model, encoder, config.align)
