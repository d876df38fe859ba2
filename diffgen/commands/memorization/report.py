"""The report of ``memorization``: one JSON file, a table, a plot and two picture grids."""

from typing import Any

from PIL import Image

from diffgen.commands.memorization.kept import SCHEMA, content, files
from diffgen.commands.memorization.pictures import middle
from diffgen.commands.memorization.plot import draw_plot
from diffgen.commands.memorization.table import markdown
from diffgen.config.memorization import MemorizationConfig
from diffgen.files import write_file, write_json
from diffgen.sampling.sheet import Row, contact_sheet


def report(config: MemorizationConfig) -> None:
    """memorization.json, table.md, plot.png, grid.png and eigenvectors.png; the table is printed
    too."""
    found = {count: content(config, count) or {} for count in config.columns()}
    figures = [{k: v for k, v in one.items() if k != "settings"} for one in found.values()]
    settings = config.model_dump(mode="json")
    summary = {"schema": SCHEMA, "settings": settings, "counts": figures}
    write_json(config.out / "memorization.json", summary)
    text = "\n".join(markdown(found))
    write_file(config.out / "table.md", lambda path: path.write_text(text + "\n", encoding="utf-8"))
    write_file(config.out / "plot.png", draw_plot(found))
    grid = contact_sheet([sample_row(config, count) for count in found], scale=1)
    write_file(config.out / "grid.png", grid.save)
    names = "memorization.json, table.md, plot.png, grid.png"
    rows = [modes_row(config, one) for one in found.values() if one["eigenvalues"] is not None]
    if rows:
        write_file(config.out / "eigenvectors.png", contact_sheet(rows, scale=1).save)
        names += ", eigenvectors.png"
    print(f"\n{text}\n\nsaved as {config.out}/{names}")


def sample_row(config: MemorizationConfig, count: int) -> Row:
    """Samples of a, of b from the same noise, and a's training images that are most alike."""
    title = f"N = {count:,}: models a and b from the same noise; nearest training image of a"
    with Image.open(files(config, count)[0]) as picture:
        return Row(title, [picture.convert("RGB")])


def modes_row(config: MemorizationConfig, found: dict[str, Any]) -> Row:
    """An image, with noise, denoised, and the leading eigenvectors of the Jacobian there."""
    values = ", ".join(f"{value:.2f}" for value in found["eigenvalues"])
    sigma = middle(config.levels())
    title = f"N = {found['count']:,}, sigma {sigma:g}: image, noisy, denoised; modes of {values}"
    with Image.open(files(config, found["count"])[1]) as picture:
        return Row(title, [picture.convert("RGB")])
