"""Distances of the images' features from the reference's: Fréchet's, and those of kernels."""

from torch import Tensor

from diffgen.metrics.frechet import distance
from diffgen.metrics.frechet_jackknife import frechet_interval
from diffgen.metrics.gaussian import Gaussian
from diffgen.metrics.infinity import frechet_figures
from diffgen.metrics.jackknife import LEAST_ROWS, NUM_GROUPS
from diffgen.metrics.kernel import cmmd, cmmd_interval, kernel_distance, kernel_distance_interval
from diffgen.metrics.moments import Moments
from diffgen.metrics.shown import NAMES
from diffgen.metrics.sides import NO_IMAGES, NO_MOMENTS, Figures, Sides

NO_LAYER = {
    "sfid": "{} has no spatial layer; inception has",
    "cmmd": "{} is no CLIP model",
}
NOTHING = "the reference holds no statistics of {}, and no images"
NOT_ASKED = "it was not asked for (intervals no)"


def frechet(sides: Sides, found: Figures) -> None:
    """FID, FID at infinity and sFID."""
    for name, layer in (("fid", "features"), ("sfid", "spatial")):
        if layer not in sides.extractor.layers:
            found.lack(name, NO_LAYER[name].format(sides.title))
            continue
        target = sides.target(layer)
        if target is None:
            reason = NO_MOMENTS if sides.against_stored else NOTHING.format(sides.title)
            found.lack(name, reason)
        else:
            _distance(sides, found, name, target, sides.fake(layer))
    if "fid_infinity" not in found.scores:
        found.lack("fid_infinity", found.missing["fid"])


def _distance(
    sides: Sides, found: Figures, name: str, target: Tensor | Moments, fake: Tensor
) -> None:
    """FID with FID at infinity, or sFID."""
    real = target.count if isinstance(target, Moments) else len(target)
    lacking = _no_infinity(sides, len(fake), real, fake.shape[1])
    if name == "fid" and lacking is None:
        most = NUM_GROUPS if isinstance(target, Moments) else min(NUM_GROUPS, len(target) // 2)
        plain, extrapolated = frechet_figures(target, fake, sides.groups(len(fake), most))
        found.estimate("fid_infinity", extrapolated)
        found.line = extrapolated.line
        found.estimate(name, plain)
    elif sides.jackknifes:
        found.estimate(name, frechet_interval(target, fake, sides.groups(len(fake))))
    else:
        found.add(name, distance(Gaussian.of(target), Gaussian.of(fake)))
    if name == "fid" and lacking is not None:
        found.lack("fid_infinity", lacking)
    trace = "" if isinstance(target, Moments) else ", its trace comes from the features"
    for what, count in (("images", len(fake)), ("real images", real)):
        if count is not None and count <= fake.shape[1]:
            found.notes.append(
                f"{NAMES[name]}: {count} {what} are too few for {fake.shape[1]} features: the "
                f"covariance is of low rank{trace}, and the figure is far too large"
            )


def _no_infinity(sides: Sides, images: int, real: int | None, width: int) -> str | None:
    """Why there is no distance at infinitely many images; None: there is one.

    ``real`` images are in the reference, or an unknown number of them in its statistics.
    """
    least = images if real is None else min(images, real)
    if least <= width:
        return f"the 1/N law needs more images than features, {least} are not more than {width}"
    if least < LEAST_ROWS:
        return f"the jackknife needs {LEAST_ROWS} images a side, not {least}"
    return None if sides.jackknifes else NOT_ASKED


def kernels(sides: Sides, found: Figures) -> None:
    """KID and CMMD."""
    for name, layer, value, estimate in (
        ("kid", "features", kernel_distance, kernel_distance_interval),
        ("cmmd", "embedding", cmmd, cmmd_interval),
    ):
        if layer not in sides.extractor.layers:
            found.lack(name, NO_LAYER[name].format(sides.title))
        elif sides.reference is None:
            found.lack(name, NO_IMAGES)
        elif sides.jackknifes:
            real, fake = sides.real(layer), sides.fake(layer)
            found.estimate(name, estimate(real, fake, sides.groups(len(fake))))
        else:
            found.add(name, value(sides.real(layer), sides.fake(layer)))
