"""A guided model under late constraints: ``(x_t, t) -> x0``, as GuidedDenoiser is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from diffgen.guidance.late import Constraint, Seen
from diffgen.models.taps import frozen
from diffgen.processes import Denoised
from diffgen.sampling.guided import GuidedDenoiser
from diffgen.sampling.noise import Generators


class Pull(NamedTuple):
    """The loss of a constraint at the samples, and its gradient."""

    constraint: Constraint
    gradient: Tensor
    """(B, C, H, W)."""
    loss: Tensor
    """(B,)."""

    def step(self, x_t: Tensor, x0: Tensor, alpha: float) -> Tensor:
        """(B, C, H, W) what is taken from ``x0``."""
        return self.constraint.step(self.gradient, self.loss, x_t, x0, alpha)


@dataclass
class LateDenoiser:
    """``base``, whose x0 the constraints that act at a time move; where none does, ``base``.

    Losses on features are differentiated in x_t, through the conditional pass, which guidance then
    uses too; losses on x0 then act one after another, each on the x0 that those before it leave,
    so that what the last of them asks for is met.
    """

    base: GuidedDenoiser
    constraints: Sequence[Constraint] = ()

    def __call__(self, x_t: Tensor, t: float, advance: bool, s: float | None = None) -> Denoised:
        """As ``GuidedDenoiser``."""
        acting = [constraint for constraint in self.constraints if constraint.acts(t)]
        if not acting:
            return self.base(x_t, t, advance, s)
        deep = [constraint for constraint in acting if constraint.loss.blocks]
        cond, pulls = self._through_model(deep, x_t, t, s) if deep else (None, [])
        guided = self.base(x_t, t, advance, s, cond)
        alpha, _ = self.base.denoiser.levels(t)
        x0 = guided.x0
        for pull in pulls:
            x0 = x0 - pull.step(x_t, guided.x0, alpha)
        for constraint in acting:
            if not constraint.loss.blocks:
                x0 = x0 - self._on_x0(constraint, x0).step(x_t, x0, alpha)
        return Denoised(x0, guided.log_variance)

    def _through_model(
        self, constraints: list[Constraint], x_t: Tensor, t: float, s: float | None
    ) -> tuple[Denoised, list[Pull]]:
        """The conditional prediction, and the gradients in x_t of losses on its features."""
        denoiser = self.base.denoiser
        blocks = sorted({block for c in constraints for block in c.loss.blocks})
        x_t = x_t.detach().requires_grad_()
        with torch.enable_grad(), frozen(denoiser.model):
            cond, seen = denoiser.observed(x_t, t, self.base.labels, s, blocks)
            losses = [of_each(constraint, seen) for constraint in constraints]
            last = len(losses) - 1
            gradients = [
                torch.autograd.grad(loss.sum(), x_t, retain_graph=i < last)[0]
                for i, loss in enumerate(losses)
            ]
        variance = None if cond.log_variance is None else cond.log_variance.detach()
        found = zip(constraints, gradients, losses, strict=True)
        pulls = [Pull(c, gradient, loss.detach()) for c, gradient, loss in found]
        return Denoised(cond.x0.detach(), variance), pulls

    @staticmethod
    def _on_x0(constraint: Constraint, x0: Tensor) -> Pull:
        x0 = x0.detach().requires_grad_()
        with torch.enable_grad():
            loss = of_each(constraint, Seen(x0, {}, None, (0, 0)))
            (gradient,) = torch.autograd.grad(loss.sum(), x0)
        return Pull(constraint, gradient, loss.detach())

    def again(self, x_t: Tensor, t: float, s: float, generator: Generators | None) -> Tensor:
        """``x_t`` after a step to the earlier time ``s`` and back by fresh noise.

        The self-recurrence of Universal Guidance (Bansal et al. 2023), FreeDoM's time travel:
        constraints get one more try at the same level. Where none acts, ``x_t`` as it is; also at
        pure noise, of which a step back would leave nothing.
        """
        denoiser = self.base.denoiser
        alpha, _ = denoiser.levels(t)
        if alpha == 0 or not any(constraint.acts(t) for constraint in self.constraints):
            return x_t
        x0 = self(x_t, t, advance=False, s=s).x0
        noise = randn_tensor(x_t.shape, generator, x_t.device, x_t.dtype)
        return renoised(x_t, x0, noise, denoiser.levels(t), denoiser.levels(s))


def of_each(constraint: Constraint, seen: Seen) -> Tensor:
    """The loss of each sample, (B,). Raises ValueError for one of all, or without gradient."""
    loss = constraint.loss(seen)
    if loss.shape != seen.x0.shape[:1] or not loss.requires_grad:
        raise ValueError(
            f"constraints: {type(constraint.loss).__name__} is to give a differentiable loss of "
            f"each sample, ({len(seen.x0)},), not {tuple(loss.shape)}"
        )
    return loss


def renoised(
    x_t: Tensor,
    x0: Tensor,
    noise: Tensor,
    now: tuple[float, float],
    earlier: tuple[float, float],
) -> Tensor:
    """A deterministic step from the levels (alpha, sigma) ``now`` to ``earlier``, and back up.

    x_s = alpha_s x0 + sigma_s (x_t - alpha_t x0) / sigma_t, then with r = alpha_t / alpha_s
    r x_s + sqrt(sigma_t^2 - r^2 sigma_s^2) noise, which has the noise of x_t again.
    """
    (alpha_t, sigma_t), (alpha_s, sigma_s) = now, earlier
    x_s = alpha_s * x0 + sigma_s * (x_t - alpha_t * x0) / sigma_t
    ratio = alpha_t / alpha_s
    return ratio * x_s + max(sigma_t**2 - (ratio * sigma_s) ** 2, 0.0) ** 0.5 * noise


def checked(
    constraints: Iterable[Constraint], recurrence: int, noise: Tensor
) -> tuple[Constraint, ...]:
    """All of them. Raises ValueError for what is none, or does not fit samples like ``noise``."""
    if recurrence < 1:
        raise ValueError(f"recurrence must be 1 or more, not {recurrence}")
    if isinstance(constraints, Constraint):
        raise ValueError("constraints: give a list of them, also of one")
    every = tuple(constraints)
    if every and torch.is_inference_mode_enabled():
        raise ValueError("constraints need gradients, which torch.inference_mode forbids")
    for constraint in every:
        if not isinstance(constraint, Constraint):
            kind = type(constraint).__name__
            raise ValueError(f"constraints: {kind} is no Constraint; give Constraint(loss, scale)")
        constraint.loss.check(tuple(noise.shape))
    return every
