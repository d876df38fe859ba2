"""What joint generation has learnt: a picture beside its training, and a measure at its end."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from diffgen.commands.beside import Training, next_command
from diffgen.config.joint import JointConfig
from diffgen.config.sampling import SamplingConfig
from diffgen.data.pixels import to_pil, to_uint8
from diffgen.data.source import build_images
from diffgen.errors import UserError
from diffgen.files import write_file, write_json
from diffgen.group import cut
from diffgen.joint.adapter import JointAdapter
from diffgen.joint.channels import ChannelsObjective, draw_from_channels
from diffgen.joint.maps import as_picture
from diffgen.joint.pictures import IMAGE, Given
from diffgen.joint.pipeline import JointPipeline
from diffgen.joint.training import JointObjective
from diffgen.lacon.conditions import Condition
from diffgen.lacon.training import MappedData
from diffgen.models.dit import DiT
from diffgen.pipeline import DiffGenPipeline
from diffgen.sampling.batches import set_up
from diffgen.sampling.rules import rule_for
from diffgen.sampling.sheet import Row, contact_sheet

MEASURED = 64
"""Pictures that figures are taken of, at most."""
SHOWN = 8
STEPS, SCALE = 20, 2.0
"""From noise to image, and of classifier-free guidance."""
BATCH = 16
"""Pictures drawn at once."""


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


def build_pairs(
    training: Training[JointConfig],
    data: MappedData,
    objective: JointObjective | ChannelsObjective,
) -> Pairs:
    """Held-out pairs where the data sets some apart, else such of the training.

    Raises:
        UserError: the condition cannot be found in the pictures, or is the same in all.
    """
    settled, reader = training.settled, objective.reader
    condition, seed = reader.condition, settled.config.seed
    if settled.held_out:
        data = MappedData(build_images(settled.data, "held_out"), seed, condition)
    samples = [data[number] for number in range(min(MEASURED, data.count or MEASURED))]
    pictures = torch.stack([sample["image"] for sample in samples]).to(reader.device)
    stored = torch.stack([sample["map"] for sample in samples]) if data.stored else None
    maps = reader.maps(pictures, stored)
    if bool((maps == maps[0]).all()):
        raise UserError(
            f"pair: all {len(maps)} pictures have the same map of {condition.name}; there is "
            "nothing to learn"
        )
    labels = objective.labels[[sample["label"] for sample in samples]]
    return Pairs(pictures, maps, labels.to(reader.device), list(range(len(maps))))


@dataclass(frozen=True)
class Drawer(ABC):
    """What a trained model draws of pairs."""

    pipe: DiffGenPipeline
    """Of the frozen model."""
    condition: Condition
    seed: int

    @property
    @abstractmethod
    def kind(self) -> str:
        """Of what was trained, the name of its folder."""

    @property
    @abstractmethod
    def told(self) -> str:
        """What is measured, in words."""

    @abstractmethod
    def rows(self, pairs: Pairs) -> dict[str, Tensor]:
        """Pictures (N, 3, H, W) by their titles, drawn of ``pairs`` and of their classes."""

    @abstractmethod
    def found(self, pairs: Pairs) -> Tensor | None:
        """Maps that ought to be those of ``pairs``; None: they cannot be found."""


@dataclass(frozen=True)
class JointDrawer(Drawer):
    """Of an adapter: images and maps from each other, and together."""

    adapter: JointAdapter

    @property
    def kind(self) -> str:
        """See Drawer.kind."""
        return "adapter"

    @property
    def told(self) -> str:
        """See Drawer.told."""
        return f"{self.condition.name} drawn from pictures"

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
            num_inference_steps=STEPS,
            guidance_scale=SCALE,
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
    def told(self) -> str:
        """See Drawer.told."""
        return f"{self.condition.name} found in the images drawn from it"

    def rows(self, pairs: Pairs) -> dict[str, Tensor]:
        """See Drawer.rows."""
        return {f"images drawn from {self.condition.name}": self._draw(pairs)}

    def found(self, pairs: Pairs) -> Tensor | None:
        """See Drawer.found."""
        if self.condition.find is None:
            return None
        return self.condition.of(self._draw(pairs).clamp(-1, 1))

    def _draw(self, pairs: Pairs) -> Tensor:
        x0 = draw_from_channels(
            self.pipe,
            self.model,
            as_picture(pairs.maps, self.condition),
            pairs.labels,
            rule_for(self.pipe, pairs.labels, None, SCALE, None),
            numbers=pairs.numbers,
            seed=self.seed,
            steps=STEPS,
        )
        return self.pipe.decode(x0)


def drawer_of(
    training: Training[JointConfig], pipe: DiffGenPipeline, trained: JointAdapter | DiT
) -> Drawer:
    """What draws with ``trained``, as it is at each time, by the solver that sampling takes."""
    set_up(pipe, SamplingConfig())
    condition, seed = training.condition, training.settled.config.seed
    if isinstance(trained, JointAdapter):
        return JointDrawer(pipe, condition, seed, trained)
    return ChannelsDrawer(pipe, condition, seed, trained)


def draw_sheet(pairs: Pairs, drawer: Drawer, target: Path) -> None:
    """Save the first of ``pairs``, and below each what is drawn of it."""
    pairs = pairs.part(slice(SHOWN))
    given = {
        "pictures": pairs.pictures,
        drawer.condition.name: as_picture(pairs.maps, drawer.condition),
    }
    rows = {**given, **drawer.rows(pairs)}
    sheet = contact_sheet([Row(title, to_pil(to_uint8(z))) for title, z in rows.items()])
    write_file(target, sheet.save)


def report(training: Training[JointConfig], pairs: Pairs, drawer: Drawer) -> None:
    """Measure what is drawn of ``pairs``, write and print it, and what is next."""
    settled, fidelity = training.settled, drawer.condition.fidelity
    batches = tqdm(cut(len(pairs.maps), BATCH), desc="measuring", dynamic_ncols=True)
    parts = [drawer.found(pairs.part(slice(some.start, some.stop))) for some in batches]
    kind = "held-out" if settled.held_out else "training"
    content: dict[str, Any] = {"pictures": kind, "num_images": len(pairs.maps), "steps": STEPS}
    found = [part for part in parts if part is not None]
    if found:
        maps = torch.cat(found)
        content |= {
            "measure": fidelity.name,
            "higher_is_better": fidelity.higher,
            "own": float(fidelity.measure(maps, pairs.maps).mean()),
            "others": float(fidelity.measure(maps, pairs.maps.roll(1, 0)).mean()),
        }
    write_json(settled.out / "report.json", content)
    print(closing(training, drawer, content))


def closing(training: Training[JointConfig], drawer: Drawer, content: dict[str, Any]) -> str:
    """What was measured, where everything is, and what to do next."""
    settled, name = training.settled, drawer.condition.name
    told = f"{drawer.told}, {content['num_images']} {content['pictures']} pictures"
    lines = ["", f"{told}: it cannot be measured in images"]
    if "own" in content:
        better = "higher" if content["higher_is_better"] else "lower"
        lines = [
            "",
            f"{told}: {content['measure']} {content['own']:.3f}, {better} is better "
            f"({content['others']:.3f} against the {name} of other pictures)",
        ]
    if not settled.held_out:
        lines.append("these data set no pictures apart: on others it may be worse")
    places = {drawer.kind: drawer.kind, "figures": "report.json", "pictures": "samples"}
    lines += [f"{title:10}{settled.out / place}" for title, place in places.items()]
    if drawer.kind == "adapter":
        coloured = drawer.condition.channels == 3 and drawer.condition.find is not None
        files = "PICTURE.png --given-from picture" if coloured else "MAP.png"
        given = f"--given {name}={files}"
        lines += ["", "next", *next_command(settled, name, "sample/joint.py", "adapters", given)]
    return "\n".join(lines)
