"""Which statistics a reference file has for an evaluation, as far as its names tell."""

from collections.abc import Iterator

from diffgen.config.extractor import ExtractorConfig
from diffgen.config.networks import NetworksConfig
from diffgen.config.npz import INCEPTION, NpzFile


def statistics_problems(place: str, found: NpzFile, config: NetworksConfig) -> Iterator[str]:
    """Yield networks that ``mu`` and ``sigma`` of a file without header cannot be compared with.

    Such a file does not state how pictures reached Inception; it is taken for one of ADM's.
    """
    if found.header is not None or not found.statistics:
        return
    if not found.count and config.extractor != INCEPTION:
        yield (
            f"reference: {place} holds only mu and sigma, which belong to Inception's "
            f"features; give --extractor inception (got {config.extractor})"
        )
    for network in config.extractors():
        if network.name == INCEPTION and network.resize not in (None, "tf1_bilinear"):
            yield (
                f"reference: {place} does not state its statistics' resize, and is taken for "
                f"tf1_bilinear, as ADM's files are, not for {network.resize}; where that is right, "
                f"eval/reference.py {place} {options(config, network)} --out FILE.npz writes a "
                "reference that states it"
            )


def file_size_problems(place: str, found: NpzFile, size: str) -> Iterator[str]:
    """Yield the size of a file's statistics where it is another than HEIGHTxWIDTH ``size``."""
    own = "{}x{}".format(*found.size) if found.size and found.statistics else None
    theirs = found.header.get("size") if found.header else own
    if theirs not in (None, size):
        yield (
            f"size: {place} is of images at {theirs}, these are {size}; "
            f"eval/reference.py makes one at {size}"
        )


def options(config: NetworksConfig, network: ExtractorConfig) -> str:
    """The options that name a network of ``config``, or the profile that names them all.

    Not its weights, which another tool's statistics do not state.
    """
    if config.profile is not None:
        return f"--profile {config.profile}"
    given = {
        "extractor": network.name,
        "resize": network.resize,
        "image-size": network.image_size,
    }
    return " ".join(f"--{name} {value}" for name, value in given.items() if value is not None)
