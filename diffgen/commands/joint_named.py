"""Conditions of a user's own in a joint drawing: from MODULE:NAME to the names they have."""

from diffgen.config.joint_given import IMAGE, parted
from diffgen.config.joint_sample import JointSampleConfig
from diffgen.errors import UserError
from diffgen.joint.pairs import OUTLINE
from diffgen.lacon.conditions import Condition
from diffgen.lacon.named import condition_named


def own_conditions(config: JointSampleConfig) -> dict[str, Condition]:
    """The condition of each MODULE:NAME in ``config``.

    Raises:
        UserError: there is none, or it is called like another or like something of diffgen's.
    """
    given, found = dict(parted(config.given)), dict[str, Condition]()
    names = config.conditions()
    taken = {name: name for name in names if ":" not in name}
    for asked in [name for name in names if ":" in name]:
        field = "given" if asked in given else "want"
        condition = condition_named(asked, field)
        name = condition.name
        if name == IMAGE or (name == OUTLINE.name and condition is not OUTLINE):
            raise UserError(
                f"{field}: {asked} is called {name!r}, which means something else here; give it a "
                "name of its own"
            )
        if name in taken:
            raise UserError(
                f"{field}: {asked} and {taken[name]} are both called {name!r}; name one of them"
            )
        taken[name] = asked
        found[asked] = condition
    return found


def renamed(config: JointSampleConfig, own: dict[str, Condition]) -> JointSampleConfig:
    """``config`` with the names of the conditions ``own`` in place of MODULE:NAME."""
    names = {asked: condition.name for asked, condition in own.items()}

    def pairs(texts: list[str]) -> list[str]:
        return [f"{names.get(name, name)}={path}" for name, path in parted(texts)]

    return config.model_copy(
        update={
            "given": pairs(config.given),
            "known": pairs(config.known),
            "want": [names.get(name, name) for name in config.want],
        }
    )
