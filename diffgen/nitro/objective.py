"""What the student minimises: its distance to the teacher's images, then the heads' verdict."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffgen.config.nitro_stages import AdversarialLoss
from diffgen.data.order import Sample
from diffgen.nitro.features import Backbone
from diffgen.nitro.heads import Heads
from diffgen.nitro.losses import critic_loss, r1_penalty, student_loss
from diffgen.nitro.pairs import PairSample
from diffgen.nitro.pool import HeadType, Pool
from diffgen.nitro.student import Student
from diffgen.nitro.turn import Turn, Turns
from diffgen.seeding import stream_generator


@dataclass(frozen=True)
class Regression:
    """Squared error of the one-step x0 to the teacher's, from the same noise and class.

    Of a ``later`` share of the samples, which meet one of the ``times`` between, the input is the
    teacher's image with fresh noise instead: what the teacher knew of those times stays alive for
    the courses of several steps.
    """

    student: Student
    later: float
    times: Sequence[float]
    device: torch.device

    def __call__(self, model: nn.Module, batch: Sample) -> Tensor:
        """Mean over the samples, 0-d fp32."""
        numbers = torch.as_tensor(batch["number"]).tolist()
        pair = cast(PairSample, batch)
        x0, noise = pair["image"].to(self.device), pair["noise"].to(self.device, copy=True)
        y = torch.as_tensor(batch["label"]).to(self.device)
        t = torch.ones(len(x0), device=self.device)
        for place, number in enumerate(numbers):
            generator = stream_generator(self.student.seed, "later", number)
            is_later, which = (torch.rand((), generator=generator).item() for _ in range(2))
            if self.times and is_later < self.later:
                t[place] = self.times[int(which * len(self.times))]
                noise[place] = torch.randn(noise.shape[1:], generator=generator).to(noise)
        x_t = torch.where(
            (t < 1).view(-1, 1, 1, 1), self.student.process.add_noise(x0, noise, t), noise
        )
        return F.mse_loss(self.student(model, x_t, t, y, self.student.seeds(numbers)), x0)


@dataclass
class Adversarial:
    """One iteration of NitroFusion: the student's loss, and the gradients of the drawn heads.

    Both come from one pass of the student and two of the teacher, as the heads are before the
    iteration: they are trained (``step``) when the student has been.
    """

    student: Student
    backbone: Backbone
    pool: Pool
    types: Sequence[HeadType]
    turns: Turns
    levels: Sequence[float]
    """Noise levels t* at which the heads look [diffgen's time]."""
    loss: AdversarialLoss
    r1: float
    """Weight of the gradient penalty of the heads; 0: none."""
    refresh: float
    """Probability that a head begins anew at an iteration."""
    batch_size: int
    null_label: int
    device: torch.device
    encode: Callable[[Tensor], Tensor] | None = None
    """Pictures (B, 3, H, W) of real data to what the model sees; None: they are that already."""
    labels: Tensor | None = None
    """(classes of real data,) int64, the model's label of each; None: they are the model's."""
    _tally: dict[str, list[Tensor]] = field(default_factory=dict, init=False)
    _sums: Heads = field(default_factory=dict, init=False)
    _rows: Tensor | None = field(default=None, init=False)
    _iteration: int = field(default=0, init=False)
    _samples: int = field(default=0, init=False)

    def __call__(self, model: nn.Module, batch: Sample) -> Tensor:
        """The student's loss, 0-d fp32; the heads' gradients are kept until ``step``."""
        numbers = torch.as_tensor(batch["number"]).tolist()
        turn = self.turn(numbers[0])
        real, noise, y = self._inputs(batch, numbers)
        x_t, t = self.student.arrive(model, noise, y, numbers, turn.steps, turn.call)
        seeds = self.student.seeds(numbers)
        fake = self.student(model, x_t, t, y, seeds)
        loss = self.judged(turn, real, fake, y, numbers, seeds)
        self._samples += len(numbers)
        self._iteration = numbers[0] // self.batch_size
        return loss

    def turn(self, number: int) -> Turn:
        """That of the iteration in which sample ``number`` is seen."""
        iteration = number // self.batch_size
        return self.turns.at(iteration, iteration * self.batch_size)

    def _inputs(self, batch: Sample, numbers: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Real images, the noise the student starts from, and classes."""
        real, y = batch["image"].to(self.device), torch.as_tensor(batch["label"])
        y = (y if self.labels is None else self.labels[y]).to(self.device)
        if "noise" in batch:
            return real, cast(PairSample, batch)["noise"].to(self.device), y
        with torch.autocast(self.device.type, enabled=False):  # a VAE computes in fp32
            real = real if self.encode is None else self.encode(real)
        return real, self._noise("start", numbers, real), y

    def _noise(self, stream: str, numbers: list[int], like: Tensor) -> Tensor:
        generators = [stream_generator(self.student.seed, stream, n) for n in numbers]
        return torch.stack([torch.randn(like.shape[1:], generator=g) for g in generators]).to(like)

    def judged(
        self,
        turn: Turn,
        real: Tensor,
        fake: Tensor,
        y: Tensor,
        numbers: list[int],
        seeds: list[int] | None,
    ) -> Tensor:
        """The student's loss for ``fake`` (B, C, h, w); adds the heads' gradients to the sums.

        Real and fake images get the same noise and the same crop.
        """
        process = self.student.process
        t = real.new_full((len(real),), self.levels[turn.level])
        eps = self._noise("renoise", numbers, real)
        noisy_real, noisy_fake = (process.add_noise(x0, eps, t) for x0 in (real, fake))
        losses = []
        gradients: list[Heads] = []
        for number, kind in enumerate(self.types):
            classes = y if kind.told else torch.full_like(y, self.null_label)
            box = turn.box if kind.local else None
            seen = self.backbone(noisy_fake, t, classes, box, seeds)
            with torch.no_grad():
                seen_real = self.backbone(noisy_real, t, classes, box, seeds)
            heads = self.pool.take(turn.heads[number].flatten().to(self.device))
            losses.append(self._of_student(heads, seen))
            gradients.append(self._of_heads(kind, heads, seen_real, seen.detach()))
        self._keep(turn, gradients, len(real))
        return torch.stack(losses).mean()

    def _of_student(self, heads: Heads, seen: Tensor) -> Tensor:
        fixed = {name: values.detach() for name, values in heads.items()}
        return student_loss(self.loss, self.pool.shape(fixed, seen))

    def _of_heads(self, kind: HeadType, heads: Heads, real: Tensor, fake: Tensor) -> Heads:
        """Gradients of each head's own loss, whatever the others are.

        Args:
            real, fake: features (taps, B, h, w, width).
        """
        if self.r1:  # a slope of each head alone needs features of its own
            share = len(heads["reduce"]) // len(real)
            real, fake = (seen.repeat_interleave(share, dim=0) for seen in (real, fake))
            real.requires_grad_()
        logits = self.pool.shape(heads, torch.cat([real, fake], dim=1))
        of_real, of_fake = logits.split([real.shape[1], fake.shape[1]], dim=1)
        loss = critic_loss(self.loss, of_real, of_fake)
        gap = of_real.mean() - of_fake.mean()
        for name, value in (("heads", loss), ("gap", gap)):
            self._tally.setdefault(f"{name} {kind.name}", []).append(value.detach())
        if self.r1:
            loss = loss + self.r1 / 2 * r1_penalty(of_real, real)
        found = torch.autograd.grad(loss * len(logits), list(heads.values()))
        return dict(zip(heads, found, strict=True))

    def _keep(self, turn: Turn, gradients: list[Heads], samples: int) -> None:
        self._rows = turn.heads.flatten().to(self.device)
        for name in gradients[0]:
            found = torch.cat([one[name] for one in gradients]) * samples
            self._sums[name] = self._sums[name] + found if name in self._sums else found

    def parts(self) -> dict[str, tuple[float, float]]:
        """Sums and counts since the last call, by type of head: its loss, and the gap between its
        mean logits of real and fake images."""
        taken, self._tally = self._tally, {}
        return {name: (float(torch.stack(v).double().sum()), len(v)) for name, v in taken.items()}

    def step(self, reduce: Callable[[Tensor], Tensor]) -> None:
        """Train the heads of the iteration, put them back, and begin some of the pool anew.

        ``reduce``: a tensor -> its mean over the processes.
        """
        assert self._rows is not None, "no iteration has been computed"
        means = {name: reduce(found / self._samples) for name, found in self._sums.items()}
        self.pool.step(self._rows, means)
        self.pool.refresh(self.refresh, self._iteration)
        self._sums, self._rows, self._samples = {}, None, 0
