"""Whether a distillation fits its teacher and its folder, found out without torch."""

from collections.abc import Iterator
from pathlib import Path

from diffgen.config.guide import guidance_problems
from diffgen.config.nitro_stages import MOST_TAPS, HeadsConfig, PairsConfig, ScoreConfig
from diffgen.config.process import DDPMConfig, solver_problems
from diffgen.config.source import Source, position_problems
from diffgen.config.stored import read_json
from diffgen.config.train import unwritable

PAIRS, ORIGIN = Path("pairs/pairs.json"), Path("origin.json")
"""What a student's folder tells of its pairs, and of its teacher."""


def place_problems(out: Path) -> Iterator[str]:
    """The complaint about a folder that holds a model, but no student; or cannot be written."""
    model = (out / "pipeline").exists() or (out / "model_index.json").exists()
    if model and not any((out / own).exists() for own in (PAIRS, ORIGIN)):
        yield f"out: {out} is the folder of a model; a student needs one of its own"
    yield from unwritable("out", out)


def pair_problems(pairs: PairsConfig, source: Source) -> Iterator[str]:
    """Complaints about how the teacher is drawn."""
    for problem in position_problems(source, pairs):
        yield f"pairs.{problem}"
    if pairs.scheduler in ("ddpm", "lcm"):
        quiet = [one for one in source.process.schedulers if one not in ("ddpm", "lcm")]
        yield (
            f"pairs.scheduler: {pairs.scheduler} adds noise on the way, but images must "
            f"follow from the noise they begin with; use {', '.join(quiet)}"
        )
    else:
        for problem in solver_problems(
            "pairs.", pairs.scheduler, pairs.steps, pairs.time_shift, source.process
        ):
            yield problem.replace(", lcm", "").replace(", ddpm", "")
    for problem in guidance_problems(pairs, source, []):
        yield f"pairs.{problem}"


def count_problems(pairs: PairsConfig, score: ScoreConfig, source: Source) -> Iterator[str]:
    """Complaints about numbers of images that leave a class without a variance."""
    least = 2 * source.num_classes
    for field, count in (("pairs.count", pairs.count), ("score.count", score.count)):
        if count < least:
            yield (
                f"{field}: {count}, but the variance within each of {source.num_classes} classes "
                f"takes two images of it; give {least} or more"
            )


def head_problems(heads: HeadsConfig, source: Source) -> Iterator[str]:
    """Complaints about levels and numbers of heads."""
    file = source.pipeline / "transformer" / "config.json"
    model = read_json(file, "source", f"{file} is missing")
    depth = int(model["num_layers" if source.diffusers else "depth"])
    levels = len(heads.levels) if heads.by_level else 1
    types = 1 + heads.local + (heads.local and heads.unconditional and source.num_classes > 0)
    taps = min(MOST_TAPS, 2 * depth)
    cells = levels * types * taps
    if heads.pool < cells * heads.share:
        yield (
            f"heads.pool: {heads.pool} heads cannot give {heads.share} to each of {cells} "
            f"compartments ({levels} levels, {types} types, {taps} taps); give "
            f"{cells * heads.share} or more"
        )
    if len(set(heads.levels)) < len(heads.levels):
        yield f"heads.levels: {', '.join(map(str, heads.levels))} names one twice"
    if isinstance(source.process, DDPMConfig):
        least, lowest = 1 / source.process.num_train_timesteps, min(heads.levels)
        if lowest < least:
            yield f"heads.levels: {lowest} lies below the first step of the process, {least}"
