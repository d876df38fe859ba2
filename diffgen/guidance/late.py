"""Late constraints: a loss whose gradient moves the guided x0 (LaCon, Liu et al. 2023, and kin).

LaCon adds g~ = s g ||eps - x_t|| / ||g|| to the guided noise prediction, g being the gradient of
the loss in x_t. As a step of x0 that is -(sigma / alpha) g~, whose root mean square is close to s
over the noise levels it is used at: a step of constant size on x0, which is the form ``rms`` here.
docs/lacon.md has the derivation.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, get_args

from torch import Tensor

from diffgen.config.constraints import Form
from diffgen.guidance.rule import number

SMALLEST = 1e-20
"""A gradient of a smaller root mean square is none."""


class Seen(NamedTuple):
    """What a loss may look at."""

    x0: Tensor
    """(B, C, H, W) the model's clean image."""
    features: Mapping[int, Tensor]
    """Of the blocks it asked for, by number: (B, N, width) tokens after the block, row-major."""
    time: Tensor | None
    """(B, width) the model's own embedding of the time; None: it asked for no blocks."""
    grid: tuple[int, int]
    """Rows and columns of the tokens."""


class Loss(ABC):
    """How far samples are from what is wanted; on x0 alone unless ``blocks`` says otherwise."""

    @property
    def blocks(self) -> tuple[int, ...]:
        """Blocks of the model whose features it reads; (): none, so that its gradient is taken in
        x0 after guidance, without going back through the model."""
        return ()

    @property
    def unit(self) -> float:
        """What scale 1 of the forms ``rms`` and ``sign`` means, in the model's own pixels."""
        return 1.0

    @property
    def region(self) -> Tensor | None:
        """(B or 1, 1, h, w) in [0, 1], the part of a sample that may be moved; None: all of it."""
        return None

    @property
    def until(self) -> float:
        """The time at which a constraint ends that does not say."""
        return 0.0

    def check(self, shape: tuple[int, ...]) -> None:  # noqa: B027 (most need none)
        """Raise ValueError unless it fits samples of ``shape`` (B, C, h, w)."""

    @abstractmethod
    def __call__(self, seen: Seen) -> Tensor:
        """(B,) fp32, a sum over places, each sample's of itself alone."""


def rms(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 1, 1, 1): the root mean square of each sample."""
    return x.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()


def unit_step(
    form: Form, gradient: Tensor, loss: Tensor, x_t: Tensor, x0: Tensor, alpha: float
) -> Tensor:
    """What is taken from x0, before the scale; each sample by itself.

    - ``rms``: g / rms(g), a step of constant size (LaCon, see the module).
    - ``ratio_rms``: rms(x_t - alpha x0) g / rms(g), as large as the noise that is left in x_t
      (after FreeDoM, Yu et al. 2023, which matches the step to the noise).
    - ``norm``: the gradient of sqrt(2 loss), for a loss of half a sum of squares that of its norm
      (DPS, Chung et al. 2023).
    - ``sign``: sign(g), the first step of Adam (Readout Guidance, Luo et al. 2024).
    - ``none``: g itself; of a projection such as ``Inpaint``, scale 1 meets the condition.

    Args:
        form: one of these.
        gradient: (B, C, H, W), of the loss.
        loss: (B,).
        x_t, x0: (B, C, H, W) noisy and guided clean images, x_t = alpha x0 + sigma eps.
        alpha: as above.

    Returns:
        (B, C, H, W); 0 where the gradient is.

    Raises:
        ValueError: there is no such form.
    """
    size = rms(gradient).clamp(min=SMALLEST)
    match form:
        case "rms":
            return gradient / size
        case "ratio_rms":
            return rms(x_t - alpha * x0) * gradient / size
        case "norm":
            return gradient / (2 * loss).clamp(min=SMALLEST).sqrt().view(-1, 1, 1, 1)
        case "sign":
            return gradient.sign()
        case "none":
            return gradient
    raise ValueError(f"form {form!r} is not one of rms, ratio_rms, norm, sign, none")


@dataclass(frozen=True)
class Constraint:
    """A loss, and how its gradient is followed.

    Args:
        loss: what is wanted.
        scale: length of a step; 0: none. With ``rms`` and ``sign`` in the loss's own ``unit``, for
            an aligner the standard deviation of the data's images.
        form: see ``unit_step``.
        until: acts at times above this, 1 being pure noise; None: the loss's own.

    Raises:
        ValueError: a scale or a time out of its range, or a form there is not.
    """

    loss: Loss
    scale: float = 1.0
    form: Form = "rms"
    until: float | None = None

    def __post_init__(self) -> None:
        number("scale", self.scale)
        if self.form not in get_args(Form):
            raise ValueError(f"form must be one of {get_args(Form)}, not {self.form!r}")
        if self.until is not None and not 0 <= self.until <= 1:
            raise ValueError(f"until must lie in [0, 1], not {self.until}")

    def acts(self, t: float) -> bool:
        """Whether it moves anything at time ``t``."""
        return self.scale > 0 and t > (self.loss.until if self.until is None else self.until)

    def step(self, gradient: Tensor, loss: Tensor, x_t: Tensor, x0: Tensor, alpha: float) -> Tensor:
        """(B, C, H, W) what is taken from the guided x0."""
        length = self.scale * (self.loss.unit if self.form in ("rms", "sign") else 1.0)
        if self.loss.region is None:
            return length * unit_step(self.form, gradient, loss, x_t, x0, alpha)
        region = self.loss.region.to(gradient)
        step = length * unit_step(self.form, gradient * region, loss, x_t, x0, alpha)
        if self.form in ("rms", "ratio_rms"):  # their size is that over the region alone
            step = step * region.mean(dim=(1, 2, 3), keepdim=True).sqrt()
        return step
