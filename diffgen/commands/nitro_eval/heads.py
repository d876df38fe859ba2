"""The heads of the rows: what of heads.* the name of a row changes."""

from typing import Any, get_args

from diffgen.config.nitro import HeadsConfig
from diffgen.config.nitro_eval import RowName
from diffgen.config.source import Source
from diffgen.config.stored import read_json
from diffgen.nitro.features import spread_taps
from diffgen.nitro.pool import head_types

LOSSES: tuple[str, ...] = get_args(HeadsConfig.model_fields["loss"].annotation)
ALIKE: tuple[RowName, ...] = ("regression", "student", "pool", "regression_longer")
"""Rows with the heads of the options."""
REFRESHED: dict[RowName, float] = {"refresh_0": 0.0, "refresh_1": 0.01, "refresh_5": 0.05}


def heads_of(heads: HeadsConfig, name: RowName, source: Source) -> dict[str, Any]:
    """The options of heads.* that make the row ``name``; what it does not change is left out."""
    if name in LOSSES:
        return {"loss": name}
    if name in REFRESHED:
        return {"refresh": REFRESHED[name]}
    if name == "fixed":
        cells = types(heads, source) * len(spread_taps(depth(source)))
        return {"pool": cells, "by_level": False, "share": 1, "refresh": 0.0}
    if name == "no_local":
        return fewer(heads, source, local=False, unconditional=False)
    if name == "no_unconditional":
        return fewer(heads, source, unconditional=False)
    return {}


def is_pool(heads: HeadsConfig, name: RowName, source: Source) -> bool:
    """Whether the heads of a row of another name would be those of the row pool."""
    if name in ALIKE:
        return False
    changed = heads.model_copy(update=heads_of(heads, name, source))
    untold = heads.unconditional and source.num_classes > 0  # without classes there are no others
    return changed == heads or (name == "no_unconditional" and not untold)


def fewer(heads: HeadsConfig, source: Source, **changes: bool) -> dict[str, Any]:
    """With fewer types of heads, and as many of each compartment as before."""
    left = heads.model_copy(update=changes)
    return {**changes, "pool": heads.pool * types(left, source) // types(heads, source)}


def types(heads: HeadsConfig, source: Source) -> int:
    """Types of heads in use."""
    return len(head_types(heads.local, heads.unconditional and source.num_classes > 0))


def depth(source: Source) -> int:
    """Blocks of the teacher."""
    file = source.pipeline / "transformer" / "config.json"
    settings = read_json(file, "source", f"{file} is missing")
    return int(settings["num_layers" if source.diffusers else "depth"])
