"""Rebuilding an average of any width from snapshots (Karras et al. 2024, EDM2, section 3)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from diffgen.config.ema import PowerEMAConfig
from diffgen.errors import UserError
from diffgen.training.ema import average_names, gamma_of_width


@dataclass(frozen=True)
class Profile:
    """The profile of one stored average: its width and the images seen when it was stored."""

    width: float
    seen: int


def overlap(a: Profile, b: Profile) -> float:
    """Inner product of two profiles p(s) = (gamma + 1) s^gamma / T^(gamma + 1) on [0, T]."""
    gamma_a, gamma_b = gamma_of_width(a.width), gamma_of_width(b.width)
    if a.seen > b.seen:
        gamma_a, gamma_b, a, b = gamma_b, gamma_a, b, a
    # The shorter profile ends first, so the product lives on [0, a.seen].
    ratio = (a.seen / b.seen) ** gamma_b / b.seen
    return (gamma_a + 1) * (gamma_b + 1) / (gamma_a + gamma_b + 1) * ratio


def coefficients(stored: list[Profile], wanted: Profile) -> np.ndarray:
    """Weights of the stored averages whose sum is closest to the wanted one (least squares).

    Returns:
        (len(stored),) float64. Their sum says how well it went: close to 1, or too few are stored.
    """
    gram = np.array([[overlap(a, b) for b in stored] for a in stored])
    target = np.array([overlap(a, wanted) for a in stored])
    scale = 1 / np.sqrt(np.diag(gram))  # neighbouring profiles are nearly parallel: equilibrate
    solution = np.linalg.lstsq(gram * np.outer(scale, scale), target * scale, rcond=None)[0]
    return solution * scale


def snapshots_until(folder: Path, seen: int, field: str) -> list[Path]:
    """The snapshots in ``folder`` taken after at most ``seen`` images, the earliest first.

    Raises:
        UserError: there is none; ``field`` names the setting that asked.
    """
    files = sorted(file for file in folder.glob("*.safetensors") if file.stem.isdigit())
    early = [file for file in files if int(file.stem) <= seen]
    if not early:
        first = f"; the first is that of {int(files[0].stem)} images" if files else ""
        raise UserError(f"{field}: no snapshot in {folder} up to {seen} images{first}")
    return early


def rebuild(
    files: list[Path], ema: PowerEMAConfig, wanted: Profile, field: str
) -> dict[str, Tensor]:
    """The average ``wanted`` from the snapshots ``files``, by parameter name, on the CPU.

    Raises:
        UserError: there are too few of them, or one is damaged; ``field`` names the setting that
            asked.
    """
    stored = [Profile(width, int(file.stem)) for file in files for width in ema.widths]
    found = coefficients(stored, wanted)
    if abs(found.sum() - 1) > 0.02:
        raise UserError(
            f"{field}: width {wanted.width} cannot be rebuilt from {len(files)} snapshots; "
            f"take one of {ema.widths}, or train with more snapshots"
        )
    shares = iter((found / found.sum()).tolist())  # an average of weights must not scale them
    rebuilt: dict[str, Tensor] = {}
    for file in files:
        try:
            tensors = load_file(file)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{field}: {file} cannot be read: {error}") from error
        names = {name.partition("/")[2] for name in tensors}
        for average in average_names(ema):
            share = next(shares)
            for name in names:
                weights = tensors.get(f"{average}/{name}")
                if weights is None:
                    raise UserError(f"{field}: {file} lacks {name} of the average {average}")
                before = rebuilt.setdefault(name, torch.zeros_like(weights))
                if before.shape != weights.shape:
                    raise UserError(f"{field}: {file} is of another model: see {name}")
                before += share * weights
    return rebuilt
