"""What images are scored against, through which networks and by which rules."""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from diffgen.config.networks import NetworksConfig
from diffgen.config.profiles import ProfileName, profile_settings


class ScoringConfig(NetworksConfig):
    """What images are scored against, through which networks and by which rules."""

    profile: ProfileName | None = None
    """A published convention, which sets the fields below: adm, clean, edm2, dgm, or embedded
    (diffgen's reader); num_images and floor may still be given. none: as the fields say."""
    reference: str = "shapes"
    """Real images: shapes or digits (their held-out split), a folder, or an .npz of images or of
    statistics."""
    num_images: int = Field(default=512, ge=8)
    """Images drawn from the model, and real ones, as far as there are so many [count]."""
    floor: bool = True
    """Score real images against other real images too, which takes half of a folder or .npz given
    as reference; no: all of it is the reference, and num_images may exceed it."""
    k: int = Field(default=3, ge=1)
    """Nearest neighbour that gives the radius for precision and recall [count]."""
    density_k: int = Field(default=5, ge=1)
    """Nearest neighbour that gives the radius for density and coverage [count]."""
    rule: Literal["adm", "strict"] = "adm"
    """Whether a point on a ball's surface counts for precision and recall: adm (yes) or strict
    (no, as in prdc)."""
    manifold_images: int | None = Field(default=None, ge=8)
    """Images of each side that precision, recall, density, coverage, authenticity and copied are
    taken of, the first ones [count]; none: all."""
    splits: Literal["shuffled", "in_order"] = "shuffled"
    """The Inception score: over ten splits of shuffled images (torch-fidelity), or over chunks of
    5,000 in the order of the source (adm)."""
    labels: Literal["auto", "in_turn", "random"] = "auto"
    """Classes drawn: in turn, random (as published figures are), or auto: as in the reference
    where it has the model's classes, else in turn."""
    intervals: bool = True
    """Intervals by the jackknife, and the Fréchet distance at infinitely many images."""

    @classmethod
    def fixed(cls, profile: ProfileName) -> dict[str, Any]:
        """The fields that a profile fixes, with their values."""
        return profile_settings(profile)

    def scoring_problems(self) -> Iterator[str]:
        """Yield fields that contradict the profile or each other, and files that are not there."""
        yield from self.network_problems()
        most = self.manifold_images
        for name in ("k", "density_k"):
            if most is not None and most <= getattr(self, name):
                yield f"manifold_images: {most} is too few for {name} {getattr(self, name)}"
