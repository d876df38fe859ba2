"""Batches of a training for one process; a mistake in the data travels as an item."""

from typing import Any

from torch.utils.data import DataLoader, Dataset, default_collate

from diffgen.config.train import LoopConfig
from diffgen.data.order import BatchNumbers, Sample, TrainingData
from diffgen.errors import UserError
from diffgen.group import Group
from diffgen.signals import ignore_in_worker


class Told(Dataset[Sample | UserError]):
    """The data, with a UserError as the item it came from.

    Raised in a worker it would arrive with the worker's traceback in its message.
    """

    def __init__(self, data: TrainingData) -> None:
        self.data = data

    def __getitem__(self, number: int) -> Sample | UserError:
        try:
            return self.data[number]
        except UserError as error:
            return error


def collate(items: list[Any]) -> Any:
    """A batch, or the first UserError in it."""
    errors = [item for item in items if isinstance(item, UserError)]
    return errors[0] if errors else default_collate(items)


def build_loader(
    config: LoopConfig, data: TrainingData, start: int, stop: int, group: Group, pin: bool
) -> DataLoader[Any]:
    """Micro-batches of this process from image ``start`` to ``stop``; ``pin``: for a GPU."""
    numbers = BatchNumbers(
        start=start,
        stop=stop,
        batch_size=config.batch_size,
        accumulation=config.accumulation,
        rank=group.rank,
        world=group.world,
    )
    return DataLoader(
        Told(data),
        batch_sampler=numbers,
        num_workers=config.workers,
        pin_memory=pin,
        collate_fn=collate,
        worker_init_fn=ignore_in_worker,
    )
