"""The images of an evaluation, where a person wants to keep them."""

from collections.abc import Sequence
from pathlib import Path

from diffgen.config.data import image_files
from diffgen.data.pixels import to_pil
from diffgen.errors import UserError
from diffgen.files import write_file
from diffgen.sampling.batches import Batch
from diffgen.sampling.labels import file_name

MARK = ".evaluation"


def claim(folder: Path, run: str) -> None:
    """Make ``folder`` that of one evaluation, so that images of two are never mixed.

    Raises:
        UserError: it holds images of something else, or cannot be written.
    """
    mark = folder / MARK
    own = mark.exists() and mark.read_text(encoding="utf-8") == run
    if not own and folder.exists() and next(image_files(folder), None) is not None:
        raise UserError(f"save: {folder} holds other images; name an empty folder")
    write_file(mark, lambda path: path.write_text(run, encoding="utf-8"))


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
