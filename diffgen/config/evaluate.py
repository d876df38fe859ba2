"""The configuration of ``eval/evaluate.py``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_settings import CliPositionalArg
from typing_extensions import Self

from diffgen.config.base import Size
from diffgen.config.data import image_files
from diffgen.config.ema import Width
from diffgen.config.ema_after import average_problems
from diffgen.config.guidance import CFGConfig
from diffgen.config.guide import drawing_problems
from diffgen.config.npz import inspect_npz
from diffgen.config.pictures import is_image_folder, is_npz, own_size, sample_folders
from diffgen.config.reference_files import file_size_problems, statistics_problems
from diffgen.config.sampling import Device, Dtype, SamplingConfig, device_problems
from diffgen.config.scoring import ScoringConfig
from diffgen.config.source import resolve, size_problems, vae_problems
from diffgen.config.train import unwritable
from diffgen.errors import UserError

DRAWN = ("shapes", "digits")


def _distinct(widths: list[float]) -> list[float]:
    named = [f"{width:g}" for width in widths]
    if len(set(named)) < len(named):
        raise ValueError("must name every width once")
    return widths


Widths = Annotated[list[Width], Field(min_length=1), AfterValidator(_distinct)]


class EvaluateConfig(SamplingConfig, ScoringConfig):
    """Score a model, a folder of images or an .npz against held-out real images."""

    source: CliPositionalArg[str]
    """Run folder, pipeline folder or hub id of a model, a folder of images, or an .npz of them."""
    vae: str | None = None
    """Folder or hub id of the VAE that decodes a model of latents; none: the one it comes with."""
    ema: Widths | None = None
    """Widths of averages, separated by commas, that are scored one after the other: each is rebuilt
    from the snapshots of the run SOURCE, at the newest [0.01 to 0.25]; none: the model's own
    weights."""
    size: Size | None = None
    """HEIGHTxWIDTH everything is drawn at, or cropped to where a picture differs [pixels]; none:
    as the source is, and a reference of another size is refused."""
    on_error: Literal["raise", "skip"] = "raise"
    """A damaged file in a folder of images stops the evaluation, or is named, counted and left
    out."""
    seed: int = Field(default=0, ge=0)
    """Seed of the drawn images' noise."""
    device: Device = "auto"
    """Where to compute; auto: a GPU if there is one."""
    dtype: Dtype = "fp32"
    """Arithmetic of the model; bf16 needs a GPU. The extractor is always fp32."""
    out: Path | None = None
    """JSON file for the figures and settings; none: beside the source, evaluation-*.json."""
    report: Path | None = None
    """Page of the figures and settings with pictures (.html), or of their tables alone (.md); none:
    neither is written."""
    save: Path | None = None
    """Folder that keeps the images drawn from a model, as PNGs, a sub-folder a class; none: no
    image touches the disk."""

    def problems(self) -> Iterator[str]:
        """Yield mistakes that show only beside the model's and the reference's files."""
        wrong = [*self._source_problems(), *self._reference_problems()]
        yield from wrong
        if not wrong:  # only now sizes can be compared
            try:
                size = self.picture_size()
                if is_npz(self.reference):
                    found = inspect_npz(Path(self.reference), "reference")
                    yield from file_size_problems(self.reference, found, size)
            except UserError as error:
                yield str(error)
        yield from self.scoring_problems()
        yield from self._save_problems()
        yield from device_problems(self.device, "dtype", self.dtype == "bf16")
        if self.out is not None and self.out.is_dir():
            yield f"out: {self.out} is a folder; name a JSON file, for example {self.out}/eval.json"
        else:
            yield from unwritable("out", (self.out or self.target("")).parent)
        yield from self._report_problems()

    def settled(self) -> Self:
        """With what a distilled model draws with where nothing was given.

        Raises:
            UserError: there is no such model, or what was given does not fit it.
        """
        if is_npz(self.source) or is_image_folder(self.source):
            return self
        return self.for_distilled(resolve(self.source).distilled)

    def each(self) -> list[Self]:
        """An evaluation a width of ``ema``, each with files of its own; without any, this one."""
        if self.ema is None or len(self.ema) == 1:
            return [self]
        return [self._of_width(width) for width in self.ema]

    def _of_width(self, width: float) -> Self:
        name = f"ema-{width:g}"
        files = {"out": self.out, "report": self.report}
        own = {key: file and file.with_stem(f"{file.stem}-{name}") for key, file in files.items()}
        folder = self.save and self.save / name
        return self.model_copy(update={"ema": [width], "save": folder, **own})

    def _save_problems(self) -> Iterator[str]:
        """Yield a folder for drawn images that is not writable, or where none are drawn."""
        if self.save is None:
            return
        if is_npz(self.source) or is_image_folder(self.source):
            yield f"save: {self.source} holds pictures already; leave save out"
        yield from unwritable("save", self.save)

    def picture_size(self) -> str:
        """HEIGHTxWIDTH everything is drawn, read or cropped at.

        Raises:
            UserError: no size is given, and the source's and the reference's pictures differ.
        """
        if self.size is not None:
            return self.size
        skip = self.on_error == "skip"
        if is_npz(self.source) or is_image_folder(self.source):
            size = own_size(self.source, "source", skip)
        else:
            size = "{}x{}".format(*resolve(self.source).sample_size)
        drawn = self.reference in DRAWN
        other = None if drawn else own_size(self.reference, "reference", skip)
        if size is None:
            raise UserError(f"source: {self.source} holds no image that can be read")
        if other not in (None, size):
            if is_npz(self.reference):
                found = inspect_npz(Path(self.reference), "reference")
                for problem in file_size_problems(self.reference, found, size):
                    raise UserError(problem)
            raise UserError(
                f"size: {self.source} is {size}, but {self.reference} is {other}; "
                f"--size {size} crops the pictures to one size"
            )
        return size

    def target(self, size: str) -> Path:
        """The JSON file: ``out``, or evaluation-*.json beside the source, or here for a hub id.

        That of other settings may have the same name; see ``commands.saved_scores``.
        """
        if self.out is not None:
            return self.out
        place = Path(self.source)
        folder = place if place.is_dir() else place.parent if is_npz(self.source) else Path()
        if place.name == "pipeline" and (place.parent / "config.yaml").exists():
            folder = place.parent  # of a run, which replaces its pipeline as a whole
        parts = ["evaluation", place.stem if is_npz(self.source) else ""]
        parts += [Path(self.reference).name.removesuffix(".npz"), size]
        parts += [self.extractor if self.extractor != "reader" else ""]
        parts += [f"ema-{width:g}" for width in self.ema or ()]
        return folder / f"{'-'.join(part for part in parts if part)}.json"

    def _report_problems(self) -> Iterator[str]:
        if self.report is None:
            return
        if self.report.suffix not in (".html", ".md"):
            yield f"report: {self.report} must end in .html (a page with pictures) or .md (tables)"
        elif self.report.is_dir():
            yield f"report: {self.report} is a folder; name a file, {self.report}/report.html"
        elif self.out is not None and self.report.absolute() == self.out.absolute():
            yield f"report: {self.report} is the file of out too; give each its own"
        else:
            yield from unwritable("report", self.report.parent)

    def _source_problems(self) -> Iterator[str]:
        place = Path(self.source)
        pictures = is_npz(self.source) or is_image_folder(self.source)
        if pictures and self.guidance != CFGConfig():
            yield f"guidance.kind: {place} holds pictures, which are drawn already"
        if pictures and self.ema is not None:
            yield f"ema: {place} holds pictures, not a run with snapshots; leave ema out"
        try:
            if is_npz(self.source):
                if not inspect_npz(place, "source").count:
                    yield f"source: {place} holds no images (arr_0), only statistics"
            elif place.is_file():
                yield f"source: {place} is a file; give a model, a folder of images or an .npz"
            elif (place / "settings.json").exists() and sample_folders(place):
                yield (
                    f"source: {place} is a folder of samples of several sizes with their sheets; "
                    f"give one of them: {', '.join(map(str, sample_folders(place)))}"
                )
            elif not is_image_folder(self.source):
                source = resolve(self.source)
                if self.ema is not None:
                    yield from average_problems(place, "source")
                yield from vae_problems(source, self.source, self.vae)
                sizes = [] if self.size is None else [self.size]
                yield from drawing_problems(self, source, sizes)
                if self.size is not None:
                    yield from size_problems("size", [self.size], source)
        except UserError as error:
            yield str(error)

    def _reference_problems(self) -> Iterator[str]:
        place = Path(self.reference)
        if is_npz(self.reference):
            try:
                found = inspect_npz(place, "reference")
            except UserError as error:
                yield str(error)
                return
            yield from statistics_problems(self.reference, found, self)
        elif self.reference not in DRAWN:
            if not place.is_dir():
                yield (
                    f"reference: {self.reference} is neither shapes, digits nor a folder "
                    "or .npz of images"
                )
            elif next(image_files(place), None) is None:
                yield f"reference: {self.reference} holds no images"
