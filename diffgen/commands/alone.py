"""Commands of several trainings, one after the other, run in a single process."""

from diffgen.errors import UserError
from diffgen.group import Group


def refuse_company(group: Group) -> None:
    """Every training ends the connections of its processes, so there is no second one.

    Raises:
        UserError: there are several processes.
    """
    with group.together():
        if group.world > 1:
            raise UserError(
                f"there are {group.world} processes, but the trainings run one after the other in "
                "one; start it with plain python"
            )
