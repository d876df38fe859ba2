"""Where to compute: on a GPU, or on the CPU."""

import torch

from diffgen.config.sampling import told_to_use_cpu
from diffgen.errors import UserError


def chosen_device(asked: str, low_precision: str | None = None) -> str:
    """``cuda`` or ``cpu``, out of ``auto``, ``cuda`` and ``cpu``.

    ``low_precision`` names the option that asked for bf16, if one did.

    Raises:
        UserError: cuda was asked for and there is none, or bf16 and it would be the CPU.
    """
    if asked == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda was asked for, but torch sees no GPU; use auto or cpu")
    cpu = asked == "cpu" or told_to_use_cpu() or not torch.cuda.is_available()
    if cpu and low_precision:
        raise UserError(f"{low_precision}: bf16 needs a GPU; on a CPU diffgen computes in fp32")
    return "cpu" if cpu else "cuda"
