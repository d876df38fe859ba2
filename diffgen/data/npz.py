"""Images in an ``.npz`` file; see ``diffgen.config.npz`` for its layout."""

import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diffgen.config.base import parse_size
from diffgen.config.npz import UNREADABLE, inspect_npz, read_header
from diffgen.data.crops import center_crop
from diffgen.data.pixels import from_pil, from_uint8
from diffgen.errors import UserError

LOCAL_HEADER = 30  # bytes before a member's name; its last four are the lengths of what follows


class NpzImages:
    """The images of ``path`` in their order, centre-cropped where they are not ``size``.

    An unpacked ``arr_0`` (as ``np.savez`` writes) stays on the disk, a packed one is read whole.

    Args:
        path: the file.
        size: HEIGHTxWIDTH [pixels].
        class_names: what its labels count; none: what the file says, if it does.

    Raises:
        UserError: the file is damaged or of another layout.
    """

    def __init__(self, path: Path, size: str, class_names: tuple[str, ...] = ()) -> None:
        found = inspect_npz(path, "npz")
        self.path = path
        self.height, self.width = parse_size(size)
        self.class_names = class_names or found.class_names
        self.pixels = open_array(path, "arr_0")
        self.labels = open_array(path, "arr_1") if found.labelled else np.full(found.count, -1)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """(image (3, H, W) float in [-1, 1], label; -1: the file has none)."""
        picture = np.array(self.pixels[index])
        if picture.shape[:2] == (self.height, self.width):
            pixels = torch.from_numpy(picture).permute(2, 0, 1)
        else:
            pixels = from_pil(center_crop(Image.fromarray(picture), self.height, self.width))
        return from_uint8(pixels), int(self.labels[index])


def open_array(path: Path, name: str) -> np.ndarray:
    """Array ``name`` of an ``.npz``: mapped from the disk if it is stored unpacked, else read.

    Raises:
        UserError: it is damaged or pickled.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo(f"{name}.npy")
            if member.compress_type == zipfile.ZIP_STORED:
                return _mapped(path, member.header_offset)
        with np.load(path, allow_pickle=False) as arrays:
            return arrays[name]
    except UNREADABLE as error:
        raise UserError(f"{path} is damaged: {name} cannot be read ({error})") from None


def _mapped(path: Path, offset: int) -> np.ndarray:
    with path.open("rb") as stream:
        stream.seek(offset + LOCAL_HEADER - 4)
        lengths = stream.read(4)
        names = int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
        stream.seek(offset + LOCAL_HEADER + names)
        header = read_header(stream)
        if header.dtype.hasobject:
            raise ValueError("it is pickled objects")
        return np.memmap(
            path,
            header.dtype,
            mode="r",
            offset=stream.tell(),
            shape=header.shape,
            order="F" if header.fortran_order else "C",
        )
