"""The report of ``memorization``: one JSON file, a table, a plot and two picture grids."""

from collections.abc import Collection
from typing import Any

from PIL import Image

from diffgen.commands.memorization.kept import SCHEMA, picture_files, stored_figures
from diffgen.commands.memorization.pair import EXACT
from diffgen.commands.memorization.pictures import middle
from diffgen.commands.memorization.plot import draw_plot
from diffgen.commands.memorization.table import markdown
from diffgen.config.memorization import MemorizationConfig
from diffgen.files import write_file, write_json
from diffgen.sampling.sheet import Row, contact_sheet

LARGE = (
    f"Images of more than {EXACT:,} numbers: the dimension is an estimate alone, and there is no "
    "linear denoiser, no asymmetry, no affine residual and no eigenvectors."
)


def report(config: MemorizationConfig, counts: Collection[int]) -> str:
    """memorization.json, table.md, plot.png, grid.png and eigenvectors.png, of ``counts``.

    Returns:
        The table and where it all is.
    """
    found = {count: stored_figures(config, count) or {} for count in sorted(counts)}
    apart = ("schema", "settings", "values")
    figures = [{k: v for k, v in one.items() if k not in apart} for one in found.values()]
    settings = config.model_dump(mode="json")
    summary = {"schema": SCHEMA, "settings": settings, "counts": figures}
    write_json(config.out / "memorization.json", summary)
    rows = [modes_row(config, one) for one in found.values() if one["eigenvalues"] is not None]
    text = "\n".join([*markdown(found), *([] if rows else ["", LARGE])])
    write_file(config.out / "table.md", lambda path: path.write_text(text + "\n", encoding="utf-8"))
    write_file(config.out / "plot.png", draw_plot(found))
    grid = contact_sheet([sample_row(config, count) for count in found], scale=1)
    write_file(config.out / "grid.png", grid.save)
    names = "memorization.json, table.md, plot.png, grid.png"
    if rows:
        write_file(config.out / "eigenvectors.png", contact_sheet(rows, scale=1).save)
        names += ", eigenvectors.png"
    return f"\n{text}\n\nsaved as {config.out}/{names}"


def sample_row(config: MemorizationConfig, count: int) -> Row:
    """Samples of a, of b from the same noise, and a's training images that are most alike."""
    title = f"N = {count:,}: models a and b from the same noise; nearest training image of a"
    with Image.open(picture_files(config, count)[0]) as picture:
        return Row(title, [picture.convert("RGB")])


def modes_row(config: MemorizationConfig, found: dict[str, Any]) -> Row:
    """An image, with noise, denoised, and the leading eigenvectors of the Jacobian there."""
    values = ", ".join(f"{value:.2f}" for value in found["eigenvalues"])
    sigma = middle(config.levels())
    title = f"N = {found['count']:,}, sigma {sigma:g}: image, noisy, denoised; modes of {values}"
    with Image.open(picture_files(config, found["count"])[1]) as picture:
        return Row(title, [picture.convert("RGB")])
