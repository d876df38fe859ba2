"""``.npz`` files of images or statistics in ADM's layout, judged by their headers without torch.

guided-diffusion's samplers write, and its evaluator reads, ``arr_0`` (images) with optional
``arr_1`` (labels); its reference files add ``mu`` and ``sigma`` of Inception's 2,048 features
(and ``mu_s``, ``sigma_s`` of its spatial ones, which diffgen passes over). Pickled content is
refused by its header and never loaded.
"""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from diffgen.errors import UserError

LAYOUT = "arr_0 (N, height, width, 3) uint8, optional arr_1 (N,) labels"


# What zipfile and numpy raise on a damaged, encrypted or oddly packed archive.
UNREADABLE = (OSError, EOFError, ValueError, RuntimeError, zlib.error, zipfile.BadZipFile)


@dataclass(frozen=True)
class Header:
    """What an array is, without its values."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran_order: bool


@dataclass(frozen=True)
class NpzFile:
    """What an ``.npz`` holds."""

    count: int
    """Images; 0: none."""
    size: tuple[int, int] | None
    """Height x width of its images [pixels]."""
    labelled: bool
    num_features: int | None
    """Width of ``mu`` and ``sigma``; None: it has none."""


def inspect_npz(path: Path, field: str) -> NpzFile:
    """Read the headers of ``path``; ``field`` names the option in complaints.

    Raises:
        UserError: no such file, no ``.npz``, pickled content, a wrong dtype or shape, or neither
            images nor statistics.
    """
    headers = _headers(path, field)
    for name in ("arr_0", "arr_1", "mu", "sigma"):
        if name in headers and headers[name].dtype.hasobject:
            raise UserError(
                f"{field}: {name} in {path} is pickled objects, which are never loaded; "
                f"it must be {LAYOUT}"
            )
    images, mu, sigma = (headers.get(name) for name in ("arr_0", "mu", "sigma"))
    if images is None and (mu is None or sigma is None):
        raise UserError(
            f"{field}: {path} holds {', '.join(sorted(headers)) or 'nothing'}; "
            f"it must hold {LAYOUT}, or mu and sigma"
        )
    if images is not None:
        _check_images(path, field, images, headers.get("arr_1"))
    if mu is not None and sigma is not None:
        _check_moments(path, field, mu, sigma)
    return NpzFile(
        count=images.shape[0] if images else 0,
        size=(images.shape[1], images.shape[2]) if images else None,
        labelled=images is not None and "arr_1" in headers,
        num_features=mu.shape[0] if mu and sigma else None,
    )


def read_header(stream: IO[bytes]) -> Header:
    """The header of a ``.npy`` stream, which is left at the first value.

    Raises:
        ValueError: it is none.
    """
    version = npy.read_magic(stream)
    reader = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran_order, dtype = reader(stream)
    return Header(shape, dtype, fortran_order)


def _headers(path: Path, field: str) -> dict[str, Header]:
    if not path.is_file():
        raise UserError(f"{field}: {path} does not exist or is no file")
    try:
        with zipfile.ZipFile(path) as archive:
            headers = {}
            for name in archive.namelist():
                if name.endswith(".npy"):
                    with archive.open(name) as stream:
                        headers[name.removesuffix(".npy")] = read_header(stream)
            return headers
    except zipfile.BadZipFile:
        raise UserError(f"{field}: {path} is no .npz archive, or is cut short") from None
    except UNREADABLE as error:
        raise UserError(f"{field}: {path} cannot be read: {error}") from None


def _check_images(path: Path, field: str, images: Header, labels: Header | None) -> None:
    shape = images.shape
    if images.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or 0 in shape:
        raise UserError(
            f"{field}: arr_0 in {path} is {images.dtype} {shape}; "
            "it must be uint8 (N, height, width, 3), with values from 0 to 255"
        )
    if labels is not None and (labels.dtype.kind not in "iu" or labels.shape != shape[:1]):
        raise UserError(
            f"{field}: arr_1 in {path} is {labels.dtype} {labels.shape}; "
            f"it must be integer labels ({shape[0]},), one for each image"
        )


def _check_moments(path: Path, field: str, mu: Header, sigma: Header) -> None:
    floating = mu.dtype.kind == sigma.dtype.kind == "f"
    if not floating or len(mu.shape) != 1 or sigma.shape != 2 * mu.shape or 0 in mu.shape:
        raise UserError(
            f"{field}: mu and sigma in {path} are {mu.dtype} {mu.shape} and "
            f"{sigma.dtype} {sigma.shape}; they must be floating (D,) and (D, D)"
        )
