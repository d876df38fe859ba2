"""The part of a list of images that ``data.subset`` keeps."""

from diffgen.config.data import parse_subset
from diffgen.errors import UserError


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
