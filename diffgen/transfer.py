"""From the host to a GPU without waiting for it."""

from collections.abc import Sequence

import torch
from torch import Tensor


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """``x`` on ``device``.

    A copy from ordinary memory waits until the GPU has done all that is queued, and a training
    step that waits leaves it idle while the next one is prepared. One from pinned memory does not.
    """
    if device.type == "cuda" and x.device.type == "cpu":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)


def values_like(values: Sequence[float], like: Tensor) -> Tensor:
    """(len(values),) of the dtype and on the device of ``like``, as ``like.new_tensor`` makes it
    with a wait."""
    return to_device(torch.tensor(values, dtype=like.dtype), like.device)
