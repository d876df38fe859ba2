"""Whether a model can be guided as asked, found out without torch."""

from collections.abc import Iterator

from diffgen.config.guidance import AutoGuidanceConfig, Guidances
from diffgen.config.process import noise_path
from diffgen.config.source import Source, resolve
from diffgen.errors import UserError


def guidance_problems(guidance: Guidances, source: Source, prefix: str = "") -> Iterator[str]:
    """Complaints about ``guidance`` of the model ``source``.

    ``prefix``: of the section that ``guidance`` is in.
    """
    wrong = list(guidance.problems())
    channels = guidance.channels
    if channels is not None and channels > source.in_channels:
        wrong.append(f"guidance.channels: {channels}, but the model has {source.in_channels}")
    if isinstance(guidance, AutoGuidanceConfig) and not wrong:
        wrong += _guide_problems(guidance, source)
    for problem in wrong:
        yield problem.replace("guidance.", f"{prefix}guidance.")


def _guide_problems(guidance: AutoGuidanceConfig, source: Source) -> Iterator[str]:
    field = "guidance.guide"
    try:
        guide = source if guidance.guide is None else resolve(guidance.guide, field)
    except UserError as error:
        yield str(error)
        return
    for what, own, other in (
        ("classes", source.num_classes, guide.num_classes),
        ("channels", source.in_channels, guide.in_channels),
        ("latents", source.latent, guide.latent),
        ("noising process", noise_path(source.process), noise_path(guide.process)),
    ):
        if own != other:
            yield f"{field}: {what} of {guidance.guide}: {other}, of the model: {own}"
    if guidance.rebuilt and not any((guide.run or guide.pipeline).glob("snapshots/*.safetensors")):
        name = guidance.guide or source.run or source.pipeline
        yield f"{field}: {name} holds no snapshots/ to rebuild the guide from; give a run folder"
