"""From sample numbers to batches, in this process or in workers beside it."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader, Dataset, default_collate
from tqdm import tqdm

from diffgen.data.order import BatchNumbers, Sample, TrainingData
from diffgen.data.workers import Watched, pack, unpack
from diffgen.errors import UserError
from diffgen.signals import ignore_in_worker


class _Answers(Dataset[Any]):
    """Samples, or the mistake that stands in the way of one.

    A mistake crosses from a worker as a value: raised there, torch would wrap it in a traceback.
    """

    def __init__(self, data: TrainingData) -> None:
        self.data = data

    def __getitem__(self, number: int) -> Sample | UserError:
        try:
            return self.data[number]
        except UserError as error:
            return error


@dataclass(frozen=True)
class _Collate:
    mixed_sizes: bool

    def __call__(self, answers: list[Any]) -> Any:
        mistake = next((answer for answer in answers if isinstance(answer, UserError)), None)
        if mistake or not self.mixed_sizes:
            return mistake or default_collate(answers)
        images = pack([answer["image"] for answer in answers])
        rest = [{k: v for k, v in answer.items() if k != "image"} for answer in answers]
        return {"image": images, **default_collate(rest)}


def load_batches(
    data: TrainingData, numbers: BatchNumbers, workers: int, pin_memory: bool
) -> Iterator[Sample]:
    """The batches of ``numbers`` in turn.

    Damaged images that others stand in for are named on the terminal, each once, and counted.

    Raises:
        UserError: an image is damaged and stops the run, or a worker was killed.
    """
    loader: DataLoader[Any] = DataLoader(
        _Answers(data),
        batch_sampler=numbers,
        num_workers=workers,
        collate_fn=_Collate(data.mixed_sizes),
        pin_memory=pin_memory,
        worker_init_fn=ignore_in_worker,
    )
    named: set[str] = set()
    again = "the same command goes on from the last checkpoint"
    for batch in Watched(loader, "train.workers", "train.batch_size", again):
        if isinstance(batch, UserError):
            raise batch
        if data.mixed_sizes:
            batch["image"] = unpack(batch["image"])
        for damage in batch.pop("damage"):
            if damage and damage not in named:
                named.add(damage)
                line = f"data: {damage}; another stands in for it ({len(named)} so far)"
                tqdm.write(line, file=sys.stderr)
        yield batch
