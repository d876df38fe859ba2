"""The part of a list of images that ``data.subset`` keeps."""

import numpy as np

from diffgen.config.subset import parse_subset
from diffgen.errors import UserError
from diffgen.seeding import stream_seed


def kept(count: int, subset: str | None) -> slice:
    """Places START:STOP of ``count`` images; None: all of them.

    Raises:
        UserError: the range reaches beyond them.
    """
    if subset is None:
        return slice(0, count)
    start, stop = parse_subset(subset)
    if start >= count or (stop or 0) > count:
        raise UserError(f"data.subset: {subset} reaches beyond the {count:,} images there are")
    return slice(start, count if stop is None else stop)


def subset_indices(count: int, subset: str | None, seed: int | None) -> list[int]:
    """Places START:STOP of ``count``, or of them shuffled by ``seed``; ascending.

    Raises:
        UserError: the range reaches beyond them.
    """
    part = kept(count, subset)
    order = np.arange(count)
    if seed is not None:
        order = np.random.default_rng(stream_seed(seed, "subset", 0) + 2**63).permutation(count)
    chosen: list[int] = np.sort(order[part]).tolist()
    return chosen
