"""The Fréchet distance that infinitely many images would have.

At N images the distance is too large by about slope / N, with a slope of the model's own, so
that figures of different N, or of different models at a small N, do not compare (Chong and
Forsyth 2020). Two estimates without that term are given:

    value      G theta - (G - 1) mean theta_(g)    jackknife (`jackknife`), with its interval
    intercept  of theta_n = intercept + slope / n  their line through nested subsets, no interval

Both have nearly the same expectation. On Gaussians of known distance (D = 8 and 32, 2000 to 4000
images) the intercept scattered up to 2.6 times as widely as the value, because small subsets
decide it, and the interval that least squares gives for it held the true distance in 25 to 57 %
of draws instead of 95 %, because the subsets share their images. The jackknife's held it in 94 to
100 %. The line is there to look at: r2 and residual_sd say whether the 1 / N law holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from statistics import fmean

import torch
from torch import Tensor

from diffgen.metrics.frechet import distance
from diffgen.metrics.frechet_jackknife import LeaveOneOut, in_groups
from diffgen.metrics.gaussian import Gaussian
from diffgen.metrics.intervals import Estimate
from diffgen.metrics.jackknife import LEAST_ROWS, NUM_GROUPS, Groups, Jackknife, jackknife
from diffgen.metrics.moments import Moments, check_features
from diffgen.metrics.subset_line import Line, fit_line, nested, subset_sizes


@dataclass(frozen=True)
class FidInfinity(Estimate):
    """A squared Fréchet distance extrapolated to infinitely many images.

    Its value is not clipped, so it scatters about 0 where the distributions are equal.

    Attributes:
        line: the distances that the extrapolation can be seen in.
    """

    line: Line


@torch.no_grad()
def fid_infinity(
    reference: Tensor | Moments,
    fake: Tensor,
    groups: Tensor | None = None,
    *,
    num_groups: int = NUM_GROUPS,
    seed: int = 0,
) -> FidInfinity:
    """Fréchet distance of `fake` from `reference` at infinitely many images.

    Args:
        reference: (M, D) floating features: both sides are extrapolated, a group of each being
            left out, or both subsets growing in proportion, at a time. Or stored moments, which
            cannot be cut: they are taken as they stand, as Chong and Forsyth do, and the bias
            and the noise of the images they were made of stay in the figure and are not in its
            interval.
        fake: (N, D) floating features on the same device, N >= 4.
        groups: (N,) int64 group of each row of `fake`, all of about one size, and no more than
            M // 2 of them; None: deal them out at random (`jackknife.deal`).
        num_groups: at most so many are dealt, at least 2.
        seed: of the deal into groups and of the permutation the subsets are the beginnings of.

    Raises:
        ValueError: shapes, dtypes or numbers of rows other than above, different D, NaN, or no
            more rows than features on a side.

    The 1 / N law is an expansion for N well above D: in Gaussian trials with N about 3 D the
    value kept a fiftieth of the bias or less. Rows are
    taken to be independent. Where the distance is 0 the interval is too wide, about 1.4 times.
    Costs G + 15 distances, over a second each at D = 2048 on one CPU core.
    """
    for name, rows in (("reference", reference), ("fake", fake)):
        if isinstance(rows, Tensor) and rows.ndim == 2 and len(rows) <= rows.shape[1]:
            raise ValueError(f"{name} needs more than {rows.shape[1]} rows, got {len(rows)}")
    pair = _Pair.of(reference, fake, groups, num_groups, seed)
    replicates = [distance(pair.without(g), pair.fakes.without(g)) for g in range(len(pair.fakes))]
    return pair.at_infinity(pair.jackknife(replicates))


@torch.no_grad()
def frechet_figures(
    reference: Tensor | Moments,
    fake: Tensor,
    groups: Tensor | None = None,
    *,
    num_groups: int = NUM_GROUPS,
    seed: int = 0,
) -> tuple[Estimate, FidInfinity]:
    """What `frechet_interval` and `fid_infinity` give of the same groups; they share their work.

    Costs G + 15 distances from stored moments, of which the replicates of both are the same, and
    2 G + 15 from features.
    """
    pair = _Pair.of(reference, fake, groups, num_groups, seed)
    fixed, cut = [], []
    for g in range(len(pair.fakes)):
        rest = pair.fakes.without(g)
        fixed.append(distance(pair.fixed, rest))
        cut.append(fixed[-1] if pair.reals is None else distance(pair.without(g), rest))
    plain = jackknife(pair.value, fixed, pair.fakes.groups.shares)
    return plain.estimate(), pair.at_infinity(pair.jackknife(cut))


@dataclass(frozen=True, eq=False)
class _Pair:
    """Both sides in as many groups each.

    Attributes:
        fixed: the whole reference.
        reals: the reference in groups; None: it is moments, which stay whole.
        value: the distance of all images.
    """

    fixed: Gaussian
    reals: LeaveOneOut | None
    fakes: LeaveOneOut
    seed: int
    value: float

    @classmethod
    def of(
        cls,
        reference: Tensor | Moments,
        fake: Tensor,
        groups: Tensor | None,
        num_groups: int,
        seed: int,
    ) -> _Pair:
        if isinstance(reference, Moments):
            fixed = Gaussian(reference)
            fakes = in_groups(fake, len(reference.mean), groups, num_groups, seed)
            return cls(fixed, None, fakes, seed, distance(fixed, fakes.whole))
        check_features("reference", reference, least=LEAST_ROWS)
        most = min(num_groups, len(reference) // 2)
        fakes = in_groups(fake, reference.shape[1], groups, most, seed)
        if 2 * len(fakes) > len(reference):
            raise ValueError(
                f"groups must be at most {len(reference) // 2} for {len(reference)} rows of "
                f"reference, got {len(fakes)}"
            )
        dealt = Groups.of(None, len(reference), num_groups=len(fakes), seed=seed)
        reals = LeaveOneOut(reference, dealt)
        return cls(reals.whole, reals, fakes, seed, distance(reals.whole, fakes.whole))

    def without(self, group: int) -> Gaussian:
        """The reference without a group, where it is cut."""
        return self.fixed if self.reals is None else self.reals.without(group)

    def jackknife(self, replicates: Sequence[float]) -> Jackknife:
        """Of distances without each group of both sides, or of the fakes where that is all."""
        shares = self.fakes.groups.shares
        if self.reals is not None:
            pairs = zip(self.reals.groups.shares, shares, strict=True)
            shares = [fmean(pair) for pair in pairs]
        return jackknife(self.value, replicates, shares)

    def at_infinity(self, found: Jackknife) -> FidInfinity:
        """The corrected estimate beside the line through subsets."""
        extrapolated = found.corrected_estimate()
        return FidInfinity(
            extrapolated.value, extrapolated.standard_error, extrapolated.interval, self._line()
        )

    def _line(self) -> Line:
        fake = self.fakes.features
        sizes = subset_sizes(len(fake))
        grown: Iterable[Gaussian] = repeat(self.fixed)
        if self.reals is not None:
            real = self.reals.features
            grown = nested(real, [round(n * len(real) / len(fake)) for n in sizes[:-1]], self.seed)
        smaller = list(map(distance, grown, nested(fake, sizes[:-1], self.seed)))
        return fit_line(sizes, [*smaller, self.value])
