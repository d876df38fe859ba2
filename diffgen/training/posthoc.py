"""Rebuilding an average of any width from snapshots (Karras et al. 2024, EDM2, section 3).

An average with the profile p is theta_0 + integral of (1 - P(s)) d theta(s), P being the integral
of p. EDM2 fits the profiles p by least squares; here the 1 - P are fitted, with shares that sum to
1. This is the fit of least expected error for weights that walk at random, and it keeps nearer to
the weights of trainings too: see docs/averages.md.
"""

from collections.abc import Sequence
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

LARGEST_ERROR = 1 / 3
"""Beyond this expected error nothing is rebuilt; see ``expected_error``."""


@dataclass(frozen=True)
class Profile:
    """The profile of one stored average: its width and the images seen when it was stored."""

    width: float
    seen: int


def overlap(a: Profile, b: Profile) -> float:
    """Inner product of two 1 - P(s), with P(s) = (s / T)^(gamma + 1) on [0, T] and then 1."""
    power_a, power_b = gamma_of_width(a.width) + 1, gamma_of_width(b.width) + 1
    if a.seen > b.seen:
        power_a, power_b, a, b = power_b, power_a, b, a
    # The shorter profile ends first, so the product lives on [0, a.seen].
    ratio = (a.seen / b.seen) ** power_b
    return a.seen * (
        1 - 1 / (power_a + 1) - ratio / (power_b + 1) + ratio / (power_a + power_b + 1)
    )


def coefficients(stored: Sequence[Profile], wanted: Profile) -> np.ndarray:
    """Shares of the stored averages, summing to 1, whose mixture is closest to the wanted one.

    Returns:
        (len(stored),) float64; one that is stored has the share 1.
    """
    if wanted in stored:
        return np.eye(len(stored))[stored.index(wanted)]
    gram, target = _products(stored, wanted)
    scale = 1 / np.sqrt(np.diag(gram))  # neighbouring profiles are nearly parallel: equilibrate
    count = len(stored)
    system = np.zeros((count + 1, count + 1))  # a Lagrange multiplier holds the sum
    system[:count, :count] = gram * np.outer(scale, scale)
    system[count, :count] = system[:count, count] = scale
    solution = np.linalg.lstsq(system, np.append(target * scale, 1), rcond=None)[0]
    shares = solution[:count] * scale
    return shares / shares.sum()


def expected_error(stored: Sequence[Profile], wanted: Profile) -> float:
    """How far from the wanted average the best mixture of the stored ones is expected to be.

    Returns:
        Root mean squared distance, as a share of that between the wanted average and the weights
        it ends with, for weights that walk at random.
    """
    shares = coefficients(stored, wanted)
    gram, target = _products(stored, wanted)
    missed = shares @ gram @ shares - 2 * shares @ target + overlap(wanted, wanted)
    from_weights = wanted.seen / (2 * gamma_of_width(wanted.width) + 3)  # integral of P^2
    return float(np.sqrt(max(0.0, missed) / from_weights))


def _products(stored: Sequence[Profile], wanted: Profile) -> tuple[np.ndarray, np.ndarray]:
    gram = np.array([[overlap(a, b) for b in stored] for a in stored])
    return gram, np.array([overlap(a, wanted) for a in stored])


def snapshots_in(folder: Path) -> list[Path]:
    """The snapshots in ``folder``, the earliest first."""
    return sorted(file for file in folder.glob("*.safetensors") if file.stem.isdigit())


def snapshots_until(folder: Path, seen: int, field: str) -> list[Path]:
    """The snapshots in ``folder`` taken after at most ``seen`` images, the earliest first.

    Raises:
        UserError: there is none; ``field`` names the setting that asked.
    """
    files = snapshots_in(folder)
    early = [file for file in files if int(file.stem) <= seen]
    if not early:
        first = f"; the first is that of {int(files[0].stem)} images" if files else ""
        raise UserError(f"{field}: no snapshot in {folder} up to {seen} images{first}")
    return early


def snapshots_around(folder: Path, seen: int, field: str) -> list[Path]:
    """The snapshots in ``folder`` up to the first one that is no earlier than ``seen`` images.

    Those before ``seen`` cannot know the weights since; the one after it does. Later ones are left
    out, so that the answer stays the same while a training goes on.

    Raises:
        UserError: ``seen`` is not between the first and the newest; ``field`` as above.
    """
    files = snapshots_in(folder)
    times = [int(file.stem) for file in files]
    if not files:
        raise UserError(f"{field}: no snapshot in {folder}")
    if not times[0] <= seen <= times[-1]:
        raise UserError(
            f"{field}: {seen} images, but the snapshots in {folder} reach from {times[0]} to "
            f"{times[-1]} images"
        )
    last = next(number for number, time in enumerate(times) if time >= seen)
    return files[: last + 1]


def profiles(files: Sequence[Path], ema: PowerEMAConfig) -> list[Profile]:
    """What the snapshots ``files`` hold, in the order of their names in each."""
    return [Profile(width, int(file.stem)) for file in files for width in ema.widths]


def rebuild(
    files: list[Path], ema: PowerEMAConfig, wanted: Profile, field: str
) -> dict[str, Tensor]:
    """The average ``wanted`` from the snapshots ``files``, by parameter name, on the CPU.

    Raises:
        UserError: there are too few of them, or one is damaged; ``field`` names the setting that
            asked.
    """
    stored = profiles(files, ema)
    error = expected_error(stored, wanted)
    if error > LARGEST_ERROR:
        raise UserError(
            f"{field}: width {wanted.width:g} cannot be rebuilt from {len(files)} snapshots "
            f"(expected error {error:.0%}, at most {LARGEST_ERROR:.0%} is allowed); take one of "
            f"{ema.widths} at a snapshot, or train with more ema.snapshots"
        )
    shares = iter(coefficients(stored, wanted).tolist())
    rebuilt: dict[str, Tensor] = {}
    for file in files:
        wanted_here = {name: next(shares) for name in average_names(ema)}
        if any(wanted_here.values()):
            _add(file, wanted_here, rebuilt, field)
    return rebuilt


def _add(file: Path, shares: dict[str, float], rebuilt: dict[str, Tensor], field: str) -> None:
    """Add the averages of one snapshot, by name in these ``shares``, to what is rebuilt."""
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{field}: {file} cannot be read ({error}); without it the others may do"
        ) from error
    names = {name.partition("/")[2] for name in tensors}
    for average, share in shares.items():
        for name in names:
            weights = tensors.get(f"{average}/{name}")
            if weights is None:
                raise UserError(f"{field}: {file} lacks {name} of the average {average}")
            before = rebuilt.setdefault(name, torch.zeros_like(weights))
            if before.shape != weights.shape:
                raise UserError(f"{field}: {file} is of another model: see {name}")
            if share:
                before += share * weights
