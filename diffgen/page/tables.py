"""An evaluation as tables of words, for HTML and Markdown alike."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffgen.config.guidance import described, read_guidance
from diffgen.metrics.shown import NAMES, shown
from diffgen.page.words import flat, told

Content = Mapping[str, Any]
"""What the JSON of an evaluation holds."""
REAL = "real against real"
MANY = 50
"""Of more classes the table tells the least and the most images alone."""
DAMAGED = {"images": "damaged images left out", "reference": "damaged real images left out"}


@dataclass(frozen=True)
class Table:
    """Rows of words under a title."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Network:
    """What one network's features gave."""

    title: str
    figures: Table
    facts: Table
    missing: tuple[tuple[str, str], ...]
    """Figures that are not available, and why."""
    notes: tuple[str, ...]
    infinity: Mapping[str, Any] | None
    """``value``, ``interval`` and ``line`` of the extrapolated FID; None: there is none."""


def title(content: Content) -> str:
    """What was scored."""
    source = content["settings"]["source"]
    return f"{Path(source).name or source} at {content['size']}"


def against(content: Content) -> str:
    """A sentence: how many images against what."""
    counts, reference = content["counts"], content["settings"]["reference"]
    real = f"{counts['reference']} real ones of " if counts["reference"] else "the statistics in "
    profile = f", profile {content['profile']}" if content["profile"] else ""
    return f"{counts['images']} images against {real}{reference}{profile}."


def networks(content: Content) -> list[Network]:
    """Every network, that of the headline first."""
    return [_network(one) for one in (content, *content["further"])]


def _network(one: Content) -> Network:
    scores, intervals, facts = one["scores"], one["intervals"], one["extractor"]
    floor = one["floor"] or {"scores": {}, "intervals": {}}
    rows = [
        (NAMES[name], _shown(name, scores, intervals), _shown(name, **floor))
        for name in NAMES
        if scores[name] is not None
    ]
    line, name = one["fid_line"], "fid_infinity"
    found = line and {"value": scores[name], "interval": intervals[name], "line": line}
    return Network(
        facts["title"],
        Table(f"By {facts['title']}", ("figure", "images", REAL), tuple(rows)),
        Table(f"The network {facts['title']}", ("fact", "value"), (*_rows(facts), *_targets(one))),
        tuple((NAMES[name], reason) for name, reason in one["not_available"].items()),
        tuple(one["notes"]),
        found,
    )


def _targets(one: Content) -> Iterator[tuple[str, str]]:
    """What the Fréchet distance of each layer is to."""
    for layer, target in one["against"].items():
        digest = target["sha256"]
        what = f"statistics (sha256 {digest})" if digest else "the real images"
        count = "an unstated number of" if target["count"] is None else target["count"]
        yield f"distance of {layer} to", f"{what}, of {count} images"


def _shown(name: str, scores: Mapping[str, Any], intervals: Mapping[str, Any]) -> str:
    value = scores.get(name)
    return "-" if value is None else shown(name, value, intervals.get(name))


def colours(content: Content) -> Table:
    """The measures of colour, beside the reference's."""
    real = content["reference_colour"] or {}
    rows = [
        (name, _shown(name, content["scores"], content["intervals"]), _shown(name, real, {}))
        for name in content["scores"]
        if name not in NAMES
    ]
    return Table("Colour", ("figure", "images", "reference"), tuple(rows))


def decisive(content: Content) -> Iterator[Table]:
    """Everything that decides a figure, table by table."""
    settings, counts = content["settings"], content["counts"]
    what = {
        "profile": content["profile"],
        "source": content["places"]["source"],
        "weights of the model": content["weights"],
        "weights of its guide": content["guide_weights"],
        "guidance": described(read_guidance(settings)) if content["weights"] else None,
        "reference": content["places"]["reference"],
        "size (height x width)": content["size"],
        "images": counts["images"],
        "real images": counts["reference"],
        "real images for the floor": counts["floor"],
        "labels": content["labels"],
        "quantisation": content["quantisation"],
        **{words: content["left_out"][name] for name, words in DAMAGED.items()},
        "processes": content["processes"],
    }
    yield Table("What was compared", ("fact", "value"), _rows(what))
    yield Table(
        "Images of each class", ("class", "images", "reference", "floor"), _classes(content)
    )
    yield Table("Conventions", ("of", "convention"), _rows(content["conventions"]))
    yield from (network.facts for network in networks(content))
    if content["reference_file"]:
        yield Table("The reference file", ("fact", "value"), _rows(_file(content)))
    if content["reference_data"]:
        yield Table("Reference", ("field", "value"), _rows(content["reference_data"]))
    yield Table("Settings", ("field", "value"), _rows(settings))
    yield Table("Versions", ("package", "version"), _rows(content["versions"]))


def _file(content: Content) -> dict[str, Any]:
    """What a reference file says of itself, of its classes only how many there are."""
    header = dict(content["reference_file"])
    del header["schema"]
    return {**header, "class_names": len(header["class_names"])}


def _rows(values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((name, told(value)) for name, value in flat(values))


def _classes(content: Content) -> tuple[tuple[str, ...], ...]:
    """A row a class, or of many classes what each has."""
    counts = content["label_counts"]
    sets = [counts[name] or {} for name in ("images", "reference", "floor")]
    names = dict.fromkeys(name for one in sets for name in one)
    if len(names) > MANY:
        return ((f"all {len(names)}", *(_spread(one, len(names)) for one in sets)),)
    return tuple((name, *(told(one.get(name, 0)) for one in sets)) for name in names)


def _spread(counts: Mapping[str, int], classes: int) -> str:
    least = 0 if len(counts) < classes else min(counts.values())
    return f"{least} to {max(counts.values(), default=0)} each"
