"""The configuration of ``eval/nitro.py``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from diffgen.config.command_line import read_yaml
from diffgen.config.evaluate import DRAWN, EvaluateConfig
from diffgen.config.nitro import NitroConfig
from diffgen.config.places import run_folder
from diffgen.config.sampling import UNGUIDED, SamplingConfig
from diffgen.config.scoring import ScoringConfig
from diffgen.config.source import Source, resolve
from diffgen.config.train import unwritable
from diffgen.errors import UserError

Seed = Annotated[int, Field(ge=0, lt=2**32)]
RowName = Literal[
    "teacher",
    "plain",
    "regression",
    "student",
    "pool",
    "fixed",
    "refresh_0",
    "refresh_1",
    "refresh_5",
    "no_local",
    "no_unconditional",
    "linear",
    "hinge",
    "softplus",
    "regression_longer",
]
ROWS: tuple[RowName, ...] = get_args(RowName)
CLAIMED: tuple[RowName, ...] = ("teacher", "plain", "regression", "student")
"""Rows that the claim of --evidence rests on."""


class NitroEvalConfig(NitroConfig, ScoringConfig):
    """Score a distillation: the student against its teacher, and what every part of it is for.

    The options of train/nitro.py are those of every row, but for what its name says. The pairs and
    the regression are made once. Students and figures that are there already are kept: the same
    command goes on where it was stopped.
    """

    rows: list[RowName] = Field(default=list(ROWS))
    """Rows of the table, separated by commas. Without training: teacher, and plain, the teacher in
    1, 2 and 4 steps. regression: that stage alone. student: the whole training. All others
    are one-step students of ablation_images: pool, as the options say; fixed, one head for each
    type and tap, never begun anew; refresh_0, refresh_1 and refresh_5, heads begun anew with
    probability 0, 0.01 and 0.05; no_local; no_unconditional; linear, hinge and softplus, the
    adversarial loss; rows that would be as pool are left out. At last regression_longer: in place
    of their adversarial stage as many images more of the regression."""
    seeds: list[Seed] = Field(default=[0, 1, 2])
    """Seeds of the adversarial stage of student, pool, fixed, refresh_0 and refresh_1, separated by
    commas; all other students have the first one alone."""
    ablation_images: int = Field(default=12_800, ge=1)
    """Length of the adversarial stage of the other students [images seen]."""
    teacher_steps: int = Field(default=50, ge=1)
    """Steps of the row teacher [count]."""
    num_images: int = Field(default=2_000, ge=8)
    """Images drawn for a score, and real ones, as far as there are so many [count]."""
    reference: str = "auto"
    """Real images: shapes or digits (their held-out split), a folder, or an .npz of images or of
    statistics; auto: shapes or digits, where the teacher's run was trained on them."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the noise of the images that are scored: value i of every row, counted from 0, is
    drawn from seed + i."""
    out: Path = Path("nitro-eval")
    """Folder for nitro.json, table.md, rows.png, the cells, and a student's folder for every row
    and seed."""
    commands: bool = False
    """Print the commands of train/nitro.py that train the rows, which may run side by side, and
    stop: what they train is taken as it is."""
    evidence: Path | None = None
    """JSON file for the claim that one step comes close to the teacher, with its verdict, see
    docs/evidence.md; none: it is not written."""

    def problems(self) -> Iterator[str]:
        """Yield mistakes of the training, of the rows, of what is drawn, and on the disk."""
        for field in ("rows", "seeds"):
            given = getattr(self, field)
            if not given:
                yield f"{field}: give at least one"
            if len(set(given)) < len(given):
                yield f"{field}: {', '.join(map(str, given))} names one twice"
        yield from self._evidence_problems()
        wrong = list(super().problems())
        yield from wrong
        if wrong:
            return
        try:
            settled = self.settled(resolve(self.source))
            for steps in (self.teacher_steps, *self.counts):
                one = settled.of_teacher(steps, self.seed)
                wrong += one.model_copy(update={"out": self.out / "cells" / "a.json"}).problems()
        except UserError as error:
            wrong.append(str(error))
        yield from dict.fromkeys(wrong)

    def settled(self, source: Source) -> "NitroEvalConfig":
        """With what it leaves to the source.

        Raises:
            UserError: no reference is given, and the teacher's run names none.
        """
        reference = self.reference
        if reference == "auto":
            run = run_folder(source)
            trained = read_yaml(run / "config.yaml") if run else {}
            reference = trained.get("data", {}).get("kind")
            if reference not in DRAWN:
                raise UserError(
                    f"reference: {self.source} was not trained on shapes or digits, as far as "
                    "can be told; give a folder or .npz of real images"
                )
        shift = super().settled(source).timestep_shift
        return self.model_copy(update={"timestep_shift": shift, "reference": reference})

    def of_teacher(self, steps: int, noise: int) -> EvaluateConfig:
        """The evaluation of the teacher in so many steps, otherwise drawn as for the pairs.

        ``noise``: seed of the images' noise.
        """
        drawn = self.pairs.model_dump(include=set(SamplingConfig.model_fields) - {"steps"})
        return self._evaluation(self.source, self.vae, {**drawn, "steps": steps, "seed": noise})

    def of_student(self, pipeline: Path, steps: int, noise: int) -> EvaluateConfig:
        """The evaluation of a student in so many steps; ``noise``: seed of the images' noise."""
        sizes = self.pairs.model_dump(include={"batch_size", "decode_batch_size", "decode_tiled"})
        drawn = {"scheduler": "lcm", "guidance": UNGUIDED.model_dump(), **sizes}
        return self._evaluation(str(pipeline), None, {**drawn, "steps": steps, "seed": noise})

    def _evaluation(self, source: str, vae: str | None, drawn: dict[str, Any]) -> EvaluateConfig:
        shared = self.model_dump(include={*ScoringConfig.model_fields, "device"})
        return EvaluateConfig(**{**shared, **drawn, "source": source, "vae": vae})

    def _evidence_problems(self) -> Iterator[str]:
        """Yield why there can be no claim."""
        if self.evidence is None:
            return
        if self.evidence.is_dir():
            yield f"evidence: {self.evidence} is a folder; name a file, {self.evidence}/nitro.json"
        else:
            yield from unwritable("evidence", self.evidence.parent)
        missing = [name for name in CLAIMED if name not in self.rows]
        if missing:
            yield f"evidence: the claim needs the rows {', '.join(missing)} too; add them to rows"
        if self.steps != 4:
            yield f"evidence: the claim is about 1, 2 and 4 steps, but steps is {self.steps}"
