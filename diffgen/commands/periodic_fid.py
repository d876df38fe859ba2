"""FID while a model is trained: images of the averaged weights against real ones."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from tqdm import tqdm

from diffgen.commands.bench import check_sides, load_extractors
from diffgen.commands.real_sets import open_reference
from diffgen.config.base import parse_size
from diffgen.config.evaluate import DRAWN, EvaluateConfig
from diffgen.config.train import TrainConfig
from diffgen.config.validation import as_networks
from diffgen.data.images import StoredImages
from diffgen.data.source import ImageSource
from diffgen.errors import UserError
from diffgen.group import Group, cut
from diffgen.metrics.frechet import distance
from diffgen.metrics.gaussian import Gaussian
from diffgen.metrics.moments import Moments, moments_from_sums
from diffgen.pipeline import DiffGenPipeline
from diffgen.sampling.batches import draw_batches, labels_in_turn


class PeriodicFID:
    """Draws, reads and compares, the work dealt out to all processes of ``group``.

    It is the FID of ``eval/evaluate.py`` with the run's seed, ``--labels in_turn`` and ``--floor
    no``, of the weights it is given. Every process must make one, and measure when the others do.

    Args:
        config: of the training.
        group: this process's part.
        device: where the extractor computes.
        held_out: the held-out images, for a training on stored ones that names no reference.

    Raises:
        UserError: the extractor or the reference cannot be had, or they do not fit.
    """

    def __init__(
        self,
        config: TrainConfig,
        group: Group,
        device: torch.device,
        held_out: ImageSource | None = None,
    ) -> None:
        self.config, self.group = config, group
        self.count = config.validation.fid_images
        settings = as_evaluation(config)
        stored = held_out if isinstance(held_out, StoredImages) else None
        given = stored if config.validation.reference is None else None
        # A network that is built draws weights of its own before it is given others.
        forked = torch.random.fork_rng(devices=[])
        with group.together(), group.main_first(), forked, _own_options():
            extractors = load_extractors(settings, str(device))
        with group.together():
            self.reference = open_reference(settings, config.data.size, given)
            check_sides(extractors, config.data.size, drawn=settings.reference in DRAWN)
            self.reference.check(settings, extractors)
        self.title, self.extractor = next(iter(extractors.items()))

    def measure(self, pipe: DiffGenPipeline, seen: int) -> dict[str, Any] | None:
        """The distance of images that ``pipe`` draws from the real ones.

        The same noise and classes every time. All processes must call it; None in all but the
        main one.

        Raises:
            UserError: a real image is damaged, or what is drawn is not finite.
        """
        real = self._real
        drawn = Gaussian(self._moments("drawing for FID", self.count, self._drawn(pipe)))
        found: dict[str, Any] | None = None
        with self.group.together():
            if self.group.main:
                found = {
                    "images": seen,
                    "fid": distance(real, drawn),
                    "fid_images": self.count,
                    "extractor": self.title,
                }
        return found

    @cached_property
    def _real(self) -> Gaussian:
        """Of the reference, stored or read once."""
        stored, images = self.reference.moments(self.extractor, "features"), self.reference.images
        if stored is not None or images is None:
            assert stored is not None  # the reference's check has seen to it
            return Gaussian(stored)
        mine = self._mine(len(images))
        pictures = (pictures for _, pictures, _ in images.batches(mine))
        return Gaussian(self._moments("reading for FID", len(images), pictures))

    def _drawn(self, pipe: DiffGenPipeline) -> Iterator[Tensor]:
        """This process's pictures."""
        height, width = parse_size(self.config.data.size)
        labels = labels_in_turn(self.count, pipe.transformer.num_classes)
        batches = draw_batches(
            pipe,
            self.config.sampling,
            labels,
            height=height,
            width=width,
            seed=self.config.seed,
            batches=self._mine(self.count),
        )
        return (batch.images for batch in batches)

    def _mine(self, count: int) -> Sequence[range]:
        """This process's batches of numbers; each holds the same at any number of processes."""
        return self.group.deal(cut(count, self.config.sampling.batch_size))

    def _moments(self, doing: str, count: int, pictures: Iterable[Tensor]) -> Moments:
        """Of what all processes see in ``count`` pictures, (B, 3, H, W) uint8 at a time."""
        width, place = self.extractor.num_features, self.extractor.device
        total = torch.zeros(width, dtype=torch.float64, device=place)
        outer = torch.zeros(width, width, dtype=torch.float64, device=place)
        with self.group.together(), self._bar(doing, count) as bar:
            for batch in pictures:
                features = self.extractor(batch).double()
                total += features.sum(dim=0)
                outer += features.T @ features
                bar.update(len(batch))
        return moments_from_sums(count, self._summed(total), self._summed(outer))

    def _summed(self, part: Tensor) -> Tensor:
        """The sum of all processes' ``part``, on the CPU."""
        part = part.cpu()
        if self.group.world > 1:
            dist.all_reduce(part, group=self.group.channel)
        return part

    def _bar(self, doing: str, count: int) -> tqdm:
        total, hidden = sum(map(len, self._mine(count))), not self.group.main
        return tqdm(total=total, unit="img", desc=doing, leave=False, disable=hidden)


@contextmanager
def _own_options() -> Iterator[None]:
    """Complaints about the extractor, with the options that a training has."""
    try:
        yield
    except UserError as error:
        field, _, said = str(error).partition(": ")
        said = said.replace("--weights", "--validation.fid-extractor.weights")
        field = "name" if field == "extractor" else field
        raise UserError(f"validation.fid_extractor.{field}: {said}") from None


def as_evaluation(config: TrainConfig) -> EvaluateConfig:
    """The evaluation of the run that FID is a part of."""
    asked, data = config.validation, config.data
    own = asked.data if asked.data is not None else data.kind
    return EvaluateConfig(
        source=str(config.out),
        reference=asked.reference or own,
        size=data.size,
        num_images=asked.fid_images,
        floor=False,
        seed=config.seed,
        on_error=getattr(data, "on_error", "raise"),
        **as_networks(asked.fid_extractor).model_dump(),
        **config.sampling.model_dump(),
    )
