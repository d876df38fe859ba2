"""Guidance of a sampling run. The kind picks the rule in diffgen/guidance/."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, TypeAdapter

from diffgen.config.base import Section, default_kind

ThresholdMode = Literal["norm", "rms"]
Space = Literal["x0", "raw"]
Combine = Literal["cond", "uncond"]
NEVER = 1.0
"""An rms no update of pictures or latents of about unit variance reaches."""


class _Guidance(Section):
    scale: float = Field(default=2.0, ge=0, le=1e6)
    """How far to go from the weaker prediction to the conditional one and beyond; 1: unguided, at
    half the cost [dimensionless]."""
    rescale: float = Field(default=0.0, ge=0, le=1)
    """How much of the standard deviation that guidance adds to a prediction is taken back (Lin et
    al. 2023, sec. 3.4) [0 to 1]."""
    interval_low: float = Field(default=0.0, ge=0)
    """Guide only at noise levels above this (Kynkäänniemi et al. 2024) [sigma over alpha]."""
    interval_high: float | None = Field(default=None, gt=0)
    """Guide only up to this noise level, this one too; none: no bound [sigma over alpha]."""
    channels: int | None = Field(default=None, ge=1)
    """Guide the first so many channels of what the model sees; none: as the model states, which is
    all but for released DiT, SiT and FiT (3)."""

    def problems(self) -> Iterator[str]:
        """Yield an interval that holds no level."""
        if self.interval_high is not None and self.interval_low >= self.interval_high:
            yield (
                f"guidance.interval_low: {self.interval_low:g} leaves no noise level up to "
                f"guidance.interval_high {self.interval_high:g}; it must be smaller"
            )

    @property
    def effective(self) -> bool:
        """False where no step differs from an unguided one."""
        return self.scale != 1

    @property
    def wants_classes(self) -> bool:
        """True where someone asked for what changes nothing in a model without classes."""
        return self.effective and self != CFGConfig()


class CFGConfig(_Guidance):
    """Classifier-free guidance (Ho and Salimans 2022)."""

    kind: Literal["cfg"] = "cfg"
    """Guidance rule: cfg, classifier-free guidance; apg, adaptive projected guidance, for high
    scales; cfg_zero_star, CFG-Zero*; autoguidance, by a weaker model."""


class APGConfig(_Guidance):
    """Adaptive projected guidance (Sadat et al. 2024)."""

    kind: Literal["apg"] = "apg"
    """Guidance rule: cfg, classifier-free guidance; apg, adaptive projected guidance, for high
    scales; cfg_zero_star, CFG-Zero*; autoguidance, by a weaker model."""
    eta: float = Field(default=0.0, ge=-1e6, le=1e6)
    """Share of the update's part along the conditional prediction that is kept; 1: all, as in cfg
    [dimensionless]."""
    threshold: float | None = Field(default=0.01, ge=0)
    """Longest update, longer ones are shortened to it; 0: no bound [see threshold_mode]."""
    threshold_mode: ThresholdMode = "rms"
    """Length of an update: rms, the root mean square of its elements, so that a threshold holds at
    any size; norm, the L2 norm over all of them, as the paper's thresholds are."""
    momentum: float = Field(default=-0.75, gt=-1, lt=1)
    """Share of the last step's update added to this one's; negative turns away from it [between -1
    and 1]."""
    space: Space = "x0"
    """Where updates are measured: x0, denoised predictions, as in the paper; raw, what the model
    predicts (eps, v, velocity), as diffusers does."""
    combine: Combine = "cond"
    """What the update is added to: cond, as in the paper, by scale less 1; uncond, as diffusers
    does by default, by scale."""

    def problems(self) -> Iterator[str]:
        """Yield a threshold that is a norm; see also _Guidance."""
        yield from super().problems()
        if self.threshold_mode == "rms" and (self.threshold or 0) >= NEVER:
            yield (
                f"guidance.threshold: an rms of {self.threshold:g} never shortens an update; if it "
                "is a norm, as in the paper, give guidance.threshold_mode norm"
            )


class CFGZeroStarConfig(_Guidance):
    """CFG-Zero* (Fan et al. 2025)."""

    kind: Literal["cfg_zero_star"] = "cfg_zero_star"
    """Guidance rule: cfg, classifier-free guidance; apg, adaptive projected guidance, for high
    scales; cfg_zero_star, CFG-Zero*; autoguidance, by a weaker model."""
    zero_above: float = Field(default=1000.0, ge=0)
    """Stand still at noise levels above this: of a flow the first step alone, if it has 1,000 steps
    or fewer; 0: never [sigma over alpha]."""


class AutoGuidanceConfig(_Guidance):
    """Autoguidance (Karras et al. 2024)."""

    kind: Literal["autoguidance"] = "autoguidance"
    """Guidance rule: cfg, classifier-free guidance; apg, adaptive projected guidance, for high
    scales; cfg_zero_star, CFG-Zero*; autoguidance, by a weaker model."""
    guide: str | None = None
    """Run folder, pipeline folder or hub id of a weaker model of the same kind of images and
    classes; none: the model's own run, at guide_ema or guide_images."""
    guide_ema: float | None = Field(default=None, ge=0.01, le=0.15)
    """Width of the guide's averaged weights, rebuilt from its run's snapshots; none: as exported
    [0.01 to 0.15]."""
    guide_images: int | None = Field(default=None, ge=1)
    """The guide as it was at the last snapshot that its run stored after at most so many images;
    none: as it is [images seen]."""

    @property
    def wants_classes(self) -> bool:
        """False: the guide has the model's own condition, or like it none."""
        return False

    @property
    def named(self) -> tuple[str | None, float | None, int | None]:
        """What tells one guide from another."""
        return self.guide, self.guide_ema, self.guide_images

    @property
    def rebuilt(self) -> bool:
        """True where the guide's weights come from its run's snapshots."""
        return self.guide_ema is not None or self.guide_images is not None

    def problems(self) -> Iterator[str]:
        """Yield a guide that is none; see also _Guidance."""
        yield from super().problems()
        if self.guide is None and not self.rebuilt:
            yield (
                "guidance.guide: autoguidance needs a guide: a weaker model, or guidance.guide_ema "
                "or guidance.guide_images of the same run"
            )


Guidances: TypeAlias = CFGConfig | APGConfig | CFGZeroStarConfig | AutoGuidanceConfig
GuidanceConfig = Annotated[Guidances, Field(discriminator="kind"), default_kind("cfg")]


def from_earlier(values: Any) -> Any:
    """Settings of earlier versions, which knew a ``guidance_scale`` alone, as they are now."""
    if not isinstance(values, Mapping) or "guidance_scale" not in values:
        return values
    rest = {name: value for name, value in values.items() if name != "guidance_scale"}
    given = rest.get("guidance", {})
    if not isinstance(given, Mapping):
        return rest
    return {**rest, "guidance": {"scale": values["guidance_scale"], **given}}


def read_guidance(stated: Mapping[str, Any]) -> Guidances:
    """The guidance of saved settings."""
    found: Guidances = TypeAdapter(GuidanceConfig).validate_python(
        from_earlier(stated).get("guidance", {})
    )
    return found


def with_guidance(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Saved settings of any version with all fields of their guidance, as JSON holds them."""
    return {**from_earlier(settings), "guidance": read_guidance(settings).model_dump(mode="json")}


def described(guidance: Guidances) -> str:
    """Kind, scale, and whatever differs from the defaults: ``apg 8, momentum -0.5``."""
    changed = guidance.model_dump(exclude_defaults=True, exclude={"kind", "scale"})
    more = [f"{name.replace('_', ' ')} {value}" for name, value in changed.items()]
    return ", ".join([f"{guidance.kind} {guidance.scale:g}", *more])
