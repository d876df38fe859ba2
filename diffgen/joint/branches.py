"""Between the pictures of a joint drawing and what the model sees of them."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from diffgen.joint.maps import as_picture, from_picture
from diffgen.joint.pictures import IMAGE, Given
from diffgen.joint.walk import Branch
from diffgen.lacon.conditions import Condition
from diffgen.models.vae import LatentSpace
from diffgen.pipeline import DiffGenPipeline
from diffgen.sampling.noise import Generators, initial_noise
from diffgen.seeding import step_generators, stream_seed


@dataclass(frozen=True)
class Branches:
    """One branch by name: the images' own, or that of a condition."""

    pipe: DiffGenPipeline
    conditions: Mapping[str, Condition]
    given: Mapping[str, Given]
    numbers: list[int]
    """(B,) of the images."""
    size: tuple[int | None, int | None]
    """Height and width of the images [pixels]; None: as trained."""
    batch_size: int
    """Images encoded or decoded at once."""
    tiled: bool
    """See ``LatentSpace.decode``."""

    def start(self, name: str, seed: int | None, generator: Generators | None) -> Branch:
        """What it starts from; of one seed each branch has noise of its own, by its name.

        Raises:
            ValueError: ``size`` is none of the model's, ``generator`` does not fit, or other than
                one or ``numbers`` are given.
        """
        own = seed if seed is None or name == IMAGE else stream_seed(seed, name, 0) % 2**32
        noise = initial_noise(self.numbers, self.pipe.geometry, self.size, own, generator)
        noise = noise.to(self.pipe._execution_device)
        steps = generator if own is None else step_generators(own, self.numbers)
        given = self.given.get(name)
        if given is None:
            return Branch(noise, generator=steps)
        given.check_count(name, len(noise))
        picture = self._seen(name, given.maps.to(noise)).expand_as(noise)
        kept = given.kept((noise.shape[-2], noise.shape[-1]))
        if kept is not None:
            kept = kept.to(noise).expand(len(noise), -1, -1, -1)
        return Branch(noise, given.way, picture, kept, steps)

    def shown(self, name: str, x0: Tensor) -> Tensor:
        """x0 (B, C, h, w) as images or maps; what was given, as it was."""
        given = self.given.get(name)
        if given is not None and given.whole:
            return given.maps.to(x0).expand(len(x0), -1, -1, -1)
        maps = self.pipe.decode(x0, self.batch_size, self.tiled)
        if name != IMAGE:
            maps = from_picture(maps, self.conditions[name])
        return maps if given is None else given.restored(maps, (x0.shape[-2], x0.shape[-1]))

    def _seen(self, name: str, maps: Tensor) -> Tensor:
        """Images or maps (n, channels, H, W) as the model sees them, (n, C, h, w)."""
        picture = maps if name == IMAGE else as_picture(maps, self.conditions[name])
        if self.pipe.latent_format is None:
            return picture
        space = LatentSpace(self.pipe.vae, self.pipe.latent_format)
        return space.encode(picture, batch_size=self.batch_size)
