"""How far a student has come: its one-step images beside the teacher's, at each checkpoint."""

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from diffgen.commands.nitro.distillation import Distillation
from diffgen.commands.nitro.sheet import pictures
from diffgen.errors import UserError
from diffgen.files import write_file
from diffgen.metrics.extractor import Extractor, load_extractor
from diffgen.metrics.frechet import frechet_distance
from diffgen.nitro.diversity import diversity
from diffgen.nitro.pairs import Pairs
from diffgen.pipeline import DiffGenPipeline
from diffgen.seeding import stream_seed

BATCH = 100


@dataclass(frozen=True)
class Score:
    """What a line of scores.jsonl says of a student."""

    images: int
    """Images seen."""
    fid: dict[int, float]
    """Fréchet distance to the teacher's images, by the number of steps."""
    diversity: float
    """Variance within a class of the one-step images, as a share of the teacher's."""

    def line(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "images": self.images,
            "fid_to_teacher": {str(steps): round(fid, 4) for steps, fid in self.fid.items()},
            "diversity": round(self.diversity, 4),
        }


@dataclass(frozen=True)
class Examples:
    """The teacher's images that students are compared with, and how both are seen."""

    distilling: Distillation
    extractor: Extractor
    x0: Tensor
    labels: Tensor
    features: Tensor

    @classmethod
    def of(cls, distilling: Distillation, extractor: Extractor, pairs: Pairs) -> "Examples":
        """The first pairs, as many as are scored."""
        x0, labels = pairs.first(distilling.config.score.count)
        seen = (pictures(distilling, distilling.pipe, part) for part in x0.split(BATCH))
        features = torch.cat([extractor(part).cpu() for part in seen])
        return cls(distilling, extractor, x0, labels, features)

    def score(self, pipe: DiffGenPipeline, images: int) -> Score:
        """Draw as many images, of noise that no pair has, in every number of steps, and compare."""
        found = {}
        for steps in sorted(self.distilling.config.counts, reverse=True):
            x0, features = self._drawn(pipe, steps)
            found[steps] = frechet_distance(self.features, features)
        return Score(images, found, diversity(x0, self.x0, self.labels))  # of one step, the last

    def _drawn(self, pipe: DiffGenPipeline, steps: int) -> tuple[Tensor, Tensor]:
        """x0 of images drawn in ``steps``, and what is seen in them."""
        seed = stream_seed(self.distilling.config.seed, "score", 0) % 2**62
        drawn, features = [], []
        for numbers in torch.arange(len(self.x0)).split(BATCH):
            x0 = pipe(
                class_labels=self.labels[numbers],
                num_inference_steps=steps,
                seed=seed,
                image_numbers=numbers.tolist(),
                output_type="latent",
            ).images
            drawn.append(x0.cpu())
            features.append(self.extractor(pictures(self.distilling, pipe, x0)).cpu())
        return torch.cat(drawn), torch.cat(features)


def extractor_of(distilling: Distillation) -> Extractor:
    """The network that scores.

    Raises:
        UserError: it cannot be loaded.
    """
    named = distilling.config.score.extractor
    return load_extractor(
        named.name, named.weights, distilling.device, named.resize, named.image_size
    )


class Scores:
    """``scores.jsonl`` of a student's folder."""

    def __init__(self, student: Path) -> None:
        self.file = student / "scores.jsonl"

    def all(self) -> list[dict[str, Any]]:
        """The lines.

        Raises:
            UserError: one is damaged.
        """
        text = self.file.read_text("utf-8") if self.file.exists() else ""
        try:
            return [json.loads(line) for line in text.splitlines()]
        except json.JSONDecodeError as error:
            raise UserError(f"out: {self.file} is damaged ({error}); mend or remove it") from None

    def cut(self, seen: int) -> None:
        """Drop the lines beyond ``seen`` images."""
        self._write([line for line in self.all() if line["images"] <= seen])

    def add(self, line: dict[str, Any]) -> None:
        """Put a line behind the others."""
        self._write([*self.all(), line])

    def best(self) -> dict[str, Any] | None:
        """The line of the lowest distance, on average over the numbers of steps."""
        return min(self.all(), key=distance, default=None)

    def _write(self, lines: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(line) + "\n" for line in lines)
        write_file(self.file, lambda path: path.write_text(text, encoding="utf-8"))


def distance(line: dict[str, Any]) -> float:
    """Mean distance of a line of scores."""
    return fmean(line["fid_to_teacher"].values())
