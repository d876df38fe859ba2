"""Batches cut into pieces of a bounded number of tokens."""

from collections.abc import Iterator

from diffgen.data.order import Sample


def cut_to_budget(batch: Sample, token: int, budget: int | None) -> Iterator[Sample]:
    """Consecutive pieces of a batch, as long as fit into ``budget`` tokens each.

    An image of more tokens than the budget is a piece of its own. ``token``: side of the square of
    image pixels behind a token; ``budget`` None: the batch is one piece.
    """
    start, tokens = 0, 0
    for i, image in enumerate(batch["image"]):
        more = (image.shape[-2] // token) * (image.shape[-1] // token)
        if budget is not None and i > start and tokens + more > budget:
            yield _slice(batch, start, i)
            start, tokens = i, 0
        tokens += more
    yield _slice(batch, start, len(batch["image"]))


def _slice(batch: Sample, start: int, stop: int) -> Sample:
    piece: Sample = {name: values[start:stop] for name, values in batch.items()}  # type: ignore
    return piece
