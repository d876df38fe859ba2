"""Whether a model can be guided as asked, found out without torch."""

from collections.abc import Iterator, Sequence

from diffgen.config.base import Size
from diffgen.config.guidance import AutoGuidanceConfig, CFGZeroStarConfig
from diffgen.config.process import noise_path, solver_problems
from diffgen.config.sampling import SamplingConfig
from diffgen.config.source import Source, position_problems, resolve, size_problems
from diffgen.errors import UserError

FIELD = "guidance.guide"


def drawing_problems(
    config: SamplingConfig, source: Source, sizes: Sequence[Size]
) -> Iterator[str]:
    """Complaints about how the model ``source`` is drawn at ``sizes`` (or as trained)."""
    yield from position_problems(source, config)
    wrong = list(config.distilled_problems(source.distilled))
    yield from wrong
    if not wrong:
        own = config.for_distilled(source.distilled)
        yield from solver_problems("", own.scheduler, own.steps, own.time_shift, source.process)
        yield from guidance_problems(own, source, sizes)


def guidance_problems(
    config: SamplingConfig, source: Source, sizes: Sequence[Size]
) -> Iterator[str]:
    """Complaints about the guidance of the model ``source``, drawn at ``sizes`` (or as trained)."""
    guidance = config.guidance
    wrong = list(guidance.problems())
    yield from wrong
    if guidance.channels is not None and guidance.channels > source.in_channels:
        yield f"guidance.channels: {guidance.channels}, but the model has {source.in_channels}"
    if source.num_classes == 0 and guidance.wants_classes:
        yield f"guidance.kind: the model knows no classes, so {guidance.kind} changes nothing"
    if isinstance(guidance, CFGZeroStarConfig) and guidance.zero_above and config.steps == 1:
        yield "guidance.zero_above: with one step, cfg_zero_star would leave the noise; give 0"
    if isinstance(guidance, AutoGuidanceConfig) and not wrong:
        try:
            guide = source if guidance.guide is None else resolve(guidance.guide, FIELD)
        except UserError as error:
            yield str(error)
            return
        if guidance.guide is not None:
            yield from _misfits(guide, source, config, sizes)
        if guidance.rebuilt:
            yield from _snapshot_problems(guidance, guide)


def _misfits(
    guide: Source, source: Source, config: SamplingConfig, sizes: Sequence[Size]
) -> Iterator[str]:
    """What keeps ``guide`` from standing beside ``source``."""
    if guide.distilled is not None:
        yield (
            f"{FIELD}: it is distilled: its predictions have its teacher's guidance built in, and "
            "are meant for few noise levels; give an ordinary model"
        )
    for what, own, other in (
        ("number of classes", source.num_classes, guide.num_classes),
        ("channels", source.in_channels, guide.in_channels),
        ("latents", source.latent, guide.latent),
        ("noising process", noise_path(source.process), noise_path(guide.process)),
    ):
        if own != other:
            yield f"{FIELD}: its {what}: {other}, the model's: {own}"
    names, others = source.class_names, guide.class_names
    if names and others and names != others:
        yield f"{FIELD}: its classes: {', '.join(others)}, the model's: {', '.join(names)}"
    trained = "{}x{}".format(*source.sample_size)
    for problem in size_problems("size", list(sizes) or [trained], guide):
        yield f"{FIELD}: {problem}"
    for problem in position_problems(guide, config):
        yield f"{FIELD}: {problem}"


def _snapshot_problems(guidance: AutoGuidanceConfig, guide: Source) -> Iterator[str]:
    place = guide.run or guide.pipeline
    stems = (file.stem for file in place.glob("snapshots/*.safetensors"))
    seen = sorted(int(stem) for stem in stems if stem.isdigit())
    if not seen:
        yield f"{FIELD}: {place} holds no snapshots/ to rebuild the guide from; give a run folder"
    elif guidance.guide_images is not None and guidance.guide_images < seen[0]:
        yield f"{FIELD}_images: the first snapshot of {place} was stored after {seen[0]} images"
