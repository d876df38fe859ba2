"""Conditions by name, a user's own among them."""

import pytest

from diffgen.errors import UserError
from diffgen.lacon.conditions import CONDITIONS
from diffgen.lacon.named import condition_named, folder_name


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
    ],
)
def test_an_unknown_one_is_named(name, reason):
    with pytest.raises(UserError, match=f"condition: {reason}"):
        condition_named(name)


def test_folders_hold_no_colon():
    assert folder_name("edge") == "edge"
    assert folder_name("my.conditions:SKETCH/2") == "my.conditions.SKETCH.2"
