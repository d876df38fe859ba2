"""What an adapter learns from: pairs of pictures, each noised to a time of its own."""

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from diffgen.config.joint import CorrelatedTimes, IndependentTimes
from diffgen.data.order import Sample
from diffgen.joint.adapter import JointAdapter
from diffgen.joint.maps import as_picture
from diffgen.joint.stacked import Stacked
from diffgen.joint.times import draw_times
from diffgen.joint.walk import first_time
from diffgen.lacon.training import MappedSample, Reader
from diffgen.models.dit import DiT
from diffgen.processes import Process
from diffgen.processes.process import per_sample
from diffgen.sampling.noise import position_seeds
from diffgen.seeding import stream_generator
from diffgen.training.draws import draw
from diffgen.transfer import to_device

BRANCHES = ("image", "condition")
BINS = 4
"""Equal parts of [0, 1] that the losses are told apart by."""


class Joined(nn.Module):
    """A frozen DiT with an adapter, called as the DiT is on B images and then B conditions."""

    def __init__(self, model: DiT, adapter: JointAdapter) -> None:
        super().__init__()
        self.model, self.adapter = model.requires_grad_(False), adapter

    def forward(self, x: Tensor, t: Tensor, y: Tensor, *, strength: Tensor, **told: Any) -> Tensor:
        """(2B, C_out, h, w); ``strength`` (B,) of the joint attention of each pair."""
        stacked = Stacked([self.adapter], [strength])
        return self.model(x, t, y, adapter=stacked, **told)


@dataclass
class Tally:
    """Losses by branch and time since they were last taken."""

    device: torch.device
    sums: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.sums = torch.zeros(2, len(BRANCHES), BINS, dtype=torch.float64, device=self.device)

    def add(self, losses: Tensor, t: Tensor, counted: Tensor) -> None:
        """``losses`` (2, B) at times ``t`` (2, B), of which ``counted`` (2, B) are learnt."""
        bins = (t * BINS).long().clamp(max=BINS - 1)
        for i, part in enumerate((losses.detach().double() * counted, counted.double())):
            self.sums[i].scatter_add_(1, bins, part)

    def take(self) -> Tensor:
        """(2, branches, bins) fp64 sums and counts; begins anew."""
        taken = self.sums
        self._clear()
        return taken


def named_losses(sums: Tensor) -> dict[str, tuple[float, float]]:
    """Sum and count by name, such as "image 0.25-0.5", of (2, branches, bins)."""
    edges = [f"{k / BINS:g}-{(k + 1) / BINS:g}" for k in range(BINS)]
    return {
        f"{branch} {edge}": (float(sums[0, i, k]), float(sums[1, i, k]))
        for i, branch in enumerate(BRANCHES)
        for k, edge in enumerate(edges)
    }


def seen_pairs(reader: Reader, batch: Sample) -> Tensor:
    """(2B, C, h, w) images, then their conditions, as the model sees them."""
    pictures = batch["image"].to(reader.device, non_blocking=True)
    maps = reader.maps(pictures, cast(MappedSample, batch).get("map"))
    return reader.seen(torch.cat([pictures, as_picture(maps, reader.condition)]))


def position_generators(seed: int, numbers: list[int], rows: int = 1) -> list[torch.Generator]:
    """For what an encoding draws for samples ``numbers``, the same for each of their ``rows``.

    Encodings that draw nothing in training leave them alone.
    """
    return [torch.Generator().manual_seed(one) for one in position_seeds(numbers, seed) * rows]


@dataclass(frozen=True)
class JointObjective:
    """The loss of a batch of pairs; all randomness in it is a function of (seed, sample number)."""

    process: Process
    reader: Reader
    """Pictures and the data's own maps -> both as the model's size has them."""
    labels: Tensor
    """(classes of the data,) int64, the model's label of each."""
    null_label: int
    seed: int
    times: IndependentTimes | CorrelatedTimes
    class_dropout: float
    """Share of pairs of which the image alone is not told its class; of as many the condition
    alone is not, and of as many both."""
    joint_dropout: float
    """Share of pairs without joint attention."""
    tally: Tally

    def __call__(self, model: nn.Module, batch: Sample) -> Tensor:
        """Mean over both branches of all pairs, 0-d fp32; ``model``: a Joined."""
        numbers = torch.as_tensor(batch["number"]).tolist()
        x0 = seen_pairs(self.reader, batch)
        count, device = len(numbers), x0.device
        drawn = draw(self._draw_times, self.seed, numbers, (2, *x0.shape[1:]), "joint")
        t, drop, eps = (to_device(part, device) for part in drawn)
        t, eps = t.T, eps.transpose(0, 1)  # (2, B) and (2, B, C, h, w)
        noisy = t > 0
        eps = eps * noisy[..., None, None, None]  # a chain's model knows no time before its first
        t = t.clamp(min=first_time(self.process))
        # Noising fades even that first step; drawing shows the model a clean picture as it is.
        faded = torch.where(noisy, 1.0, self.process.levels(t)[0])
        x0 = x0 / per_sample(faded.flatten(), x0)
        told: dict[str, Any] = {
            "strength": to_device(self._strength(numbers), device),
            "generator": position_generators(self.seed, numbers, rows=2),
        }
        labels = self._labels(batch, drop)
        losses = self.process.loss(
            model, x0, eps.flatten(0, 1), t.flatten(), labels.flatten(), **told
        ).unflatten(0, (2, count))
        self.tally.add(losses, t, noisy)
        return (losses * noisy).mean()

    def _strength(self, numbers: list[int]) -> Tensor:
        """(B,) 1, or 0 for pairs without joint attention."""
        generators = (stream_generator(self.seed, "joint-dropout", number) for number in numbers)
        drops = torch.stack([torch.rand((), generator=one) for one in generators])
        return (drops >= self.joint_dropout).float()

    def _labels(self, batch: Sample, drop: Tensor) -> Tensor:
        """(2, B) of images and conditions: the same, of which one, both or none is told."""
        labels = to_device(self.labels[torch.as_tensor(batch["label"])], drop.device)
        share = self.class_dropout
        dropped = torch.stack([drop < 2 * share, (drop >= share) & (drop < 3 * share)])
        return labels.expand(2, -1).masked_fill(dropped, self.null_label)

    def _draw_times(self, generator: torch.Generator) -> Tensor:
        return draw_times(self.times, self.process, generator)
