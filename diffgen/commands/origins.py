"""What the figures of an evaluation come from, as its files are now, told without opening them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from diffgen.commands.digests import ModelDigests, guide_digest, model_digests
from diffgen.commands.real_images import stamp
from diffgen.config.data import image_files
from diffgen.config.evaluate import DRAWN, EvaluateConfig
from diffgen.config.guidance import AutoGuidanceConfig
from diffgen.config.pictures import is_npz
from diffgen.metrics.weights import digest


@dataclass(frozen=True)
class Origin:
    """Digests of everything that settings alone name by a path."""

    model: ModelDigests
    guide: str | None
    """Of the weaker model that guides it; None: there is none."""
    reference: str | None
    """Of the names, sizes and times of the reference's files; None: it is drawn."""
    networks: tuple[str | None, ...]
    """sha256 of each network's weights; None: it comes by name."""

    @property
    def stated(self) -> dict[str, str | None]:
        """What an evaluation does not state itself."""
        return {"model": self.model.settings, "reference_files": self.reference}

    def is_of(self, content: Mapping[str, Any]) -> bool:
        """True where an evaluation, with ``stated`` beside it, came from the same."""
        seen = [one["extractor"]["weights_sha256"] for one in (content, *content["further"])]
        pairs = zip(self.networks, seen, strict=True)
        return (
            content["weights"] == self.model.weights
            and content.get("guide_weights") == self.guide
            and all(content.get(name) == value for name, value in self.stated.items())
            and all(weights in (None, stated) for weights, stated in pairs)
        )


def origin_of(config: EvaluateConfig) -> Origin:
    """Read the files of the model and of the networks, and look at those of the reference.

    Raises:
        UserError: there is no such model or guide.
    """
    guide = None
    if isinstance(config.guidance, AutoGuidanceConfig):
        guide = guide_digest(config.guidance, config.source)
    return Origin(
        model_digests(config.source, config.vae),
        guide,
        reference_digest(config.reference),
        tuple(
            None if network.weights is None else digest(network.weights)
            for network in config.extractors()
        ),
    )


def reference_digest(reference: str) -> str | None:
    """Changes when a file of a folder or an ``.npz`` is written anew; None for drawn images."""
    if reference in DRAWN:
        return None
    place = Path(reference)
    files = [place] if is_npz(reference) else sorted(image_files(place))
    stamps = [[str(file.relative_to(place)), *stamp(file)] for file in files]
    return sha256(json.dumps(stamps).encode()).hexdigest()
