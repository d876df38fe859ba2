"""``eval/reference.py`` and evaluations against what it writes, run in this process."""

import json
from pathlib import Path

import numpy as np

from diffgen.cli import launch


def keep(folder: Path, name: str, *argv: str) -> Path:
    """Write a reference file in this process."""
    out = folder / f"{name}.npz"
    assert launch("reference", [*argv, "--out", str(out)], "reference") == 0
    assert not out.with_name(f"{out.name}.parts").exists()
    return out


def evaluate(folder: Path, reference: Path | str, *argv: str, floor: str = "--no-floor") -> dict:
    """Score ``scored.npz``, or another source, against a reference: all of it, if without floor."""
    source = () if argv and not argv[0].startswith("-") else (str(folder / "scored.npz"),)
    out = folder / "scores.json"
    given = [*source, *argv, "--reference", str(reference), floor, "--out", str(out)]
    assert launch("eval", given, "eval") == 0
    return json.loads(out.read_text())


def refusal(capsys, verb: str, *argv: str) -> str:
    """The one message of a refused command."""
    assert launch(verb, [*argv, "--out", "never.npz" if verb == "reference" else "x"], verb) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def arrays_in(file: Path) -> dict[str, np.ndarray]:
    with np.load(file) as arrays:
        return dict(arrays)
