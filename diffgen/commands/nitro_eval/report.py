"""What the command leaves: figures, a table, a picture grid, and if wanted a claim."""

import json
import shutil
from collections.abc import Iterator, Sequence

from PIL import Image

from diffgen.commands.nitro_eval.evidence import claim
from diffgen.commands.nitro_eval.figures import Summary, summary
from diffgen.commands.nitro_eval.rows import Row
from diffgen.commands.nitro_eval.table import markdown, title
from diffgen.commands.sweeps import real_parts
from diffgen.config.base import parse_size
from diffgen.config.nitro_eval import NitroEvalConfig
from diffgen.config.stored import read_json
from diffgen.errors import UserError
from diffgen.evidence import write_evidence
from diffgen.files import write_file, write_json
from diffgen.sampling.sheet import Row as Strip
from diffgen.sampling.sheet import contact_sheet, enlarged


def same_teacher(config: NitroEvalConfig, weights: str) -> None:
    """Refuse to mix the students of two teachers; the first command in the folder says which.

    Raises:
        UserError: the folder is of another teacher than the one with these ``weights``.
    """
    file = config.out / "teacher.json"
    if not file.exists():
        write_json(file, {"weights": weights})
    elif read_json(file, "out", "").get("weights") != weights:
        raise UserError(
            f"out: {config.out} is of another teacher than {config.source} is now; choose another "
            "--out, or remove it"
        )


def report(config: NitroEvalConfig, weights: str, rows: Sequence[Row]) -> Summary | None:
    """nitro.json, table.md and rows.png, of finished ``rows``.

    Returns:
        What nitro.json holds; None: there are no figures yet.
    """
    found = summary(config, weights, rows)
    if found is None:
        return None
    write_json(config.out / "nitro.json", found)
    text = "\n".join(markdown(found)) + "\n"
    write_file(config.out / "table.md", lambda path: path.write_text(text, encoding="utf-8"))
    grid = contact_sheet(list(strips(rows, found)), scale=1)
    write_file(config.out / "rows.png", grid.save)
    return found


def finish(config: NitroEvalConfig, weights: str, rows: Sequence[Row]) -> None:
    """The report of all rows, which is printed, and the claim."""
    found = report(config, weights, rows)
    shutil.rmtree(real_parts(config.out), ignore_errors=True)
    text = (config.out / "table.md").read_text(encoding="utf-8")
    print(f"\n{text}\nsaved as {config.out}/nitro.json, table.md, rows.png")
    if config.evidence is not None:
        judged = write_evidence(config.evidence, claim(json.loads(json.dumps(found))))
        print(f"claim {config.evidence}: {judged.verdict}")


def strips(rows: Sequence[Row], found: Summary) -> Iterator[Strip]:
    """The first images of each row, of its first seed: in every row from the same noise."""
    first = {row.name: row for row in reversed(rows)}
    for row in [row for row in rows if first[row.name] is row]:
        for steps, cell in row.cells.items():
            told = f"{title(row.name, found['settings'])}, {steps} step{'s' * (steps > 1)}"
            with Image.open(cell.picture) as image:
                strip = enlarged(image.convert("RGB"), min(parse_size(found["size"])))
            yield Strip(told, [strip])
