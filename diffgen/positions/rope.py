"""Axial 2-D rotary encoding (Su et al. 2021; the 2-D layout of FiT, Lu et al. 2024).

The first half of a head's channels turns with the row, the second with the column; within a half,
neighbouring channels (2j, 2j + 1) form the pair turned by position * f_j, of which there are
D / 2, D = half the head size. The logit of a query and a key then depends on their difference in
position only, whatever the frequencies f.
"""

import torch
from torch import Tensor

from diffgen.config.positions import RopeConfig
from diffgen.positions import scaling
from diffgen.positions.base import Position
from diffgen.positions.sincos import SinCos


def axial_angles(coords: Tensor, frequencies: Tensor) -> Tensor:
    """(..., 2) coordinates, (..., 2, D / 2) frequencies -> (..., D) angles [radians], fp32."""
    return (coords.double()[..., None] * frequencies).flatten(-2).float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn channel pairs (2j, 2j + 1) of ``x`` (..., D); ``cos`` and ``sin`` are (..., D / 2)."""
    if torch.compiler.is_compiling():  # a compiler fuses these, and has no complex numbers
        even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
        return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))  # one pass instead of six
    return torch.view_as_real(pairs * torch.complex(cos, sin).to(pairs.dtype)).flatten(-2)


class Rope(Position):
    """Rotates queries and keys by how far apart tokens are.

    Args:
        config: base, scaling, temperature.
        head_size: channels of an attention head.
        grid: height and width of the training images [tokens].
        additive: an embedding of where on the canvas a token is, added besides; None: nothing.
    """

    def __init__(
        self,
        config: RopeConfig,
        head_size: int,
        grid: tuple[int, int],
        additive: SinCos | None = None,
    ) -> None:
        super().__init__(config.temperature, grid)
        self.config = config
        self.head_size = head_size
        self.additive = additive

    def embed(self, coords: Tensor, sizes: Tensor) -> Tensor | None:
        """See Position.embed."""
        return None if self.additive is None else self.additive.embed(coords, sizes)

    def rotation(self, coords: Tensor, sizes: Tensor, t: Tensor) -> Tensor:
        """See Position.rotation."""
        return axial_angles(coords, self.frequencies(sizes, t))

    def frequencies(self, sizes: Tensor, t: Tensor) -> Tensor:
        """(..., 2, D / 2) fp64 of images of ``sizes`` (..., 2) at noise times ``t`` (...)."""
        channels, theta = self.head_size // 2, self.config.theta
        if self.config.scaling == "none":
            return scaling.plain(theta, channels, sizes.device)
        scales = self._scales(sizes)
        axes = [self._axis(scales[..., i], t, self.grid[i]) for i in (0, 1)]
        return torch.stack(axes, dim=-2)

    def _scales(self, sizes: Tensor) -> Tensor:
        return scaling.axis_scales(self.config.scaling, sizes, self.grid, self.config.decoupled)

    def _axis(self, scale: Tensor, t: Tensor, trained: int) -> Tensor:
        channels, theta = self.head_size // 2, self.config.theta
        match self.config.scaling:
            case "pi":
                return scaling.pi(scale, theta, channels)
            case "ntk":
                return scaling.ntk(scale, theta, channels)
            case "ntk_by_parts":
                return scaling.ntk_by_parts(scale, theta, channels, trained)
            case "yarn":
                return scaling.yarn(scale, theta, channels, trained)
            case "riflex":
                period = self.config.period or trained
                return scaling.riflex(scale * trained, trained, period, theta, channels)
            case "time_aware":
                return scaling.time_aware(scale, t, theta, channels)
        return scaling.plain(theta, channels, scale.device)

    def logit_scale(self, sizes: Tensor) -> Tensor | None:
        """See Position.logit_scale; YaRN brings a factor of its own, by the longer axis."""
        temperature = super().logit_scale(sizes)
        if self.config.scaling != "yarn":
            return temperature
        longest = scaling.axis_scales("yarn", sizes, self.grid, decoupled=False)[..., 0]
        own = scaling.yarn_temperature(longest).float()
        return own if temperature is None else own * temperature
