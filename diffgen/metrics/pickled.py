"""Arrays and plain values in a pickle, read without running anything it names.

Unpickling calls what a pickle names, so a file of another person may do anything. Here a name is
never looked up: the few that numpy's arrays come with stand for the functions below, which check
their arguments and copy bytes, and every other one is refused.
"""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from diffgen.errors import UserError


class Dtype:
    """In the place of ``numpy.dtype``: a plain number, in either byte order."""

    def __init__(self, code: str, *_: object) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = {"<": "<", ">": ">", "|": "|"}[state[1]]

    @property
    def plain(self) -> np.dtype:
        """numpy's; ValueError unless it is of integers or floats."""
        found = np.dtype(self.order + self.code)
        if found.kind not in "iuf":
            raise ValueError(f"arrays of {self.code}")
        return found


class Array:
    """In the place of an array that numpy fills by its state."""

    def __init__(self, *_: object) -> None:
        self.values = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, by_column, content = state
        self.values = _array(content, dtype, shape, "F" if by_column else "C")


def _buffered(content: bytes, dtype: Dtype, shape: tuple[int, ...], order: str) -> Array:
    """In the place of what pickle's protocol 5 fills an array by."""
    array = Array()
    array.values = _array(content, dtype, shape, order)
    return array


def _scalar(dtype: Dtype, content: bytes) -> Any:
    """In the place of numpy's single numbers; a Python one."""
    return _array(content, dtype, (), "C").item()


def _array(content: bytes, dtype: Dtype, shape: tuple[int, ...], order: Any) -> np.ndarray:
    return np.frombuffer(content, dtype.plain).reshape(shape, order=order).copy()


PLACES = ("numpy", "numpy.core.multiarray", "numpy.core.numeric")
NAMES: dict[str, Callable[..., Any]] = {
    "ndarray": Array,
    "dtype": Dtype,
    "_reconstruct": Array,
    "_frombuffer": _buffered,
    "scalar": _scalar,
}


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name; ``numpy._core`` is how newer numpys call ``numpy.core``."""
        if module.replace("numpy._core", "numpy.core") not in PLACES or name not in NAMES:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return NAMES[name]


def read_pickle(path: Path, field: str) -> Any:
    """What a pickle holds: containers, numbers, text, and numpy arrays of numbers.

    Args:
        path: the file.
        field: option it was given by, for complaints.

    Raises:
        UserError: it names anything but numpy's arrays, or cannot be read. Nothing is run.
    """
    try:
        with path.open("rb") as stream:
            return _arrays(_Plain(stream).load())
    except Exception as error:  # an arbitrary file can make pickle raise anything
        raise UserError(
            f"{field}: {path} is no pickle of numpy arrays and plain values alone, and was not "
            f"loaded: {str(error) or type(error).__name__}"
        ) from None


def _arrays(found: Any) -> Any:
    """``found`` with numpy arrays in the place of what stands for them, in dicts."""
    if isinstance(found, dict):
        return {name: _arrays(value) for name, value in found.items()}
    return found.values if isinstance(found, Array) else found
