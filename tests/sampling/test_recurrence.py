"""Steps that are walked again, by fresh noise between."""

import pytest
import torch

from diffgen.guidance import Constraint
from diffgen.lacon.conditions import MASK
from diffgen.lacon.losses import Aligned
from diffgen.sampling.late import renoised
from diffgen.seeding import step_generators
from tests.aligners import wish
from tests.late import LABELS, RULES, SOLVERS, X_T, late, pipe_of
from tests.tiny import build, draw

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


class TestRecurrence:
    @pytest.mark.parametrize(
        ("now", "earlier"),
        [
            ((0.4, 0.6), (0.5, 0.5)),
            ((0.01, 0.99), (0.9, 0.1)),
            ((0.6, 0.8), (0.8, 0.6)),
            ((0.3, 0.7), (1.0, 0.0)),
        ],
    )
    def test_the_noise_is_that_of_the_level_again(self, now, earlier):
        """Of unit normal data, with the true x0: alpha x0 + sigma eps, eps apart from x0."""
        generator = torch.Generator().manual_seed(0)
        x0, eps, fresh_noise = torch.randn(3, 1, 1, 400, 500, generator=generator)
        found = renoised(now[0] * x0 + now[1] * eps, x0, fresh_noise, now, earlier)
        again = (found - now[0] * x0) / now[1]
        assert float(again.square().mean()) == pytest.approx(1, abs=0.01)
        assert float((again * x0).mean()) == pytest.approx(0, abs=0.01)
        kept = now[0] / earlier[0] * earlier[1] / now[1]
        assert float((again * eps).mean()) == pytest.approx(kept, abs=0.01)

    def test_from_the_picture_itself_the_noise_is_all_new(self):
        noise = torch.randn(X_T.shape, generator=torch.Generator().manual_seed(1))
        found = renoised(X_T, 2 * X_T, noise, (0.3, 0.7), (1.0, 0.0))
        torch.testing.assert_close(found, 0.6 * X_T + 0.7 * noise)

    def test_of_pure_noise_it_leaves_nothing_and_is_finite(self):
        noise = torch.randn(X_T.shape, generator=torch.Generator().manual_seed(1))
        assert torch.equal(renoised(X_T, X_T + 1, noise, (0.0, 1.0), (0.1, 0.9)), noise)

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_once_is_the_plain_walk_and_twice_another(self, solver):
        pipe = pipe_of(solver)
        options = {"constraints": [Constraint(wish(pipe, MASK), 0.3)]}
        plain = draw(pipe, **options)
        assert torch.equal(draw(pipe, recurrence=1, **options), plain)
        twice = draw(pipe, recurrence=2, **options)
        assert twice.isfinite().all()
        assert not torch.allclose(twice, plain, atol=1e-2)
        assert torch.equal(draw(pipe, recurrence=2, **options), twice)

    @torch.no_grad()
    def test_an_image_has_its_own_noise_in_any_batch(self):
        pipe = build()
        loss = wish(pipe, MASK, image_std=0.3)
        results = []
        for which in (slice(0, 3), slice(1, 2)):
            mine = Aligned(loss.aligner, MASK, loss.wanted[which])
            _, constrained = late(pipe, Constraint(mine, 1.0), labels=LABELS[which])
            numbers = [4, 5, 6][which]
            generators = step_generators(1, numbers)
            results.append(constrained.again(X_T[which], 0.7, 0.6, generators))
        torch.testing.assert_close(results[1], results[0][1:2], rtol=0, atol=1e-4)

    @torch.no_grad()
    def test_without_effect_no_noise_is_drawn(self):
        pipe = build()
        _, constrained = late(pipe, Constraint(wish(pipe, MASK), 0.3, until=0.5))
        generator = torch.Generator().manual_seed(0)
        state = generator.get_state()
        for t in (1.0, 0.5, 0.2):
            assert constrained.again(X_T, t, t / 2, generator) is X_T
        assert torch.equal(generator.get_state(), state)
        assert not torch.equal(constrained.again(X_T, 0.7, 0.6, generator), X_T)

    @torch.no_grad()
    def test_guidance_keeps_the_momentum_its_step_began_with(self):
        pipe = build()
        _, constrained = late(pipe, Constraint(wish(pipe, MASK), 0.3), rule=RULES[1])
        constrained(X_T, 0.8, True)
        run = constrained.base.run
        state = (run.before, run.now)
        constrained.again(X_T, 0.7, 0.6, None)
        assert (run.before, run.now) == state
        constrained(X_T, 0.7, True)
        assert run.before is state[1]

    @pytest.mark.parametrize(
        ("solver", "expected"),
        [
            ("euler", [1.0, 0.75, 0.75, 0.75, 0.5, 0.25]),
            ("heun", [1.0, 0.75, 0.75, 0.75, 0.75, 0.5, 0.5, 0.25, 0.25]),
        ],
    )
    def test_a_step_is_walked_so_often_where_a_constraint_acts(self, solver, expected):
        """Of four not those from pure noise and below the end; Heun's second stages but once."""
        pipe, times = build(solver), []
        pipe.transformer.t_embedder.register_forward_pre_hook(
            lambda _, args: times.append(float(args[0][0]) / 1000)
        )
        constraint = Constraint(wish(pipe, MASK), 0.3, until=0.5)
        draw(pipe, guidance_scale=1.0, constraints=[constraint], recurrence=3)
        assert times == expected

    @pytest.mark.parametrize("wrong", [0, -1])
    def test_less_than_once_is_refused(self, wrong):
        with pytest.raises(ValueError, match="recurrence must be 1 or more"):
            draw(build(), recurrence=wrong)
