"""Statistics of other tools, with all that is known of how they were taken."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffgen.commands.real_images import mixed
from diffgen.config.extractor import ExtractorConfig
from diffgen.config.npz import INCEPTION, inspect_npz
from diffgen.config.reference import ReferenceConfig, is_pickle
from diffgen.data.npz import open_array
from diffgen.errors import UserError
from diffgen.metrics.inception import NUM_FEATURES
from diffgen.metrics.inception import described as inception_words
from diffgen.metrics.moments import Moments
from diffgen.metrics.pickled import read_pickle
from diffgen.metrics.stored import StoredSet, as_adm, checked_moments, read_stored
from diffgen.metrics.timm_model import described as timm_words

EDM2_NETWORKS = {"fid": 0, "fd_dinov2": 1}
"""Of each metric in EDM2's files its network's place in the profile."""


class Converted(NamedTuple):
    """What goes into a reference file."""

    sets: dict[str, StoredSet]
    """By title."""
    num_images: int | None
    """Behind the statistics; None: not stated."""
    images: dict[str, np.ndarray]
    """``arr_0`` and ``arr_1``, as far as the source has them."""


def converted(config: ReferenceConfig) -> Converted:
    """The statistics in an ``.npz`` of mu and sigma, as pytorch-fid, EDM and ADM write, or EDM2's.

    The network and the resize are as ``config`` says, because these files do not; the weights
    are not known.

    Raises:
        UserError: it holds something else.
    """
    path = Path(config.source)
    if is_pickle(config.source):
        return _edm2(path, config.extractors())
    found = inspect_npz(path, "source")
    moments = read_stored(path, found)[INCEPTION].moments
    title, stated = _titled(config.extractors()[0], moments)
    kept = mixed(found.count)[: config.keep_images]
    names = ("arr_0", "arr_1") if found.labelled else ("arr_0",)
    images = {name: open_array(path, name)[kept] for name in names} if kept else {}
    return Converted({title: stated}, None, images)


def _edm2(path: Path, networks: list[ExtractorConfig]) -> Converted:
    content = read_pickle(path, "source")
    count = content.get("num_images") if isinstance(content, dict) else None
    sets = {}
    for metric, place in EDM2_NETWORKS.items():
        stored = content.get(metric) if isinstance(content, dict) else None
        if isinstance(stored, dict):
            where = f"source: mu and sigma of {metric} in {path}"
            found = checked_moments(where, stored.get("mu"), stored.get("sigma"), count)
            title, kept = _titled(networks[place], {"features": found})
            sets[title] = kept
    if not sets or not isinstance(count, int):
        raise UserError(
            f"source: {path} must hold num_images, and mu and sigma under fid or fd_dinov2, as "
            "EDM2's calculate_metrics.py writes them"
        )
    return Converted(sets, count, {})


def _titled(network: ExtractorConfig, moments: Mapping[str, Moments]) -> tuple[str, StoredSet]:
    """Moments with what is known of them, and the title they are stored under."""
    width = len(moments["features"].mean)
    if network.name == INCEPTION and width != NUM_FEATURES:
        raise UserError(
            f"source: its mu has {width} values; FID's Inception features are {NUM_FEATURES}"
        )
    facts = _facts(network, moments)
    return INCEPTION if as_adm(facts) else network.title, StoredSet(facts, moments)


def _facts(network: ExtractorConfig, moments: Mapping[str, Moments]) -> dict[str, Any]:
    """What ``Extractor.facts`` says, without the weights."""
    if network.name == INCEPTION:
        preprocessing = inception_words(network.resize or "tf1_bilinear")
    else:
        preprocessing = timm_words(network.name, network.image_size, network.resize)
    layers = {layer: len(found.mean) for layer, found in moments.items()}
    return {
        "name": network.name,
        "weights_sha256": None,
        "num_features": layers["features"],
        "preprocessing": preprocessing,
        "layers": layers,
    }
