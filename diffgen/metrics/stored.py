"""Moments of real images in a reference file, and what is known of how they were taken."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffgen.config.npz import INCEPTION, LAYERS, SCHEMA, NpzFile
from diffgen.data.npz import open_array
from diffgen.errors import UserError
from diffgen.files import write_file
from diffgen.metrics.extractor import Extractor
from diffgen.metrics.moments import Moments


@dataclass(frozen=True)
class StoredSet:
    """Moments of one extractor's layers."""

    facts: Mapping[str, Any] | None
    """Of the extractor; None: the file says nothing, as ADM's. ``weights_sha256`` is None where
    the statistics are those of another tool, which does not state its weights."""
    moments: Mapping[str, Moments]
    """By layer: ``features``, ``spatial``."""

    def fits(self, extractor: Extractor) -> bool:
        """True where nothing that the file states speaks against a comparison of its features."""
        theirs = extractor.facts()
        if self.facts is None:
            return as_adm(theirs)
        same = all(self.facts.get(name) == theirs[name] for name in ("name", "preprocessing"))
        return same and self.facts.get("weights_sha256") in (None, theirs["weights_sha256"])


def read_stored(path: Path, found: NpzFile) -> dict[str, StoredSet]:
    """The statistics in a reference file that ``inspect_npz`` has found, by title.

    Those of a file without header are taken for ADM's.

    Raises:
        UserError: they hold NaN, or a sigma is no covariance.
    """
    header = found.header or {}
    return {
        title: StoredSet(
            facts=header["extractors"][title] if header else None,
            moments={
                layer: _moments(path, mean, cov, header.get("num_images"))
                for layer, (mean, cov) in layers.items()
            },
        )
        for title, layers in found.statistics.items()
    }


def as_adm(facts: Mapping[str, Any]) -> bool:
    """True for Inception with TensorFlow 1's resize: what ADM's names in a file stand for."""
    if facts["name"] != INCEPTION:
        return False
    from diffgen.metrics.inception import described  # slow to import, and needed here alone

    return bool(facts["preprocessing"] == described("tf1_bilinear"))


def moments_digest(moments: Moments) -> str:
    """sha256 of the float64 values of mean and covariance, row by row."""
    total = sha256()
    for values in (moments.mean, moments.cov):
        total.update(values.cpu().numpy().tobytes())
    return total.hexdigest()


def write_stored(
    path: Path,
    sets: Mapping[str, StoredSet],
    header: Mapping[str, Any],
    images: Mapping[str, np.ndarray],
) -> None:
    """Write a reference file, whole or not at all; ``inspect_npz`` and ``read_stored`` read it.

    Args:
        path: the ``.npz``. Nothing in it is compressed, so that images are read one by one.
        sets: moments with the facts of their extractors, by title; those titled ``inception``,
            which must be ``as_adm``, get ADM's names.
        header: what else to say, as JSON holds it.
        images: ``arr_0`` and ``arr_1``, or nothing.

    Raises:
        UserError: no space or no permission.
    """
    arrays = dict(images)
    for title, found in sets.items():
        before = "" if title == INCEPTION else f"{title}."
        for layer, moments in found.moments.items():
            for name, values in zip(LAYERS[layer], (moments.mean, moments.cov), strict=True):
                arrays[before + name] = values.cpu().numpy()
    facts = {title: found.facts for title, found in sets.items()}
    text = json.dumps({"schema": SCHEMA, **header, "extractors": facts})
    arrays["header"] = np.array(text)
    write_file(path, lambda place: np.savez(place, **arrays))  # type: ignore[arg-type]


def _moments(path: Path, mean: str, cov: str, count: int | None) -> Moments:
    where = f"reference: {mean} and {cov} in {path}"
    return checked_moments(where, open_array(path, mean), open_array(path, cov), count)


def checked_moments(where: str, mean: Any, cov: Any, count: int | None) -> Moments:
    """Moments out of arrays (D,) and (D, D) of a file that ``where`` names.

    Raises:
        UserError: they are something else, hold NaN, or the second is no covariance.
    """
    try:
        first, second = (torch.from_numpy(np.array(x, np.float64)) for x in (mean, cov))
        found = Moments(count, first, second)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: {error}") from None
    symmetric = torch.allclose(second, second.T, rtol=1e-5, atol=1e-8)
    if not symmetric or bool((second.diagonal() < 0).any()):
        raise UserError(f"{where}: the second is no covariance (symmetric, diagonal >= 0)")
    return found
