"""The images of an evaluation, where a person wants to keep them."""

from collections.abc import Sequence
from pathlib import Path

from diffgen.data.pixels import to_pil
from diffgen.files import write_file
from diffgen.sampling.batches import Batch
from diffgen.sampling.labels import file_name


def save_batch(folder: Path, batch: Batch, class_names: Sequence[str]) -> None:
    """Write ``folder/CLASS/NUMBER.png``, so that the folder can be scored as it is.

    Raises:
        UserError: no space or no permission.
    """
    for number, label, picture in zip(
        batch.numbers, batch.labels.tolist(), to_pil(batch.images), strict=True
    ):
        place = folder / file_name(class_names, label)
        write_file(place / f"{number:06d}.png", picture.save)
