"""Models too large for every process to hold: each keeps a share of every parameter.

torch's ``fully_shard`` splits parameters, gradients, averages and the optimiser's state, and
gathers a block's weights while it computes (ZeRO-3, Rajbhandari et al. 2020).
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from diffgen.errors import SharedError


def shard(model: nn.Module, device: torch.device, world: int, half: bool = False) -> None:
    """Split ``model`` and each of its ``blocks`` among ``world`` processes, in place.

    Parameters become DTensors of the same names. Alone, a process keeps all and nothing changes.

    Args:
        model: on ``device``, the same in every process.
        half: the blocks' weights are gathered as bf16; gradients are still summed in fp32.
    """
    if world == 1:
        return
    mesh = init_device_mesh(device.type, (world,))
    policy = MixedPrecisionPolicy(cast_forward_inputs=False)
    if half:
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    for block in cast(nn.ModuleList, model.blocks):
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh)


def whole(tensors: Mapping[str, Tensor], keep: bool = True) -> dict[str, Tensor]:
    """Tensors gathered on the CPU where they are split, else as they are. All must call it.

    ``keep``: false in a process that only takes part; what it gets then is empty.
    """
    gathered = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, DTensor):
            tensor = tensor.full_tensor().cpu()
        if keep:
            gathered[name] = tensor
    return gathered


def save_shards(folder: Path, group: Any, **parts: Any) -> None:
    """Write this process's share of ``parts`` into ``folder``. All must call it.

    Args:
        folder: exists, and is seen by all.
        group: torch's process group of all; None: there is one process.
        parts: nested mappings of tensors.

    Raises:
        SharedError: one process could not write its share, in all of them.
    """
    with _shared(f"{folder} cannot be written"):
        dcp.save(parts, checkpoint_id=folder, process_group=group, no_dist=group is None)


def load_shards(folder: Path, group: Any, **parts: Any) -> None:
    """Fill the tensors of ``parts`` from ``folder``, however many processes wrote it.

    Raises:
        SharedError: something is missing, damaged or of another shape, in all of them.
    """
    with _shared(f"{folder} cannot be read"):
        dcp.load(parts, checkpoint_id=folder, process_group=group, no_dist=group is None)


@contextmanager
def _shared(what: str) -> Iterator[None]:
    """A failure of one process, which torch tells all of them, as a message."""
    try:
        with warnings.catch_warnings():  # alone is as good as together
            warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
            yield
    except CheckpointException as error:
        raise SharedError(f"{what}: {_first(error.failures.values())}") from error


def tensors_of(model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> dict[str, Any]:
    """Weights and the optimisers' state by parameter name, as ``save_shards`` takes them."""
    return {
        "model": get_model_state_dict(model),
        "optimizer": get_optimizer_state_dict(model, optimizers),
    }


def put_tensors(
    model: nn.Module, optimizers: list[torch.optim.Optimizer], tensors: Mapping[str, Any]
) -> None:
    """The inverse of ``tensors_of``."""
    set_model_state_dict(model, tensors["model"])
    set_optimizer_state_dict(model, optimizers, tensors["optimizer"])


def _first(failures: Iterable[Any]) -> str:
    """What the first process that failed met, in a line."""
    failure = next(iter(failures), "a process failed")
    error = failure[0] if isinstance(failure, tuple) else failure
    return (str(error) or type(error).__name__).splitlines()[0]
