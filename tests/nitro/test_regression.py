"""The first stage: x0 from the teacher's noise, and from the teacher's image at later times."""

import pytest
import torch

from diffgen.commands.begin_training import open_accelerator
from diffgen.config.nitro_stages import RegressionLoopConfig
from diffgen.errors import UserError
from diffgen.nitro.objective import Regression
from tests.nitro.made import batch, calls, student_of, teacher

NUMBERS = range(12)


def test_a_batch_is_left_as_it_came():
    own = teacher()
    given = batch(NUMBERS)
    before = {name: value.clone() for name, value in given.items()}
    regression = Regression(calls(own), 0.5, [0.5], torch.device("cpu"))
    assert torch.isfinite(regression(student_of(own), given))
    assert all(torch.equal(value, before[name]) for name, value in given.items())


def test_the_share_of_later_times_is_told_those_times_and_the_others_one():
    own, told = teacher(), []
    model = student_of(own)
    model.t_embedder.register_forward_pre_hook(lambda _, args: told.extend(args[0].tolist()))
    Regression(calls(own), 0.5, [0.75, 0.25], torch.device("cpu"))(model, batch(range(400)))
    counts = [told.count(1000 * t) for t in (1.0, 0.75, 0.25)]
    assert sum(counts) == 400
    assert abs(counts[0] - 200) < 40  # deviation 10
    assert abs(counts[1] - counts[2]) < 40


def test_a_batch_that_cannot_be_shared_is_called_by_its_stage(tmp_path):
    loop = RegressionLoopConfig(batch_size=3, accumulation=2)
    with pytest.raises(UserError, match=r"^regression\.train\.batch_size: 3 images cannot"):
        open_accelerator(loop, "cpu", tmp_path, field="regression.train")
