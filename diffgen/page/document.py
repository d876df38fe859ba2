"""The report as one HTML page that needs nothing beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from diffgen.page.pictures import Picture
from diffgen.page.plots import distance_plot
from diffgen.page.tables import Content, against, colours, decisive, networks, title


@dataclass(frozen=True)
class Grid:
    """Pictures of one set."""

    title: str
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Pair:
    """An image and the real one nearest to it."""

    image: Picture
    nearest: Picture
    distance: float
    second: float
    """To the second nearest."""


@dataclass(frozen=True)
class Nearest:
    """Images with their nearest real ones."""

    network: str
    """By whose features."""
    pairs: Sequence[Pair]


def document(content: Content, grids: Sequence[Grid], nearest: Nearest | None) -> str:
    """The page.

    Args:
        content: what the JSON holds.
        grids: pictures of each set.
        nearest: None: the reference holds no images.
    """
    found = networks(content)
    plots = {
        number: Markup(distance_plot(network.infinity, f"plot-{number}"))  # holds no word of a user
        for number, network in enumerate(found)
        if network.infinity
    }
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = resources.files("diffgen.page").joinpath("page.html").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        title=title(content),
        against=against(content),
        networks=found,
        plots=plots,
        colours=colours(content),
        grids=grids,
        nearest=nearest,
        decisive=list(decisive(content)),
        diffgen=content["versions"]["diffgen"],
    )
