"""``diffgen ema``: the averaged weights of any width, rebuilt when the training is over."""

import hashlib
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from diffgen.commands.load import Loaded, load_pipeline
from diffgen.config.ema_after import FACTS, EMAAfterConfig, power_averages
from diffgen.errors import UserError
from diffgen.files import link_folder, locked, write_folder, write_json
from diffgen.pipeline import DiffGenPipeline
from diffgen.training.ema import put_weights
from diffgen.training.posthoc import (
    Profile,
    coefficients,
    expected_error,
    profiles,
    rebuild,
    snapshots_around,
    snapshots_in,
)


@dataclass(frozen=True)
class RebuiltAverage:
    """Which average of a run some weights are."""

    width: float
    images: int
    """Seen at its end."""
    snapshots: tuple[str, ...]
    """Files it is mixed from; one: it was tracked."""
    expected_error: float
    """See ``training.posthoc.expected_error``; 0: it was tracked."""

    def told(self) -> str:
        """In words."""
        at = f"width {self.width:g} at {self.images:,} images"
        if self.expected_error == 0:
            return f"{at}: tracked, taken from {self.snapshots[0]}"
        return (
            f"{at}: rebuilt from {len(self.snapshots)} snapshots, expected error "
            f"{self.expected_error:.2%} of its distance from the weights of that moment"
        )


def ema_after(config: EMAAfterConfig) -> None:
    """Rebuild an average and write it as the pipeline of a folder of its own.

    Raises:
        UserError: the run keeps none that it could be made of, or the folder cannot be written.
    """
    target = config.target()
    loaded = load_pipeline(config.run, "cpu")
    average = put_average(loaded.pipe, config.run, config.width, config.images, "width")
    with locked(target):
        write_folder(target / "pipeline", lambda folder: save(loaded, folder))
        facts = {"schema": "diffgen-average/1", "run": str(config.run.resolve()), **asdict(average)}
        write_json(target / FACTS, facts)
    print(f"{target}: {average.told()}")
    place = shlex.quote(str(target))
    print(f"draw with: diffgen sample {place}\nscore with: diffgen eval {place}")


def put_average(
    pipe: DiffGenPipeline, run: Path, width: float, images: int | None, field: str
) -> RebuiltAverage:
    """Give the model of ``pipe`` the averaged weights of the training in ``run``.

    Args:
        pipe: of that run.
        run: its folder.
        width: of the average.
        images: seen at its end; None: at the newest snapshot.
        field: the setting that asked.

    Raises:
        UserError: there are no or too few snapshots, or they are of another model.
    """
    ema, folder = power_averages(run, field), run / "snapshots"
    if images is None:
        newest = snapshots_in(folder)[-1:]
        images = int(newest[0].stem) if newest else 0
    files = snapshots_around(folder, images, "images" if field == "width" else field)
    wanted, stored = Profile(width, images), profiles(files, ema)
    put_in(pipe, rebuild(files, ema, wanted, field), folder, field)
    count = len(ema.widths)
    shares = coefficients(stored, wanted).reshape(-1, count)
    used = tuple(file.name for file, own in zip(files, shares, strict=True) if own.any())
    error = 0.0 if wanted in stored else expected_error(stored, wanted)
    return RebuiltAverage(width, images, used, error)


def put_in(
    pipe: DiffGenPipeline, weights: Mapping[str, Tensor], snapshots: Path, field: str
) -> None:
    """Give the model of ``pipe`` the ``weights`` out of the folder ``snapshots``.

    Raises:
        UserError: they are of another model; ``field`` names the setting that asked.
    """
    for name, parameter in pipe.transformer.named_parameters():
        if name not in weights or weights[name].shape != parameter.shape:
            raise UserError(f"{field}: {snapshots} is of another model: see {name}")
    put_weights(pipe.transformer, weights)


def average_digest(base: str, run: Path, average: RebuiltAverage) -> str:
    """Of everything that decides what a model draws whose weights are the ``average`` of ``run``.

    ``base``: digest of the files of its pipeline, its VAE among them.
    """
    digest = hashlib.sha256(f"{base} {average.width!r} {average.images}".encode())
    for name in average.snapshots:
        digest.update(name.encode())
        with (run / "snapshots" / name).open("rb") as file:
            while block := file.read(2**22):
                digest.update(block)
    return digest.hexdigest()


def save(loaded: Loaded, folder: Path) -> None:
    """Write the pipeline; the VAE, which is the run's, as links."""
    pipe = loaded.pipe
    pipe.transformer.save_pretrained(folder / "transformer")
    pipe.scheduler.save_pretrained(folder / "scheduler")
    if pipe.vae is not None:
        link_folder(loaded.source.pipeline / "vae", folder / "vae")
    pipe.save_config(folder)
