"""The joint loop: against the plain one, and what is given, known, rough or left noisy."""

from dataclasses import dataclass, field

import pytest
import torch

from diffgen.config.process import DDPMConfig, FlowConfig
from diffgen.guidance import CFG
from diffgen.joint.course import DRAWN, GIVEN, Course
from diffgen.joint.denoise import JointDenoiser
from diffgen.joint.walk import Branch, first_time, walk_jointly
from diffgen.processes import build_process
from diffgen.sampling.guided import Denoiser
from diffgen.sampling.schedulers import build_scheduler, set_steps, step_times
from diffgen.sampling.walk import walk
from diffgen.seeding import step_generators
from tests.adapters import adapter_of
from tests.tiny import build

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CHAIN = DDPMConfig(num_train_timesteps=40)
LEARNED = DDPMConfig(num_train_timesteps=40, learned_variance=True)
SOLVERS = {
    "flow euler": (FlowConfig(), "euler"),
    "flow dpmpp": (FlowConfig(), "dpmpp"),
    "ddpm ddim": (CHAIN, "ddim"),
    "ddpm ddpm": (CHAIN, "ddpm"),
    "ddpm dpmpp": (CHAIN, "dpmpp"),
    "learned ddpm": (LEARNED, "ddpm"),
    "learned ddim": (LEARNED, "ddim"),
}
FEW = ["flow euler", "flow dpmpp", "ddpm ddim", "ddpm ddpm"]
B, NULL, STEPS = 3, 3, 4
LABELS = torch.arange(B)


@dataclass
class Noting(JointDenoiser):
    """One that notes what it is asked."""

    states: list = field(default_factory=list)
    times: list = field(default_factory=list)
    earlier: list = field(default_factory=list)
    moving: list = field(default_factory=list)

    def __call__(self, states, t, s, moving):
        self.states.append([state.clone() for state in states])
        self.times.append(t)
        self.earlier.append(s)
        self.moving.append(moving)
        return super().__call__(states, t, s, moving)


def made(name: str, steps: int = STEPS, *, drawn: bool = True, parts: int = 2, **options):
    """A model with ``parts - 1`` adapters, each branch under guidance, and a scheduler."""
    process, solver = SOLVERS[name]
    chain = isinstance(process, DDPMConfig)
    model = build(
        prediction="v" if chain else "velocity",
        out_channels=6 if process.learned_variance else None,
        position={"kind": "rope"},
    ).transformer
    scheduler = build_scheduler(solver, process=process)
    set_steps(scheduler, steps, "cpu")
    denoiser = Denoiser(model, build_process(process, model.convention, model.config.prediction))
    adapters = [adapter_of(model, drawn, seed=seed, **options) for seed in range(parts - 1)]
    weights, runs = [1.0] * (parts - 1), [CFG(2.0)] * parts
    return Noting(denoiser, adapters, weights, runs, LABELS, NULL), scheduler


def normal(seed: int, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(B, channels, 8, 8, generator=generator)


def branch(course: Course = DRAWN, seed: int = 0, **options) -> Branch:
    """With a picture where it needs one, and noise on the way from generators of its own."""
    if course.start > 0:
        options = {"picture": normal(seed + 100).clamp(-1, 1), **options}
    return Branch(normal(seed), course, generator=step_generators(seed, [0, 1, 2]), **options)


def plain(denoise, scheduler, steps: int = STEPS, seed: int = 0):
    """The walk of the frozen model alone, from the noise of ``branch(seed=seed)``."""
    set_steps(scheduler, steps, "cpu")
    generators = step_generators(seed, [0, 1, 2])
    return walk(
        *(denoise.denoiser, scheduler, CFG(2.0), normal(seed), LABELS, NULL),
        generator=generators,
    )


@pytest.mark.parametrize("other", [GIVEN, DRAWN, Course(0.5, 1), Course(0, 0)], ids=str)
@pytest.mark.parametrize("name", SOLVERS)
def test_beside_a_fresh_adapter_images_are_walked_as_by_the_model_alone(name, other):
    denoise, scheduler = made(name, drawn=False)
    images, _ = walk_jointly(denoise, scheduler, [branch(), branch(other, 1)])
    torch.testing.assert_close(images, plain(denoise, scheduler), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", SOLVERS)
def test_what_is_given_comes_back_bit_for_bit_and_is_told_to_be_clean(name):
    denoise, scheduler = made(name)
    drawn, given = walk_jointly(denoise, scheduler, [branch(), branch(GIVEN, 1)])
    picture = branch(GIVEN, 1).picture
    assert torch.equal(given, picture)
    assert all(torch.equal(state[1], picture) for state in denoise.states)
    assert [t[0] for t in denoise.times] == step_times(scheduler)
    assert {t[1] for t in denoise.times} == {first_time(denoise.denoiser.process)}
    assert [t[0] for t in denoise.times[1:]] == [s[0] for s in denoise.earlier[:-1]]
    assert denoise.moving == [[True, False]] * STEPS
    assert not torch.allclose(drawn, plain(denoise, scheduler), atol=1e-2)


def test_a_clean_picture_s_time_is_0_of_a_flow_and_the_first_step_of_a_chain():
    assert first_time(made("flow euler")[0].denoiser.process) == 0
    process = made("ddpm ddim")[0].denoiser.process
    assert first_time(process) == 1 / 40
    assert process.own_time(torch.tensor(first_time(process))) == 0


@pytest.mark.parametrize("name", FEW)
def test_the_other_way_round_the_condition_is_drawn_from_the_image(name):
    denoise, scheduler = made(name)
    images, condition = walk_jointly(denoise, scheduler, [branch(GIVEN), branch(seed=1)])
    assert torch.equal(images, branch(GIVEN).picture)
    assert denoise.moving == [[False, True]] * STEPS
    other = branch(GIVEN, picture=-images)
    _, unlike = walk_jointly(denoise, scheduler, [other, branch(seed=1)])
    assert not torch.allclose(condition, unlike, atol=1e-2)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_rough_picture_starts_at_its_noise_level(name):
    denoise, scheduler = made(name, steps=10)
    rough = branch(Course(0.3, 1), 1)
    walk_jointly(denoise, scheduler, [branch(), rough])
    t = step_times(scheduler)[3]
    expected = denoise.denoiser.process.add_noise(rough.picture, rough.noise, torch.full((B,), t))
    assert t == pytest.approx(0.7, abs=0.02)
    assert denoise.times[0][1] == t
    assert torch.equal(denoise.states[0][1], expected)
    assert len(denoise.times) == 10
    assert sum(moves for _, moves in denoise.moving) == 7


@pytest.mark.parametrize(
    ("name", "atol"),
    [("flow euler", 1e-4), ("ddpm ddim", 1e-4), ("flow dpmpp", 0.1), ("ddpm dpmpp", 0.1)],
)
def test_a_branch_that_starts_on_the_way_goes_on_as_one_that_came_from_noise(name, atol):
    """Given the picture and noise that make its state half-way; dpmpp forgets its last step."""
    denoise, scheduler = made(name, steps=8, drawn=False)
    if name.startswith("flow"):  # steps of one length would hide at which of them it is
        set_steps(scheduler, 8, "cpu", shift=3.0)
    whole, _ = walk_jointly(denoise, scheduler, [branch(), branch(GIVEN, 1)])
    alpha, sigma = denoise.denoiser.levels(step_times(scheduler)[4])
    state = denoise.states[4][0]
    rest = Branch(normal(5), Course(0.5, 1), picture=(state - sigma * normal(5)) / alpha)
    found, _ = walk_jointly(denoise, scheduler, [rest, branch(GIVEN, 1)])
    torch.testing.assert_close(found, whole, rtol=0, atol=atol)
    assert not torch.allclose(found, state, atol=0.3)


@pytest.mark.parametrize("name", FEW)
def test_resting_between_its_steps_does_not_change_a_branch(name):
    """Of a fresh adapter: the slower branch as if it had walked alone, step after step."""
    denoise, scheduler = made(name, drawn=False, steps=8)
    slow = Course(0.5, 1)
    _, beside = walk_jointly(denoise, scheduler, [branch(), branch(slow, 1)])
    alone, _ = walk_jointly(denoise, scheduler, [branch(slow, 1), branch(GIVEN, 2)])
    torch.testing.assert_close(beside, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", FEW)
def test_a_branch_that_ends_early_stays_as_noisy_as_it_is_there(name):
    denoise, scheduler = made(name, drawn=False)
    walk_jointly(denoise, scheduler, [branch(), branch(GIVEN, 1)])
    on_the_way = denoise.states[2][0]
    early, finished = walk_jointly(denoise, scheduler, [branch(Course(0, 0.5)), branch(seed=1)])
    torch.testing.assert_close(early, on_the_way, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(early, plain(denoise, scheduler), atol=0.1)
    torch.testing.assert_close(finished, plain(denoise, scheduler, seed=1), rtol=1e-4, atol=1e-4)


def test_nothing_moves_where_all_is_given():
    denoise, scheduler = made("flow euler")
    ticks, ways = [], [branch(GIVEN), branch(Course(0, 0), 1)]
    given, noise = walk_jointly(denoise, scheduler, ways, lambda: ticks.append(1))
    assert torch.equal(given, ways[0].picture)
    assert torch.equal(noise, ways[1].noise)
    assert not ticks


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("part", [0, 1], ids=["image", "condition"])
def test_what_is_known_is_kept_exactly_and_the_rest_is_drawn(name, part):
    """On the way it has the noise level of its branch."""
    known = torch.zeros(B, 1, 8, 8)
    known[..., :5] = 1
    picture = normal(7).clamp(-1, 1)
    denoise, scheduler = made(name)
    branches = [branch(), branch(seed=1)]
    branches[part] = branch(seed=part, picture=picture, known=known)
    drawn = walk_jointly(denoise, scheduler, branches)[part]
    assert torch.equal(drawn[..., :5], picture[..., :5])
    assert not torch.allclose(drawn[..., 5:], picture[..., 5:], atol=0.1)
    process, noise = denoise.denoiser.process, branches[part].noise
    for states, t in zip(denoise.states, denoise.times, strict=True):
        expected = process.add_noise(picture, noise, torch.full((B,), t[part]))
        assert torch.equal(states[part][..., :5], expected[..., :5])


@pytest.mark.parametrize("name", FEW)
def test_the_order_of_pairs_does_not_matter(name):
    denoise, scheduler = made(name, projection="shared")
    found = walk_jointly(denoise, scheduler, [branch(), branch(seed=1)])
    order = [2, 0, 1]
    branches = [
        Branch(normal(seed)[order], generator=step_generators(seed, order)) for seed in (0, 1)
    ]
    denoise.labels = LABELS[order]
    permuted = walk_jointly(denoise, scheduler, branches)
    for one, other in zip(found, permuted, strict=True):
        torch.testing.assert_close(one[order], other, rtol=1e-4, atol=1e-4)


def test_several_conditions_each_go_their_own_way():
    denoise, scheduler = made("flow dpmpp", parts=4)
    ways = [branch(), branch(GIVEN, 1), branch(Course(0.5, 1), 2), branch(Course(0, 0.5), 3)]
    found = walk_jointly(denoise, scheduler, ways)
    assert len(found) == 4
    assert torch.equal(found[1], ways[1].picture)
    assert denoise.moving == [
        [True, False, False, False],
        [True, False, True, True],
        [True, False, False, False],
        [True, False, True, True],
    ]


@pytest.mark.parametrize(("other", "ticks"), [(GIVEN, 4), (DRAWN, 4), (Course(0.25, 1), 4)])
def test_on_step_follows_every_evaluation(other, ticks):
    denoise, scheduler = made("flow euler")
    seen = []
    walk_jointly(
        denoise, scheduler, [branch(), branch(other, 1)], lambda: seen.append(len(denoise.times))
    )
    assert seen == list(range(1, ticks + 1))
    seen.clear()
    denoise.times.clear()
    ways = [branch(Course(0.5, 1)), branch(other, 1)]
    walk_jointly(denoise, scheduler, ways, lambda: seen.append(len(denoise.times)))
    assert len(seen) == {GIVEN: 2, DRAWN: 4, Course(0.25, 1): 3}[other]


@pytest.mark.parametrize("name", FEW)
def test_the_scheduler_is_left_as_it_was(name):
    denoise, scheduler = made(name)
    found = walk_jointly(denoise, scheduler, [branch(), branch(seed=1)])
    again = walk_jointly(denoise, scheduler, [branch(), branch(seed=1)])
    assert all(torch.equal(one, other) for one, other in zip(found, again, strict=True))
    assert not any(one.requires_grad for one in found)


def test_a_solver_that_evaluates_a_step_twice_is_refused():
    denoise, _ = made("flow euler")
    heun = build_scheduler("heun")
    set_steps(heun, STEPS, "cpu")
    with pytest.raises(ValueError, match="scheduler: heun evaluates a step twice"):
        walk_jointly(denoise, heun, [branch(), branch(seed=1)])


@pytest.mark.parametrize(
    "options", [{"course": GIVEN}, {"course": Course(0.3, 1)}, {"known": torch.ones(B, 1, 8, 8)}]
)
def test_what_does_not_start_at_noise_needs_a_picture(options):
    with pytest.raises(ValueError, match="needs a picture"):
        Branch(normal(0), **options)
