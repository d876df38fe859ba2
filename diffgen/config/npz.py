"""``.npz`` files of images or statistics in ADM's layout, judged by their headers without torch.

guided-diffusion's samplers write, and its evaluator reads, ``arr_0`` (images) with optional
``arr_1`` (labels); its reference files add ``mu`` and ``sigma`` of Inception's 2,048 features, and
``mu_s`` and ``sigma_s`` of its 2,023 spatial ones. The files that ``eval/reference.py`` writes have
these too, ``TITLE.mu``, ``TITLE.sigma`` and so on for other networks and resizes, and ``header``:
JSON that says how everything was taken. Pickled content is refused by its header and never loaded.
"""

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.lib import format as npy

from diffgen.errors import UserError

LAYOUT = "arr_0 (N, height, width, 3) uint8, optional arr_1 (N,) labels"


INCEPTION = "inception"
"""Title of what ``mu`` and ``sigma`` belong to: Inception by TensorFlow 1's resize."""
LAYERS = {"features": ("mu", "sigma"), "spatial": ("mu_s", "sigma_s")}
"""Names of the moments of a network's layers."""
SCHEMA = "diffgen-reference/1"
Layers: TypeAlias = Mapping[str, tuple[str, str]]
"""Of each layer the names of its mean and its covariance."""

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
    statistics: Mapping[str, Layers]
    """By the title of a network, that of ``mu`` and ``sigma`` being inception."""
    header: Mapping[str, Any] | None = field(default=None)
    """What a file of ``eval/reference.py`` says of itself; None: it is of another tool."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """What its labels count, as the header has it."""
        return tuple(self.header.get("class_names") or ()) if self.header else ()


def inspect_npz(path: Path, field: str) -> NpzFile:
    """Read the headers of ``path``; ``field`` names the option in complaints.

    Raises:
        UserError: no such file, no ``.npz``, pickled content, a wrong dtype or shape, or neither
            images nor statistics.
    """
    headers = _headers(path, field)
    for name, found in headers.items():
        if found.dtype.hasobject and name in _known(headers):
            raise UserError(
                f"{field}: {name} in {path} is pickled objects, which are never loaded; "
                f"it must be {LAYOUT}"
            )
    images, statistics = headers.get("arr_0"), _statistics(headers)
    if images is None and not statistics:
        raise UserError(
            f"{field}: {path} holds {', '.join(sorted(headers)) or 'nothing'}; "
            f"it must hold {LAYOUT}, or mu and sigma"
        )
    if images is not None:
        _check_images(path, field, images, headers.get("arr_1"))
    for layers in statistics.values():
        for mean, cov in layers.values():
            _check_moments(path, field, (mean, headers[mean]), (cov, headers[cov]))
    return NpzFile(
        count=images.shape[0] if images else 0,
        size=(images.shape[1], images.shape[2]) if images else None,
        labelled=images is not None and "arr_1" in headers,
        statistics=statistics,
        header=_own_header(path, field, statistics) if "header" in headers else None,
    )


def _statistics(headers: Mapping[str, Header]) -> dict[str, Layers]:
    """The moments a file holds, those of inception first; others need a header that tells them."""
    named = sorted(n.removesuffix(".mu") for n in headers if n.endswith(".mu"))
    titles = ["", *(named if "header" in headers else [])]
    found: dict[str, Layers] = {}
    for title in titles:
        names = {
            layer: (f"{title}.{mean}", f"{title}.{cov}") if title else (mean, cov)
            for layer, (mean, cov) in LAYERS.items()
        }
        layers = {k: pair for k, pair in names.items() if all(name in headers for name in pair)}
        if "features" in layers:
            found[title or INCEPTION] = layers
    return found


def _known(headers: Mapping[str, Header]) -> set[str]:
    """The arrays that are read."""
    names = {"arr_0", "arr_1", "header", *(name for pair in LAYERS.values() for name in pair)}
    return names | {
        name for name in headers if name.endswith((".mu", ".sigma", ".mu_s", ".sigma_s"))
    }


def _own_header(path: Path, field: str, statistics: Mapping[str, Layers]) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            header: dict[str, Any] = json.loads(str(arrays["header"]))
        if header["schema"] != SCHEMA:
            raise ValueError(f"its schema is {header['schema']}, not {SCHEMA}")
        for title in statistics:
            dict(header["extractors"][title])
    except (*UNREADABLE, KeyError, TypeError) as error:
        raise UserError(f"{field}: the header of {path} cannot be read: {error}") from None
    return header


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


def _check_moments(
    path: Path, field: str, mean: tuple[str, Header], cov: tuple[str, Header]
) -> None:
    (mu, first), (sigma, second) = mean, cov
    floating = first.dtype.kind == second.dtype.kind == "f"
    shapes = len(first.shape) == 1 and second.shape == 2 * first.shape and 0 not in first.shape
    if not floating or not shapes:
        raise UserError(
            f"{field}: {mu} and {sigma} in {path} are {first.dtype} {first.shape} and "
            f"{second.dtype} {second.shape}; they must be floating (D,) and (D, D)"
        )
