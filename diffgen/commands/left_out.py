"""What of the images a command does without, told to the person who started it."""

import sys

from diffgen.data.folder import Folder
from diffgen.data.hub import HubStream
from diffgen.data.listing import SHOWN, damage_lines, some_lines
from diffgen.data.source import ImageSource
from diffgen.files import write_file
from diffgen.training.run_folder import RunFolder


def tell_left_out(images: ImageSource | HubStream, run: RunFolder) -> None:
    """Name skipped files, all in ``skipped.txt``, other formats, and classes without images."""
    if not isinstance(images, Folder):
        return
    if images.unread:
        kinds = ", ".join(sorted(set(images.unread)))
        print(f"data: {len(images.unread):,} files of {kinds} are not read", file=sys.stderr)
    if images.empty_classes:
        names = ", ".join(images.empty_classes)
        print(f"data: no image is left of these class folders: {names}", file=sys.stderr)
    if images.skipped:
        lines = damage_lines(images.skipped)
        text = "".join(f"{line}\n" for line in lines)
        list_file = run.path / "skipped.txt"
        write_file(list_file, lambda path: path.write_text(text, "utf-8", "backslashreplace"))
        count, total = len(images.skipped), len(images.skipped) + len(images.files)
        where = f"; all are in {list_file}" if count > SHOWN else ""
        print(
            f"data: {count:,} of {total:,} images cannot be read and are skipped{where}\n"
            f"{some_lines(lines)}",
            file=sys.stderr,
        )


def tell_not_scored(field: str, lines: list[str]) -> None:
    """Name damaged images that an evaluation leaves out; ``field`` says of which set."""
    if lines:
        count = f"{field}: {len(lines):,} images cannot be read and are left out"
        print(f"{count}\n{some_lines(lines)}", file=sys.stderr)
