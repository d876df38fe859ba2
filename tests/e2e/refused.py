"""What a command line must be refused for: code 2, one message, no traceback, no torch."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TypeAlias

Case: TypeAlias = tuple[str, list[str], str]
"""Verb, arguments, what the message must say."""

PROGRAM = """
import contextlib, io, json, sys
from diffgen.cli import launch
results = []
for verb, argv in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            code = launch(verb, argv, verb)
        except SystemExit as stop:
            code = stop.code
    results.append([code, said.getvalue(), "torch" in sys.modules])
print(json.dumps(results))
"""


def write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def pipeline_folder(folder: Path) -> str:
    """A folder with the JSON of a pipeline: enough to refuse what does not fit it."""
    write_json(folder / "model_index.json", {"class_names": ["circle", "star"]})
    config = {"patch_size": 4, "in_channels": 3, "num_classes": 2, "sample_size": [32, 32]}
    write_json(folder / "transformer/config.json", config)
    return str(folder)


def check_refused(cases: list[Case], folder: Path, **environment: str) -> None:
    """Each of the ``cases`` is refused in ``folder``, and leaves nothing there."""
    before = sorted(folder.iterdir())
    argument = json.dumps([[verb, argv] for verb, argv, _ in cases])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, argument],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    for (verb, argv, said), (code, message, torch_loaded) in zip(cases, results, strict=True):
        assert code == 2, (verb, argv, message)
        assert said in message, (verb, argv, message)
        assert "Traceback" not in message
        assert not torch_loaded, (verb, argv)
    assert sorted(folder.iterdir()) == before
