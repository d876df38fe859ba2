"""What commands that write a claim share: where it was measured, and what measures it again."""

import platform
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from diffgen.evidence.document import Values


def machine(**more: Any) -> dict[str, Any]:
    """This one, for ``Evidence.machine``."""
    import torch  # to read and check evidence needs none

    return {
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        **more,
    }


def command_line(
    words: Sequence[str], settings: Mapping[str, Any], defaults: Mapping[str, Any]
) -> str:
    """``words``, then an option for every setting that is no default, by dotted names."""
    found = list(words)
    for name, value in settings.items():
        if value == defaults.get(name) or value in (None, []):
            continue
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            found.append(f"--{'' if value else 'no-'}{flag}")
        else:
            values = value if isinstance(value, list) else [value]
            found += [f"--{flag}", ",".join(str(portable(one)) for one in values)]
    return shlex.join(found)


def portable(value: Any) -> Any:
    """A setting; of a path of this machine the last part alone."""
    path = PurePath(value) if isinstance(value, str) else PurePath()
    return path.name if path.is_absolute() else value


def paired(
    name: str,
    figure: str,
    direction: Any,
    sides: tuple[Sequence[float], Sequence[float]],
    role: Any = "decisive",
    unit: str = "seed",
) -> Values:
    """Value i of both sides belong together; to a millionth, so that the file can be read."""
    this, other = (rounded(side) for side in sides)
    return Values(
        name=name,
        figure=figure,
        direction=direction,
        role=role,
        unit=unit,
        kind="paired",
        this=this,
        other=other,
    )


def rounded(values: Sequence[float]) -> list[float]:
    """To a millionth."""
    return [round(value, 6) for value in values]
