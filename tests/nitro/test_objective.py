"""One iteration of NitroFusion: who gets which gradient, and from what."""

from typing import Any

import pytest
import torch

from diffgen.nitro.losses import critic_loss, r1_penalty
from diffgen.nitro.objective import Adversarial
from tests.nitro.made import BATCH, batch, objective, student_of, teacher

NUMBERS = range(BATCH)


def halves(numbers: range) -> list[range]:
    return [numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]]


def judged(made: Adversarial, real: torch.Tensor, fake: torch.Tensor, iteration: int = 0):
    """The student's loss for given images."""
    numbers = list(range(iteration * BATCH, (iteration + 1) * BATCH))
    y = torch.tensor(numbers) % 3
    made._samples += BATCH  # as a call counts them
    return made.judged(made.turn(numbers[0]), real, fake, y, numbers, None)


def head_gradients(made: Adversarial) -> dict[str, torch.Tensor]:
    """What the heads are trained on at the end of an iteration."""
    found: dict[str, torch.Tensor] = {}
    step = made.pool.step

    def noting(rows: torch.Tensor, gradients: dict[str, torch.Tensor]) -> None:
        found.update(gradients)
        step(rows, gradients)

    made.pool.step = noting
    made.step(lambda tensor: tensor)
    return found


def images(seed: int) -> torch.Tensor:
    return torch.randn(BATCH, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def entered(made: Adversarial) -> list[tuple[torch.Tensor, ...]]:
    """Filled with the tokens and the condition that enter the teacher's first block."""
    given: list[tuple[torch.Tensor, ...]] = []
    first = made.backbone.model.blocks[0]
    first.register_forward_pre_hook(lambda _, args: given.append(args[:2]))
    return given


class TestGradients:
    def test_the_teacher_gets_none_and_stays_while_student_and_heads_move(self):
        own = teacher()
        before = {name: w.clone() for name, w in own.state_dict().items()}
        model, made = student_of(own), objective(own)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        heads = made.pool.reduce.clone()
        for k in range(3):
            made(model, batch(range(k * BATCH, (k + 1) * BATCH))).backward()
            assert all(w.grad is None for w in own.parameters())
            dead = [name for name, w in model.named_parameters() if not w.grad.any()]
            assert dead == []
            optimizer.step()
            optimizer.zero_grad()
            made.step(lambda tensor: tensor)
        assert all(torch.equal(w, before[name]) for name, w in own.state_dict().items())
        moved = [name for name, w in model.state_dict().items() if (w != before[name]).any()]
        assert len(moved) == len(list(model.parameters()))
        assert int((made.pool.reduce != heads).flatten(1).any(dim=1).sum()) == int(
            (made.pool.steps > 0).sum()
        )

    @pytest.mark.parametrize("loss", ["linear", "hinge", "softplus"])
    def test_the_students_loss_has_the_slope_of_finite_differences(self, loss):
        """Along a direction of the fake images, through noise, crops and the frozen teacher."""
        made = objective(teacher(), loss=loss)
        real, fake = images(1), images(2).requires_grad_()
        (slope,) = torch.autograd.grad(judged(made, real, fake), fake)
        way, step = slope / slope.std(), 3e-3
        ends = [judged(made, real, (fake + s * step * way).detach()).item() for s in (1, -1)]
        found = (ends[0] - ends[1]) / (2 * step)
        assert found == pytest.approx((slope * way).sum().item(), rel=0.02)
        assert found > 1e-3

    def test_two_micro_batches_add_up_to_one_batch(self):
        own = teacher()
        model, whole, pieces = student_of(own), objective(own), objective(own)
        loss = whole(model, batch(NUMBERS))
        loss.backward()
        expected = {name: w.grad.clone() for name, w in model.named_parameters()}
        model.zero_grad()
        parts = [pieces(model, batch(half)) / 2 for half in halves(NUMBERS)]
        sum(parts).backward()
        assert sum(parts).item() == pytest.approx(loss.item(), rel=1e-5)
        for name, w in model.named_parameters():
            torch.testing.assert_close(w.grad, expected[name], rtol=1e-3, atol=1e-6)
        mine, theirs = head_gradients(pieces), head_gradients(whole)
        assert set(mine) == set(whole.pool.shape.names)
        for name, gradient in theirs.items():
            torch.testing.assert_close(mine[name], gradient, rtol=1e-3, atol=1e-6)
        assert torch.equal(whole.pool.steps, pieces.pool.steps)

    def test_each_heads_gradient_is_that_of_its_own_loss_whatever_the_others(self):
        """As if every drawn head of the global type were trained alone."""
        made = objective(teacher(), share=2)
        real, fake = images(1), images(2)
        turn = made.turn(0)
        rows = turn.heads[0].flatten()
        heads = made.pool.take(rows)
        judged(made, real, fake)
        t = torch.full((BATCH,), made.levels[turn.level])
        numbers = list(range(BATCH))
        noisy = [
            made.student.process.add_noise(x, made._noise("renoise", numbers, x), t)
            for x in (real, fake)
        ]
        y = torch.tensor(numbers) % 3
        with torch.no_grad():
            seen = [made.backbone(x, t, y, None, None) for x in noisy]
        found = head_gradients(made)
        for place in range(len(rows)):
            one = {name: values[place : place + 1] for name, values in heads.items()}
            logits = [made.pool.shape(one, x[place // 2][None]) for x in seen]
            alone = torch.autograd.grad(critic_loss("softplus", *logits), list(heads.values()))
            for name, gradient in zip(heads, alone, strict=True):
                torch.testing.assert_close(
                    found[name][place], gradient[place], rtol=1e-3, atol=1e-6
                )

    def test_heads_that_were_not_drawn_stay(self):
        own = teacher()
        made = objective(own)
        before = made.pool.reduce.clone()
        made(student_of(own), batch(NUMBERS))
        drawn = made.turn(0).heads.flatten()
        made.step(lambda tensor: tensor)
        changed = (made.pool.reduce != before).flatten(1).any(dim=1).nonzero()[:, 0]
        assert changed.tolist() == sorted(drawn.tolist())
        assert made.pool.steps.sum() == len(drawn)

    @pytest.mark.parametrize("share", [1, 2])
    def test_the_penalty_is_that_of_the_real_images(self, share):
        """R1 / 2 times the mean over them, added to the gradient of the loss itself."""
        real, fake, weight = images(1), images(2), 3.0
        plain, penalised = (objective(teacher(), r1=r1, share=share) for r1 in (0.0, weight))
        for made in (plain, penalised):
            judged(made, real, fake)
        without, found = head_gradients(plain), head_gradients(penalised)
        turn, shape = plain.turn(0), plain.pool.shape
        heads = objective(teacher()).pool.take(turn.heads[0].flatten())
        t, numbers = torch.full((BATCH,), plain.levels[turn.level]), list(range(BATCH))
        noise = plain._noise("renoise", numbers, real)
        noisy = plain.student.process.add_noise(real, noise, t)
        with torch.no_grad():
            seen = plain.backbone(noisy, t, torch.tensor(numbers) % 3, None, None)
        seen = seen.repeat_interleave(share, dim=0).requires_grad_()
        penalty = r1_penalty(shape(heads, seen), seen) * len(seen) * weight / 2
        (wanted,) = torch.autograd.grad(penalty, heads["reduce"])
        added = (found["reduce"] - without["reduce"])[: len(seen)]
        torch.testing.assert_close(added, wanted, rtol=1e-2, atol=1e-5)


class TestInputs:
    def test_equal_images_leave_the_heads_nothing_to_tell_apart(self):
        made = objective(teacher(), loss="linear")
        same = images(1)
        judged(made, same, same.clone())
        parts = made.parts()
        for kind in ("global", "local", "local_unconditional"):
            assert parts[f"gap {kind}"] == (0.0, 1)
            assert parts[f"heads {kind}"] == (0.0, 1)
        assert all(g.abs().max() < 1e-6 for g in head_gradients(made).values())

    def test_real_and_fake_change_places_with_the_sign(self):
        """Of the linear loss, which is odd in them: gaps, losses and the heads' gradients."""
        one, other = (objective(teacher(), loss="linear") for _ in range(2))
        judged(one, images(1), images(2))
        judged(other, images(2), images(1))
        mine, theirs = one.parts(), other.parts()
        assert len(mine) == 6
        for name, (total, count) in mine.items():
            assert theirs[name] == (pytest.approx(-total, rel=1e-4), count)
            assert total != 0
        swapped = head_gradients(other)
        for name, gradient in head_gradients(one).items():
            torch.testing.assert_close(gradient, -swapped[name], rtol=1e-4, atol=1e-6)

    def test_real_and_fake_images_get_the_same_noise_the_same_crop_and_the_same_class(self):
        """Equal images enter the teacher equal, for each type of heads; types differ."""
        made = objective(teacher())
        given = entered(made)
        judged(made, images(1), images(1))
        assert len(given) == 6
        for fake, real in zip(given[::2], given[1::2], strict=True):
            assert all(map(torch.equal, fake, real))
        (whole, told), (crop, as_told), (same, untold) = given[::2]
        assert [x.shape[1] for x in (whole, crop, same)] == [64, 16, 16]
        assert torch.equal(told, as_told)
        assert torch.equal(crop, same)
        assert not torch.allclose(told, untold, atol=1e-2)

    def test_the_crop_is_where_the_turn_says_whatever_the_pixels(self):
        """With the embedding of pixels cut off, what enters are the positions of the box."""
        own = teacher()
        own.x_embedder.proj.weight.zero_()
        made = objective(own)
        given = entered(made)
        judged(made, images(1), images(2))
        (whole, _), _, (fake, _), (real, _) = given[:4]
        box = made.turn(0).box
        grid = whole.unflatten(1, (8, 8))
        part = grid[:, box.top : box.top + box.rows, box.left : box.left + box.columns]
        assert torch.equal(fake, real)
        torch.testing.assert_close(fake, part.flatten(1, 2), rtol=0, atol=1e-6)

    def test_the_noise_level_is_the_turns(self):
        made = objective(teacher())
        told: list[float] = []
        embedder = made.backbone.model.t_embedder
        embedder.register_forward_pre_hook(lambda _, args: told.append(args[0][0].item() / 1000))
        for iteration in range(12):
            told.clear()
            judged(made, images(1), images(2), iteration)
            level = made.turn(iteration * BATCH).level
            assert told == pytest.approx([made.levels[level]] * 6)

    def test_only_the_last_call_of_a_course_learns(self):
        """In each course of two steps, the first call is made without gradients."""
        own = teacher()
        made, model = objective(own, courses=[(0, 2)]), student_of(own)
        wanted: list[bool] = []
        model.t_embedder.register_forward_pre_hook(
            lambda _, __: wanted.append(torch.is_grad_enabled())
        )
        seen = set()
        for iteration in range(8):
            wanted.clear()
            numbers = range(iteration * BATCH, (iteration + 1) * BATCH)
            made(model, batch(numbers)).backward()
            made.step(lambda tensor: tensor)
            call = made.turn(numbers[0]).call
            assert wanted == [False] * call + [True]
            seen.add(call)
        assert seen == {0, 1}

    def test_in_bf16_the_last_call_learns_too(self):
        """Weights cast for a call without gradients must not serve the one with them."""
        own = teacher()
        made, model = objective(own, courses=[(0, 2)]), student_of(own)
        later = next(k for k in range(20) if made.turn(k * BATCH).call == 1)
        with torch.autocast("cpu", torch.bfloat16):
            made(model, batch(range(later * BATCH, (later + 1) * BATCH))).backward()
        assert all(w.grad is not None and w.grad.any() for w in model.parameters())

    def test_all_samples_of_an_iteration_have_one_turn(self):
        made: Any = objective(teacher())
        for number in range(BATCH, 2 * BATCH):
            assert torch.equal(made.turn(number).heads, made.turn(BATCH).heads)
            assert made.turn(number).box == made.turn(BATCH).box

    def test_real_data_come_without_noise_which_is_drawn_by_number(self):
        own = teacher()
        made, model = objective(own), student_of(own)
        given = [batch(NUMBERS), *(batch(half) for half in halves(NUMBERS))]
        for one in given:
            del one["noise"]
        drawn = [made._inputs(one, one["number"].tolist())[1] for one in given]
        assert torch.equal(drawn[0], torch.cat(drawn[1:]))
        assert torch.isfinite(made(model, given[0]))

    def test_real_data_are_told_by_the_models_labels(self):
        made = objective(teacher(), labels=torch.tensor([2, 0, 1]))
        for one in (batch(NUMBERS), {k: v for k, v in batch(NUMBERS).items() if k != "noise"}):
            y = made._inputs(one, list(NUMBERS))[2]
            assert y.tolist() == [2, 0, 1, 2]
