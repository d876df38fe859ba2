"""Token routing, which lets some of an image's tokens skip some of the blocks in training."""

from collections.abc import Iterator

from pydantic import Field

from diffgen.config.base import Section


class RouteConfig(Section):
    """Let a random share of every image's tokens skip the blocks ``first`` to ``last`` - 1 in
    training (TREAD, Krause et al. 2025). Every token is in the loss; drawing skips nothing."""

    share: float = Field(default=0.5, gt=0, lt=1)
    """Share of an image's tokens that skip the blocks [0 to 1]."""
    first: int = Field(default=2, ge=0)
    """First block they skip, counted from 0."""
    last: int | None = Field(default=None, ge=1)
    """Block before which they come back, as they were; none: the fourth from the end."""

    def bounds(self, depth: int) -> tuple[int, int]:
        """``first`` and ``last`` in a model of ``depth`` blocks."""
        return self.first, depth - 4 if self.last is None else self.last

    def problems(self, depth: int, mixed_sizes: bool) -> Iterator[str]:  # type: ignore[override]
        """Yield blocks that a model of ``depth`` does not have, and batches that have no route."""
        first, last = self.bounds(depth)
        if not first < last <= depth:
            default = " (none: the fourth from the end)" if self.last is None else ""
            yield (
                f"train.route.last: {last}{default} must be above train.route.first {first} and "
                f"at most model.depth {depth}"
            )
        if mixed_sizes:
            yield (
                "train.route: it needs images of one size, but those of data.crop none and mixed "
                "differ"
            )
