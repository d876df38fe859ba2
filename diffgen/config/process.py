"""The noising process and the density its training times are drawn from."""

from typing import Annotated, Literal

from pydantic import Field

from diffgen.config.base import Section, default_kind


class LogitNormalTimes(Section):
    """t = sigmoid(u), u ~ N(mean, std^2) (Esser et al. 2024, eq. 19)."""

    kind: Literal["logit_normal"] = "logit_normal"
    """Density of the training times."""
    mean: float = 0.8
    """Mean of logit(t) [dimensionless]; larger: more noise."""
    std: float = Field(default=1.0, gt=0)
    """Standard deviation of logit(t) [dimensionless]."""


class UniformTimes(Section):
    """t ~ U(0, 1)."""

    kind: Literal["uniform"] = "uniform"
    """Density of the training times."""


class FlowConfig(Section):
    """Rectified flow: x_t = (1 - t) x0 + t eps, the model predicts v = eps - x0."""

    kind: Literal["flow"] = "flow"
    """Noising process."""
    times: Annotated[
        LogitNormalTimes | UniformTimes,
        Field(discriminator="kind"),
        default_kind("logit_normal"),
    ] = LogitNormalTimes()
    """Density of the training times."""
