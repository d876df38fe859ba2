"""What a joint adapter, or the model it is compared with, draws of given pairs."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from diffgen.joint.adapter import JointAdapter
from diffgen.joint.channels import draw_from_channels
from diffgen.joint.maps import as_picture
from diffgen.joint.pictures import IMAGE, Given
from diffgen.joint.pipeline import JointPipeline
from diffgen.lacon.conditions import Condition
from diffgen.models.dit import DiT
from diffgen.pipeline import DiffGenPipeline
from diffgen.sampling.rules import rule_for


class Pairs(NamedTuple):
    """Pictures that are drawn from, and what goes with them."""

    pictures: Tensor
    """(N, 3, H, W) in [-1, 1]."""
    maps: Tensor
    """(N, channels, H, W) in the condition's range."""
    labels: Tensor
    """(N,) int64, the model's."""
    numbers: list[int]
    """Of what is drawn of them."""

    def part(self, which: slice) -> "Pairs":
        """Some of them."""
        return Pairs(
            self.pictures[which], self.maps[which], self.labels[which], self.numbers[which]
        )


@dataclass(frozen=True)
class Drawer(ABC):
    """What a trained model draws of pairs."""

    pipe: DiffGenPipeline
    """Of the frozen model."""
    condition: Condition
    seed: int
    steps: ClassVar[int] = 20
    """From noise to image."""
    scale: ClassVar[float] = 2.0
    """Of classifier-free guidance."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """Of what was trained, the name of its folder."""

    @property
    @abstractmethod
    def trained(self) -> nn.Module:
        """What was trained."""

    @property
    @abstractmethod
    def finds(self) -> bool:
        """Whether the condition can be found in what is drawn."""

    @abstractmethod
    def told(self, pictures: str) -> str:
        """What is measured of ``pictures``, in words."""

    @abstractmethod
    def rows(self, pairs: Pairs) -> dict[str, Tensor]:
        """Pictures (N, 3, H, W) by their titles, drawn of ``pairs`` and of their classes."""

    @abstractmethod
    def found(self, pairs: Pairs) -> Tensor:
        """Maps that ought to be those of ``pairs``.

        Raises:
            UserError: they cannot be found.
        """


@dataclass(frozen=True)
class JointDrawer(Drawer):
    """Of an adapter: images and maps from each other, and together."""

    adapter: JointAdapter

    @property
    def kind(self) -> str:
        """See Drawer.kind."""
        return "adapter"

    @property
    def trained(self) -> JointAdapter:
        """See Drawer.trained."""
        return self.adapter

    @property
    def finds(self) -> bool:
        """It draws the condition itself."""
        return True

    def told(self, pictures: str) -> str:
        """See Drawer.told."""
        return f"{self.condition.name} drawn from {pictures}"

    def rows(self, pairs: Pairs) -> dict[str, Tensor]:
        """See Drawer.rows."""
        name = self.condition.name
        images, _ = self._draw(pairs, {name: Given(pairs.maps)})
        both = self._draw(pairs, {})
        return {
            f"images drawn from {name}": images,
            f"{name} drawn from pictures": as_picture(self.found(pairs), self.condition),
            "images drawn jointly": both[0],
            f"{name} drawn jointly": as_picture(both[1], self.condition),
        }

    def found(self, pairs: Pairs) -> Tensor:
        """See Drawer.found."""
        return self._draw(pairs, {IMAGE: Given(pairs.pictures)})[1]

    def _draw(self, pairs: Pairs, given: dict[str, Given]) -> tuple[Tensor, Tensor]:
        drawn = JointPipeline(self.pipe, [(self.adapter, self.condition)])(
            pairs.labels,
            given=given,
            height=pairs.pictures.shape[-2],
            width=pairs.pictures.shape[-1],
            num_inference_steps=self.steps,
            guidance_scale=self.scale,
            seed=self.seed,
            image_numbers=pairs.numbers,
        )
        return drawn.images, drawn.conditions[self.condition.name]


@dataclass(frozen=True)
class ChannelsDrawer(Drawer):
    """Of a widened model: images of maps."""

    model: DiT

    @property
    def kind(self) -> str:
        """See Drawer.kind."""
        return "channels"

    @property
    def trained(self) -> DiT:
        """See Drawer.trained."""
        return self.model

    @property
    def finds(self) -> bool:
        """See Drawer.finds."""
        return self.condition.find is not None

    def told(self, pictures: str) -> str:
        """See Drawer.told."""
        return f"{self.condition.name} found in images drawn from that of {pictures}"

    def rows(self, pairs: Pairs) -> dict[str, Tensor]:
        """See Drawer.rows."""
        return {f"images drawn from {self.condition.name}": self._draw(pairs)}

    def found(self, pairs: Pairs) -> Tensor:
        """See Drawer.found."""
        return self.condition.of(self._draw(pairs).clamp(-1, 1))

    def _draw(self, pairs: Pairs) -> Tensor:
        x0 = draw_from_channels(
            self.pipe,
            self.model,
            as_picture(pairs.maps, self.condition),
            pairs.labels,
            rule_for(self.pipe, pairs.labels, None, self.scale, None),
            numbers=pairs.numbers,
            seed=self.seed,
            steps=self.steps,
        )
        return self.pipe.decode(x0)
