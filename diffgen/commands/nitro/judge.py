"""Checkpoints of a student, scored as they come; the best is what its folder's pipeline holds."""

from typing import Any

from diffgen.commands.nitro.distillation import Distillation
from diffgen.commands.nitro.scores import Examples, Scores, distance
from diffgen.errors import UserError
from diffgen.metrics.extractor import Extractor
from diffgen.models.dit import DiT
from diffgen.nitro.pairs import Pairs
from diffgen.nitro.pool import Pool
from diffgen.training.checkpoint import TrainingState
from diffgen.training.loop import crossed


class Judge:
    """Scores checkpoints and keeps the best student as the folder's pipeline."""

    def __init__(
        self,
        distilling: Distillation,
        extractor: Extractor,
        pairs: Pairs,
        averaged: DiT,
        pool: Pool,
    ) -> None:
        self.distilling, self.averaged, self.pool = distilling, averaged, pool
        self.scores = Scores(distilling.folder.path)
        self.extractor, self.pairs = extractor, pairs
        self._examples: Examples | None = None

    def begin(self, state: TrainingState) -> None:
        """Make the scores those of the checkpoint that is gone on from."""
        self.scores.cut(state.seen)
        lines, loop = self.scores.all(), self.distilling.config.train
        regular = crossed(state.seen, loop.batch_size, loop.checkpoint_images)
        due = regular or state.seen == 0 or state.seen >= loop.images  # not where a signal asked
        if due and (not lines or lines[-1]["images"] < state.seen):  # a kill came before its score
            self.judge(state)
        elif lines:
            self.check(lines[-1])

    def judge(self, state: TrainingState) -> None:
        """Score the averaged weights, and export them if they are the best so far.

        Raises:
            UserError: the student has collapsed.
        """
        distilling, config = self.distilling, self.distilling.config
        if self._examples is None:
            self._examples = Examples.of(distilling, self.extractor, self.pairs)
        pipe = distilling.pipeline(self.averaged, state.ema.preview.weights, config.counts)
        line = {**self._examples.score(pipe, state.seen).line(), **self.heads()}
        before = self.scores.best()
        if before is None or distance(line) < distance(before):
            distilling.save(pipe, distilling.folder.pipeline)
        self.scores.add(line)  # last: what is not in here is judged again
        self.check(line)

    def check(self, line: dict[str, Any]) -> None:
        """Raise UserError if a student of this score is of no use any more."""
        least = self.distilling.config.score.collapse
        now, first = line["diversity"], self.scores.all()[0]["diversity"]
        if least and not least * first <= now <= max(first, 1) / least:
            raise UserError(collapsed(line, self.scores.best() or line))

    def heads(self) -> dict[str, Any]:
        """Ages of the heads [iterations], and how often they were trained."""
        ages, steps = self.pool.ages.double(), self.pool.steps.double()
        return {
            "head_age": {"mean": round(float(ages.mean()), 2), "most": int(ages.max())},
            "head_steps": {"mean": round(float(steps.mean()), 2), "most": int(steps.max())},
        }


def collapsed(line: dict[str, Any], best: dict[str, Any]) -> str:
    """What to say of a student that draws too much alike, or anything."""
    return (
        f"the student has collapsed before {line['images']:,} images: its images vary within a "
        f"class {line['diversity']:.2f} times as much as the teacher's; pipeline/ holds the best, "
        f"of {best['images']:,} images; lower --optimizer rates or --heads.lr in a new --out, with "
        "--reuse of this one"
    )
