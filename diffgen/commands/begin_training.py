"""How every training begins: the processes' Accelerator, and the state, fresh or resumed."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import DynamoBackend, ProjectConfiguration
from torch import nn

from diffgen.config.beside import BesideConfig
from diffgen.config.loop import LoopConfig
from diffgen.config.nitro import NitroConfig
from diffgen.config.nitro_stages import RegressionConfig
from diffgen.config.sampling import Device
from diffgen.config.track import Tracker
from diffgen.config.train import TrainConfig
from diffgen.device import chosen_device
from diffgen.errors import UserError
from diffgen.training.checkpoint import TrainingState
from diffgen.training.checkpoints import Checkpoints
from diffgen.training.ema import EMA
from diffgen.training.optimizers import build_optimizers, build_schedules
from diffgen.training.run_folder import RunFolder

FOREIGN = ("FSDP", "DEEPSPEED", "MEGATRON_LM")
"""Ways of Accelerate's to split a model."""


def open_accelerator(
    loop: LoopConfig,
    asked: Device,
    out: Path,
    track: Sequence[Tracker] = (),
    field: str = "train",
) -> Accelerator:
    """Accelerate on the device asked for; trackers write into ``out``. ``field``: of the loop.

    Raises:
        UserError: no such device, bf16 on a CPU, a batch the processes cannot share, or a
            launcher that is asked for what diffgen does itself.
    """
    low = loop.precision == "bf16"
    accelerator = Accelerator(
        cpu=chosen_device(asked, f"{field}.precision" if low else None) == "cpu",
        mixed_precision="bf16" if low else "no",
        log_with=list(track) or None,
        project_config=ProjectConfiguration(str(out), str(out / "logs")),
    )
    foreign = accelerator.distributed_type.value
    if foreign in FOREIGN:
        raise UserError(
            f"accelerate's launch file asks for {foreign}, but diffgen splits models itself; leave "
            "it out there and take --train.sharding full"
        )
    if accelerator.state.dynamo_plugin.backend != DynamoBackend.NO:
        raise UserError(
            "accelerate's launch file asks for a dynamo_backend, which would compile the whole "
            "model; leave it out there and take --train.compile"
        )
    if loop.batch_size % (accelerator.num_processes * loop.accumulation):
        raise UserError(
            f"{field}.batch_size: {loop.batch_size} images cannot be shared by "
            f"{accelerator.num_processes} processes in {loop.accumulation} pieces each"
        )
    return accelerator


def begin_state(
    config: TrainConfig | BesideConfig | NitroConfig | RegressionConfig,
    model: nn.Module,
    accelerator: Accelerator,
    folder: RunFolder,
    class_names: tuple[str, ...],
    num_images: int | None,
    others: Mapping[str, nn.Module] | None = None,
) -> TrainingState:
    """Averages, optimisers and schedules of ``model``, fresh or as the newest checkpoint has them.

    The log is cut back to where the training goes on. ``others``: what else is trained, by name.

    Raises:
        UserError: the checkpoint cannot be read, or is one of other images.
    """
    state = fresh_state(config, model, accelerator, class_names, num_images, others)
    resume_state(state, accelerator, folder)
    return state


def fresh_state(
    config: TrainConfig | BesideConfig | NitroConfig | RegressionConfig,
    model: nn.Module,
    accelerator: Accelerator,
    class_names: tuple[str, ...],
    num_images: int | None,
    others: Mapping[str, nn.Module] | None = None,
    sharded: bool = False,
) -> TrainingState:
    """Averages, optimisers and schedules of ``model`` at its beginning; see ``begin_state``."""
    model.to(accelerator.device)
    optimizers = build_optimizers(config.optimizer, model)
    loop = config.train
    return TrainingState(
        model=model,
        ema=EMA(config.ema, model),
        optimizers=optimizers,
        schedules=build_schedules(config.schedule, optimizers, loop.images, loop.batch_size),
        others=others or {},
        class_names=class_names,
        num_images=num_images,
        sharded=sharded,
    )


def resume_state(state: TrainingState, accelerator: Accelerator, folder: RunFolder) -> None:
    """Go on from the newest checkpoint, if there is one.

    The log is cut back to where the training goes on.

    Raises:
        UserError: the checkpoint cannot be read, or is one of other images.
    """
    newest = Checkpoints(folder.path).newest()
    if newest is not None:
        state.load(newest)
    tell_resumed(state, accelerator, folder)


def tell_resumed(state: TrainingState, accelerator: Accelerator, folder: RunFolder) -> None:
    """Say where the training goes on, and cut its logs back to there, on the main process."""
    if state.seen:
        accelerator.print(f"resuming {folder.path} at {state.seen:,} images seen")
    if accelerator.is_main_process:
        folder.cut_log(state.seen)
