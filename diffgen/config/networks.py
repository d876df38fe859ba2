"""Networks that pictures are seen through, named one by one or by a profile."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import Field, model_validator

from diffgen.config.base import Section
from diffgen.config.extractor import ExtractorConfig
from diffgen.config.profiles import FREE, ProfileName, profile_settings
from diffgen.config.resizes import Resize


class NetworksConfig(Section):
    """Networks that pictures are seen through, named one by one or by a profile."""

    profile: ProfileName | None = None
    """A published convention, which sets the networks and how pictures reach them: adm, clean,
    edm2, dgm, or embedded (diffgen's reader); none: as the fields say."""
    extractor: str = "reader"
    """Network whose features are compared: reader (diffgen's own), inception (that of FID), or
    any timm model by name, for example resnet50.a1_in1k."""
    weights: Path | None = None
    """The extractor's weights, safetensors or a state dict; none: downloaded by name."""
    resize: Resize | None = None
    """How pictures are brought to the extractor's size; none: as its own code does, for
    inception tf1_bilinear."""
    image_size: int | None = Field(default=None, ge=16)
    """Side of the square a timm model sees [pixels]; none: its own."""
    further: list[ExtractorConfig] = Field(default=[])
    """Further networks for the same images, in a file: name, and if wanted weights, resize,
    image_size."""

    @classmethod
    def fixed(cls, profile: ProfileName) -> dict[str, Any]:
        """The fields that a profile fixes here, with their values."""
        own = NetworksConfig.model_fields
        return {name: value for name, value in profile_settings(profile).items() if name in own}

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        """A profile gives what is not given."""
        profile: Any = values.get("profile") if isinstance(values, dict) else None
        return {**cls.fixed(profile), **values} if profile in get_args(ProfileName) else values

    def extractors(self) -> list[ExtractorConfig]:
        """Every network, that of the headline figures first."""
        first = ExtractorConfig(
            name=self.extractor,
            weights=self.weights,
            resize=self.resize,
            image_size=self.image_size,
        )
        return [first, *self.further]

    def network_problems(self) -> Iterator[str]:
        """Yield fields that contradict the profile or each other, and files that are not there."""
        yield from self._profile_problems()
        extractors = self.extractors()
        titles = [extractor.title for extractor in extractors]
        for title in dict.fromkeys(t for t in titles if titles.count(t) > 1):
            yield f"further: {title} is named twice"
        for number, extractor in enumerate(extractors):
            yield from extractor_problems(extractor, f"further: {extractor.name}: " * (number > 0))

    def _profile_problems(self) -> Iterator[str]:
        if self.profile is None:
            return
        for name, fixed in self.fixed(self.profile).items():
            given = getattr(self, name)
            if name == "further":
                given = [extractor.model_dump(exclude={"weights"}) for extractor in given]
            if name not in FREE and given != fixed:
                shown = "other networks than its own" if name == "further" else given
                yield f"{name}: profile {self.profile} fixes {fixed}, got {shown}"


def extractor_problems(extractor: ExtractorConfig, where: str = "") -> Iterator[str]:
    """Yield options that this network has no use for, and weights that are not there."""
    name, weights = extractor.name, extractor.weights
    if weights is not None:
        if name == "reader":
            yield f"{where}weights: the reader brings its own; name another extractor to use them"
        if not weights.is_file():
            yield f"{where}weights: {weights} does not exist or is no file"
    if name == "reader" and extractor.resize is not None:
        yield f"{where}resize: the reader sees pictures at their own size"
    if name in ("reader", "inception") and extractor.image_size is not None:
        yield f"{where}image_size: only timm models can be given one, got {name}"
