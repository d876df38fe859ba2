"""The chain's Gaussians: identities, brute force, losses that must agree, the learned variance."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from diffgen.config.model import TimeConvention
from diffgen.config.process import DDPMConfig, FlowConfig, MinSNRWeighting
from diffgen.errors import UserError
from diffgen.processes import DDPM, Flow, build_process
from diffgen.processes import gaussian as g

T = 1000
STEPS = torch.tensor([0, 1, 250, 700, 999])
TIMES = (STEPS + 1) / T
LABELS = torch.arange(5)
PREDICTIONS = ("eps", "v", "x0")
BETAS = ("linear", "cosine")


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


X0, EPS = draw(5, 2, 3, 4), draw(5, 2, 3, 4, seed=1)


def chain(prediction: str = "v", convention: TimeConvention | None = None, **options) -> DDPM:
    return DDPM(convention or TimeConvention(), prediction, DDPMConfig(**options))


def levels(process: DDPM, t: Tensor) -> list[Tensor]:
    """alpha and sigma in double precision, to multiply images with."""
    return [level[:, None, None, None] for level in process.levels(t.double())]


class Guess(nn.Module):
    """Believes x0 to be half of x_t, says so in the words of its prediction; notes its times."""

    def __init__(self, prediction: str, betas: str = "linear", raw: float | None = None) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
        self.raw = None if raw is None else nn.Parameter(torch.tensor(raw, dtype=torch.float64))
        self.prediction, self.betas = prediction, betas

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        self.t = t
        alpha, sigma = levels(chain(betas=self.betas), (t + 1) / T)
        x0 = self.gain * x
        eps = g.eps_from_x0(x, x0, alpha, sigma)
        out = {"x0": x0, "eps": eps, "v": g.v_from_x0_eps(x0, eps, alpha, sigma)}[self.prediction]
        return out if self.raw is None else torch.cat([out, self.raw.expand_as(out)], dim=1)


@pytest.mark.parametrize("betas", BETAS)
def test_x0_eps_and_v_are_three_views_of_one_point(betas):
    process = chain(betas=betas)
    x_t = process.add_noise(X0, EPS, TIMES)
    alpha, sigma = levels(process, TIMES)
    torch.testing.assert_close(x_t, alpha * X0 + sigma * EPS)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(alpha))
    v = g.v_from_x0_eps(X0, EPS, alpha, sigma)
    tolerance = {"rtol": 1e-6, "atol": 1e-9}  # the cosine chain ends at alpha = 5e-5
    torch.testing.assert_close(g.x0_from_v(x_t, v, alpha, sigma), X0, **tolerance)
    torch.testing.assert_close(g.x0_from_eps(x_t, EPS, alpha, sigma), X0, **tolerance)
    torch.testing.assert_close(g.eps_from_x0(x_t, X0, alpha, sigma), EPS, **tolerance)
    for prediction in PREDICTIONS:
        wanted = g.target(prediction, X0, EPS, alpha, sigma)
        torch.testing.assert_close(
            g.x0_from(prediction, wanted, x_t, alpha, sigma), X0, **tolerance
        )


def test_levels_at_the_ends_and_per_element():
    process = chain()
    alpha, sigma = process.levels(torch.tensor([0.0, 1 / T, 1.0], dtype=torch.float64))
    assert (alpha[0], sigma[0]) == (1, 0)
    assert sigma[1].item() == pytest.approx(0.01)  # sqrt of the first beta
    assert alpha[2].item() == pytest.approx(math.sqrt(4.0358e-5), rel=1e-4)


def test_the_models_time_is_the_step_exactly():
    t = (torch.arange(T) + 1) / T
    assert chain().own_time(t).tolist() == list(range(T))
    scaled = chain(convention=TimeConvention(scale=1)).own_time(t)
    assert scaled.tolist() == pytest.approx([k / T for k in range(T)])
    to_data = chain(convention=TimeConvention(direction="data")).own_time(t)
    assert to_data.tolist() == [1000 - k for k in range(T)]
    short = chain(num_train_timesteps=50).own_time((torch.arange(50) + 1) / 50)
    assert short.tolist() == [20 * k for k in range(50)]


def test_every_step_is_drawn_alike():
    process = chain(num_train_timesteps=25)
    generator = torch.Generator().manual_seed(0)
    steps = torch.stack([process.draw_time(generator) for _ in range(5000)]) * 25
    torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-5)
    counts = torch.bincount(steps.round().long(), minlength=26)
    assert counts[0] == 0
    assert (counts[1:] - 200).abs().max() < 5 * math.sqrt(200)


@pytest.mark.parametrize(("t", "s"), [(2, 1), (400, 399), (999, 600), (1000, 1)])
def test_the_posterior_by_brute_force(t, s):
    """Bayes on a fine grid of x_s: q(x_s | x0) q(x_t | x_s), also over many steps at once."""
    abar = chain().alpha_bar
    abar_t, abar_s = abar[t], abar[s]
    x0, x_t = torch.tensor(0.8, dtype=torch.float64), torch.tensor(-0.3, dtype=torch.float64)
    mean = g.posterior_mean(x_t, x0, abar_t, abar_s)
    std = g.posterior_variance(abar_t, abar_s).sqrt()
    x_s = mean + std * torch.linspace(-12, 12, 20_001, dtype=torch.float64)
    ratio = abar_t / abar_s
    log_density = -0.5 * (
        (x_s - abar_s.sqrt() * x0) ** 2 / (1 - abar_s)
        + (x_t - ratio.sqrt() * x_s) ** 2 / (1 - ratio)
    )
    density = torch.softmax(log_density, 0)
    found = (density * x_s).sum()
    torch.testing.assert_close(found, mean, rtol=0, atol=1e-8)
    variance = (density * (x_s - found) ** 2).sum()
    torch.testing.assert_close(variance, std**2, rtol=1e-6, atol=0)


def test_steps_compose():
    """Two posteriors in a row are the one over both steps."""
    abar_u, abar_s, abar_t = chain().alpha_bar[[100, 300, 600]]
    x0, x_t = X0[0], EPS[0]
    direct = g.posterior_mean(x_t, x0, abar_t, abar_u)
    torch.testing.assert_close(
        g.posterior_mean(g.posterior_mean(x_t, x0, abar_t, abar_s), x0, abar_s, abar_u), direct
    )
    slope = (1 - g.step_beta(abar_s, abar_u)).sqrt() * (1 - abar_u) / (1 - abar_s)
    variance = slope**2 * g.posterior_variance(abar_t, abar_s) + g.posterior_variance(
        abar_s, abar_u
    )
    torch.testing.assert_close(variance, g.posterior_variance(abar_t, abar_u))


@pytest.mark.parametrize(("betas", "gamma"), [*itertools.product(BETAS, (5.0, 1e9))])
def test_weighted_losses_agree_whatever_is_predicted(betas, gamma):
    """min(SNR, gamma) |x0 - guess|^2 (Hang et al. 2023), in eps, v and x0."""
    weighting = MinSNRWeighting(gamma=gamma)
    x_t = chain(betas=betas).add_noise(X0, EPS, TIMES)
    alpha, sigma = chain(betas=betas).levels(TIMES.double())
    expected = ((alpha / sigma) ** 2).clamp(max=gamma) * (X0 - x_t / 2).square().mean(dim=(1, 2, 3))
    for prediction in PREDICTIONS:
        process = chain(prediction, betas=betas, weighting=weighting)
        found = process.loss(Guess(prediction, betas), X0, EPS, TIMES, LABELS)
        assert found.shape == (5,)
        torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=0)


def test_plain_losses_are_squared_errors_of_what_is_predicted():
    """Their ratios are powers of the signal to noise ratio: eps = SNR x0, v = (SNR + 1) x0."""
    eps, v, x0 = (
        chain(p).loss(Guess(p), X0, EPS, TIMES, LABELS).double() for p in ("eps", "v", "x0")
    )
    alpha, sigma = chain().levels(TIMES.double())
    snr = (alpha / sigma) ** 2
    torch.testing.assert_close(eps, snr * x0, rtol=1e-3, atol=0)
    torch.testing.assert_close(v, (snr + 1) * x0, rtol=1e-3, atol=0)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_denoise_gives_the_models_belief_in_fp32(prediction):
    x_t = X0 + EPS
    model = Guess(prediction)
    out = chain(prediction).denoise(model, x_t, TIMES, LABELS)
    assert model.t.tolist() == STEPS.tolist()
    torch.testing.assert_close(out.x0.float(), (x_t / 2).float(), rtol=1e-3, atol=1e-3)
    assert out.log_variance is None


@pytest.mark.parametrize("length", [1, 200])
def test_the_learned_variance_lies_between_beta_and_its_posterior(length):
    """raw -1 is log beta~ and 1 log beta, of whatever step the solver takes."""
    t = torch.tensor([700, 1000]) / T
    s = t - length / T
    process = chain("eps", learned_variance=True)
    x_t, abar = X0[:2], process.alpha_bar
    found = {}
    for raw in (-1.0, 0.0, 1.0):
        out = process.denoise(Guess("eps", raw=raw), x_t, t, LABELS[:2], s)
        assert out.x0.shape == out.log_variance.shape == x_t.shape
        found[raw] = out.log_variance[:, 0, 0, 0].double()
    levels = abar[[700, 1000]], abar[[700 - length, 1000 - length]]
    for raw, expected in ((1.0, g.step_beta(*levels)), (-1.0, g.posterior_variance(*levels))):
        torch.testing.assert_close(found[raw], expected.log(), rtol=0, atol=1e-5)
    torch.testing.assert_close(found[0.0], (found[1.0] + found[-1.0]) / 2, rtol=0, atol=1e-5)


def test_the_variational_term_of_a_perfect_model_is_nothing():
    class Perfect(nn.Module):
        def forward(self, x, t, y):
            return torch.cat([EPS[2:], -torch.ones_like(EPS[2:])], dim=1)

    process = chain("eps", learned_variance=True)
    error, bound = process.loss_terms(Perfect(), X0[2:], EPS[2:], TIMES[2:], LABELS[2:])
    assert error.max() < 1e-12
    assert bound.abs().max() < 1e-9


def test_the_variational_term_trains_the_variance_and_the_error_the_mean():
    process, model = chain("eps", learned_variance=True), Guess("eps", raw=0.3)
    error, bound = process.loss_terms(model, X0, EPS, TIMES, LABELS)
    weights = [model.gain, model.raw]
    mean, variance = torch.autograd.grad(bound.sum(), weights, retain_graph=True)
    assert mean == 0
    assert variance != 0
    mean, variance = torch.autograd.grad(error.sum(), weights)
    assert mean != 0
    assert variance == 0


@pytest.mark.parametrize("steps", [1000, 50])
def test_the_variational_term_counts_by_the_length_of_the_chain(steps):
    process = chain("eps", learned_variance=True, num_train_timesteps=steps)
    t = torch.tensor([20 / steps])
    terms = (Guess("eps", raw=0.0), X0[:1], EPS[:1], t, LABELS[:1])
    error, bound = process.loss_terms(*terms)
    torch.testing.assert_close(process.loss(*terms), error + steps / 1000 * bound)


def test_kl_is_that_of_torch():
    means, logs = draw(2, 20), draw(2, 20, seed=2)
    p, q = (
        torch.distributions.Normal(m, (log / 2).exp()) for m, log in zip(means, logs, strict=True)
    )
    expected = torch.distributions.kl_divergence(p, q)
    torch.testing.assert_close(g.normal_kl(means[0], logs[0], means[1], logs[1]), expected)


@pytest.mark.parametrize(("mean", "log_variance"), [(0.0, -4.0), (-0.99, -9.0), (2.0, 0.0)])
def test_the_256_grey_levels_share_all_probability(mean, log_variance):
    greys = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    mean, log_variance = torch.full_like(greys, mean), torch.full_like(greys, log_variance)
    mass = torch.exp(-g.discretised_nll(greys, mean, log_variance))
    assert mass.sum().item() == pytest.approx(1, abs=1e-9)
    normal = torch.distributions.Normal(mean, (log_variance / 2).exp())
    exact = normal.cdf(greys + 1 / 255) - normal.cdf(greys - 1 / 255)
    torch.testing.assert_close(mass[1:-1], exact[1:-1], rtol=0, atol=8e-4)


def test_the_configuration_picks_the_process():
    convention = TimeConvention(scale=1)
    config = DDPMConfig(betas="cosine")
    assert build_process(config, convention, "eps") == DDPM(convention, "eps", config)
    assert build_process(FlowConfig(), convention, "x0") == Flow(convention, "x0")
    for config, prediction in (
        (FlowConfig(), "v"),
        (FlowConfig(), "eps"),
        (DDPMConfig(), "velocity"),
    ):
        with pytest.raises(UserError, match=f"model.prediction: {prediction} does not go with"):
            build_process(config, convention, prediction)
