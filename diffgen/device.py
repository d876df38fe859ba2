"""Where to compute: on a GPU, or on the CPU."""

import torch

from diffgen.config.sampling import told_to_use_cpu
from diffgen.errors import UserError


def on_cpu(asked: str) -> bool:
    """True when ``auto``, ``cuda`` or ``cpu`` comes to the CPU here."""
    return asked == "cpu" or told_to_use_cpu() or not torch.cuda.is_available()


def chosen_device(asked: str, low_precision: str | None = None) -> str:
    """``cuda`` or ``cpu``, out of ``auto``, ``cuda`` and ``cpu``.

    ``low_precision`` names the option that asked for bf16, if one did.

    Raises:
        UserError: cuda was asked for and there is none, or bf16 and it would be the CPU.
    """
    cpu = on_cpu(asked)
    if asked == "cuda" and cpu:
        why = "ACCELERATE_USE_CPU is set" if told_to_use_cpu() else "torch sees no GPU"
        raise UserError(f"device: cuda was asked for, but {why}; use auto or cpu")
    if cpu and low_precision:
        raise UserError(f"{low_precision}: bf16 needs a GPU; on a CPU diffgen computes in fp32")
    return "cpu" if cpu else "cuda"
