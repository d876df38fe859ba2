"""Muon: momentum, orthogonalised (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/).

torch.optim.Muon iterates in bf16, which a CPU without native bf16 computes hundreds of times
slower; here the iteration runs in bf16 on a GPU and in fp32 on a CPU. Matrices of one shape are
iterated as one batch.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

# Coefficients and number of steps of the published quintic iteration.
QUINTIC = (3.4445, -4.7750, 2.0315)
STEPS = 5


def orthogonalise(matrices: Tensor) -> Tensor:
    """Push the singular values of (..., m, n) matrices to about 1 by Newton-Schulz.

    The result has singular values within roughly [0.7, 1.2]; it is not exactly orthogonal.
    """
    x = matrices.to(torch.bfloat16 if matrices.is_cuda else torch.float32)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    wide = x.shape[-1] >= 2 * x.shape[-2]
    x = _iterate_gram(x) if wide and x.dtype == torch.float32 else _iterate(x)
    return (x.mT if tall else x).to(matrices.dtype)


def _iterate(x: Tensor) -> Tensor:
    """X <- a X + (b G + c G^2) X with G = X X^T, five times."""
    a, b, c = QUINTIC
    for _ in range(STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x


def _iterate_gram(x: Tensor) -> Tensor:
    """The same on (m, n) with m much less than n, at half the cost: every iterate is Q X.

    With P = a I + b G + c G^2, Q <- P Q and G <- P G P are (m, m) products. Squaring X costs
    half the digits, which fp32 has to spare and bf16 has not.
    """
    a, b, c = QUINTIC
    gram, q = x @ x.mT, torch.eye(x.shape[-2], device=x.device)
    for step in range(STEPS):
        p = b * gram + c * (gram @ gram)
        p.diagonal(dim1=-2, dim2=-1).add_(a)
        q = p @ q if step else p
        if step < STEPS - 1:
            gram = p @ gram @ p
    return q @ x


class Muon(torch.optim.Optimizer):
    """Muon for 2-D parameters, with Nesterov momentum and decoupled weight decay.

    The update of an (m, n) matrix is scaled by sqrt(max(1, m / n)), as published.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim != 2:
                    raise ValueError(f"Muon takes matrices, not a parameter of shape {p.shape}")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; ``closure`` re-evaluates the loss, as for any torch optimiser."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    by_shape[p.shape].append(p)
            for params in by_shape.values():
                self._step_batch(params, group)
        return loss

    def _step_batch(self, params: list[Tensor], group: dict[str, Any]) -> None:
        grads = [p.grad for p in params if p.grad is not None]
        for p in params:
            if not self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        moments = [self.state[p]["momentum"] for p in params]
        torch._foreach_lerp_(moments, grads, 1 - group["momentum"])
        nesterov = torch._foreach_lerp(grads, moments, group["momentum"])
        updates = orthogonalise(torch.stack(list(nesterov)))
        rows, columns = params[0].shape
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        rate = group["lr"] * max(1.0, rows / columns) ** 0.5
        torch._foreach_add_(params, list(updates.unbind()), alpha=-rate)
