"""Which settings a distilled model brings itself, and which it keeps of those that are given."""

import pytest

from diffgen.config.distilled import Distilled
from diffgen.config.guidance import CFGConfig
from diffgen.config.sampling import SamplingConfig
from diffgen.errors import UserError

FEW = Distilled(steps=(4, 2, 1, 2))


def test_its_steps_are_told_once_each_and_in_order():
    assert FEW.steps == (1, 2, 4)
    assert FEW.fewest == 1
    assert FEW.in_words == "1, 2 or 4"
    assert Distilled(steps=(1,)).in_words == "1"


def test_what_is_not_given_is_the_models_own():
    found = SamplingConfig(batch_size=7).for_distilled(FEW)
    assert (found.scheduler, found.steps, found.guidance) == ("lcm", 1, CFGConfig(scale=1.0))
    assert found.batch_size == 7
    assert SamplingConfig(steps=2).for_distilled(FEW).steps == 2


def test_settled_settings_may_be_settled_again_and_read_from_a_file():
    found = SamplingConfig(steps=4).for_distilled(FEW)
    assert found.for_distilled(FEW) == found
    stored = SamplingConfig.model_validate(found.model_dump(mode="json"))
    assert stored.for_distilled(FEW) == found


def test_an_ordinary_models_settings_stay():
    config = SamplingConfig(steps=3)
    assert config.for_distilled(None) is config


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"scheduler": "dpmpp"}, "scheduler: dpmpp, but the model is distilled"),
        ({"steps": 3}, "steps: 3, but the model is distilled to 1, 2 or 4 steps"),
        ({"guidance": {"scale": 2.0}}, "guidance: cfg 2, but the model is distilled"),
        ({"guidance_scale": 4.0}, "guidance: cfg 4, but the model is distilled"),
        ({"guidance": {"scale": 1.0, "rescale": 0.5}}, "guidance: cfg 1, rescale 0.5, but"),
        ({"time_shift": "sqrt"}, "time_shift: sqrt, but the model is distilled"),
    ],
)
def test_what_is_given_and_does_not_fit_is_refused_even_where_it_is_the_default(given, said):
    with pytest.raises(UserError, match=said):
        SamplingConfig.model_validate(given).for_distilled(FEW)
