"""The Gaussians of a DDPM chain as formulas.

alpha = sqrt(abar) and sigma = sqrt(1 - abar), so x_t = alpha x0 + sigma eps with
alpha^2 + sigma^2 = 1. Levels broadcast against the images.
"""

import math
from typing import TypeAlias

import torch
from torch import Tensor

from diffgen.config.model import Prediction

Levels: TypeAlias = Tensor | float


def x0_from_eps(x_t: Tensor, eps: Tensor, alpha: Levels, sigma: Levels) -> Tensor:
    """(x_t - sigma eps) / alpha."""
    return (x_t - sigma * eps) / alpha


def eps_from_x0(x_t: Tensor, x0: Tensor, alpha: Levels, sigma: Levels) -> Tensor:
    """(x_t - alpha x0) / sigma."""
    return (x_t - alpha * x0) / sigma


def v_from_x0_eps(x0: Tensor, eps: Tensor, alpha: Levels, sigma: Levels) -> Tensor:
    """alpha eps - sigma x0 (Salimans and Ho 2022, sec. 4)."""
    return alpha * eps - sigma * x0


def x0_from_v(x_t: Tensor, v: Tensor, alpha: Levels, sigma: Levels) -> Tensor:
    """alpha x_t - sigma v."""
    return alpha * x_t - sigma * v


def x0_from(
    prediction: Prediction, output: Tensor, x_t: Tensor, alpha: Levels, sigma: Levels
) -> Tensor:
    """x0 from what a model of the given prediction answers."""
    match prediction:
        case "eps":
            return x0_from_eps(x_t, output, alpha, sigma)
        case "v":
            return x0_from_v(x_t, output, alpha, sigma)
        case "x0":
            return output
    raise ValueError(f"prediction {prediction!r} is not one of eps, v, x0")


def target(prediction: Prediction, x0: Tensor, eps: Tensor, alpha: Levels, sigma: Levels) -> Tensor:
    """What a model of the given prediction should answer."""
    match prediction:
        case "eps":
            return eps
        case "v":
            return v_from_x0_eps(x0, eps, alpha, sigma)
        case "x0":
            return x0
    raise ValueError(f"prediction {prediction!r} is not one of eps, v, x0")


def step_beta(abar_t: Tensor, abar_s: Tensor) -> Tensor:
    """1 - abar_t / abar_s: the noise that leads from s to the noisier t in one step."""
    return 1 - abar_t / abar_s


def posterior_mean(x_t: Tensor, x0: Tensor, abar_t: Tensor, abar_s: Tensor) -> Tensor:
    """E[x_s | x_t, x0] for s less noisy than t (Ho et al. 2020, eq. 7)."""
    beta = step_beta(abar_t, abar_s)
    from_x0 = abar_s.sqrt() * beta / (1 - abar_t)
    from_x_t = (1 - beta).sqrt() * (1 - abar_s) / (1 - abar_t)
    return from_x0 * x0 + from_x_t * x_t


def posterior_variance(abar_t: Tensor, abar_s: Tensor) -> Tensor:
    """Var[x_s | x_t, x0], beta~ (Ho et al. 2020, eq. 7)."""
    return step_beta(abar_t, abar_s) * (1 - abar_s) / (1 - abar_t)


def min_snr_weight(
    prediction: Prediction, alpha: Tensor, sigma: Tensor, gamma: float = math.inf
) -> Tensor:
    """The factor on a prediction's squared error that makes it min(SNR, gamma) times that of x0.

    Hang et al. 2023, sec. 3.4: an error of x0 is one of eps times sigma / alpha, one of v times
    sigma. Without gamma the three losses are that of eps.
    """
    snr = (alpha / sigma).square()
    weight = snr.clamp(max=gamma)
    match prediction:
        case "eps":
            return weight / snr
        case "v":
            return weight / (snr + 1)
        case "x0":
            return weight
    raise ValueError(f"prediction {prediction!r} is not one of eps, v, x0")


def normal_kl(mean: Tensor, log_variance: Tensor, mean_q: Tensor, log_variance_q: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(mean_q, variance_q)) of each element [nats]."""
    ratio = log_variance - log_variance_q
    distance = (mean - mean_q).square() * torch.exp(-log_variance_q)
    return 0.5 * (ratio.exp() - 1 - ratio + distance)


def discretised_nll(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """-log of N(mean, variance)'s mass in each element's bin of 1/255 around ``x`` [nats].

    ``x`` in [-1, 1] in steps of 2/255; the end bins reach to infinity (Ho et al. 2020, eq. 13).
    The distribution function is the tanh form of the released losses, within 4e-4 of the true one.
    """
    width, scale = 1 / 255, torch.exp(-0.5 * log_variance)
    below = _normal_cdf((x - width - mean) * scale)
    above = _normal_cdf((x + width - mean) * scale)
    below = torch.where(x < -0.999, 0, below)
    above = torch.where(x > 0.999, 1, above)
    return -(above - below).clamp(min=1e-12).log()


def _normal_cdf(x: Tensor) -> Tensor:
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
