"""Conditions by name, and a user's own: what they must be and must find."""

import pytest
import torch

from diffgen.errors import UserError
from diffgen.lacon.conditions import CONDITIONS, EDGE_F1, Condition
from diffgen.lacon.named import condition_named


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.name)
def test_those_of_diffgen(condition):
    assert condition_named(condition.name) is condition


def test_a_users_own(monkeypatch, tmp_path):
    text = (
        "from diffgen.lacon.conditions import EDGE_F1, Condition\n"
        "SKETCH = Condition('sketch', 1, True, lambda x: x[:, :1] * 0, EDGE_F1)\nother = 3\n"
    )
    (tmp_path / "my_conditions.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    found = condition_named("my_conditions:SKETCH")
    assert (found.name, found.channels) == ("sketch", 1)
    with pytest.raises(UserError, match="mask: my_conditions:other is a int, no Condition"):
        condition_named("my_conditions:other", "mask")
    with pytest.raises(UserError, match=r"my_conditions:absent: .*no attribute 'absent'"):
        condition_named("my_conditions:absent")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("edges", "'edges' is unknown; known are edge, mask, stroke, palette, depth, or give"),
        ("", "'' is unknown; known are edge"),
        ("no_such_module:EDGE", "no_such_module:EDGE: No module named 'no_such_module'"),
        (":x", ":x: ValueError: Empty module name"),
        (".a:x", ".a:x: TypeError: the 'package' argument is required"),
        ("broken:X", r"broken:X: SyntaxError: .*\(broken.py, line 1\)$"),
        ("wide:X", "wide:X: ValueError: channels of wide must be 1 or 3, not 2$"),
        ("twin:EDGE", "twin:EDGE is called 'edge', as one of diffgen's is; give it a name of its"),
    ],
)
def test_one_that_cannot_be_had_is_named(name, reason, monkeypatch, tmp_path):
    start = "from diffgen.lacon.conditions import EDGE_F1, Condition\n"
    (tmp_path / "broken.py").write_text("X = (\n")
    (tmp_path / "wide.py").write_text(f"{start}X = Condition('wide', 2, True, None, EDGE_F1)\n")
    (tmp_path / "twin.py").write_text(f"{start}EDGE = Condition('edge', 1, True, None, EDGE_F1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=f"condition: {reason}"):
        condition_named(name)


class TestAUsersOwn:
    @pytest.mark.parametrize(
        ("find", "came"),
        [
            (lambda x: x[:, 0], r"\(2, 8, 8\) of torch.float32"),
            (lambda x: x, r"\(2, 3, 8, 8\) of torch.float32"),
            (lambda x: x[:, :1] > 0, r"\(2, 1, 8, 8\) of torch.bool"),
            (lambda x: x[:, :1].numpy(), "a ndarray"),
            (lambda x: x[:, :1] - 0.01, "values from -0.01 to -0.01"),
            (lambda x: x[:, :1] + 1.01, "values from 1.01 to 1.01"),
            (lambda x: x[:, :1] / 0, "values from nan to nan"),
        ],
    )
    def test_what_is_no_such_map_is_refused(self, find, came):
        due = r"bright is to be found as maps \(2, 1, 8, 8\) of floating point in \[0, 1\]"
        with pytest.raises(UserError, match=f"condition: {due}, but there came {came}"):
            Condition("bright", 1, True, find, EDGE_F1).of(torch.zeros(2, 3, 8, 8))

    def test_rounding_is_none_and_other_maps_reach_down_to_minus_1(self):
        signed = Condition("red", 1, False, lambda x: x[:, :1], EDGE_F1)
        black = torch.full((2, 3, 8, 8), -1.0)
        assert signed.of(1.0005 * black).min() < -1
        with pytest.raises(UserError, match=r"in \[-1, 1\], but there came values from -1.1 to"):
            signed.of(1.1 * black)

    @pytest.mark.parametrize("name", ["", "my sketch", "a/b", "module:X", "..", "sketch\n"])
    def test_a_name_that_is_no_folders_is_refused(self, name):
        with pytest.raises(ValueError, match="must consist of letters, digits, _ and -"):
            Condition(name, 1, True, None, EDGE_F1)

    def test_maps_are_grey_or_coloured(self):
        with pytest.raises(ValueError, match="channels of x-1 must be 1 or 3, not 2"):
            Condition("x-1", 2, True, None, EDGE_F1)
