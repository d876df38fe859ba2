"""The folder of one sampling run: it holds one run's pictures, and a killed run goes on in it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffgen.config.constraints import ConstraintsConfig
from diffgen.config.guidance import described, from_earlier, read_guidance
from diffgen.errors import UserError
from diffgen.files import write_json

# What a sidecar may say otherwise though its pictures are the same.
FREE = ("out", "adapters", "constraint_checkpointing")
BITS = ("weights", "guide_weights", "device", "dtype")
NOTES = {
    "constraints": "constraint",
    "given": "given",
    "known": "known",
    "adapters": "adapter",
}
"""Where a sidecar lists what pictures are made of, each with its ``name``, any ``files`` by their
digests, and other facts; and what complaints call one."""
ASIDE = ("name", "files", "folder")
"""What a note says of a thing without deciding it: its digests do, not the folder it lies in."""


@dataclass(frozen=True)
class SampleFolder:
    """``settings.json`` describes finished pictures, ``.unfinished.json`` those being drawn."""

    path: Path

    def open(self, sidecar: dict[str, Any], pictures: list[Path]) -> None:
        """Begin, or go on with, the run ``sidecar`` describes; ``pictures`` are its files.

        Raises:
            UserError: the folder holds pictures of other settings; every differing one is named.
        """
        for file in (self._finished, self._unfinished):
            if file.exists():
                self._compare(file, sidecar)
                break
        else:
            stray = [path for path in pictures if self.has(path)]
            if stray:
                raise UserError(
                    f"out: {self.path} holds {stray[0]}, but no settings.json that tells what it "
                    "was drawn with; choose another --out"
                )
        write_json(self._unfinished, sidecar)

    def close(self, sidecar: dict[str, Any]) -> None:
        """All pictures are there: write settings.json."""
        write_json(self._finished, sidecar)
        self._unfinished.unlink()

    def has(self, picture: Path) -> bool:
        """True if the file is there; it was put there whole."""
        return (self.path / picture).exists()

    @property
    def _finished(self) -> Path:
        return self.path / "settings.json"

    @property
    def _unfinished(self) -> Path:
        return self.path / ".unfinished.json"

    def _compare(self, file: Path, sidecar: dict[str, Any]) -> None:
        try:
            there = _deciding(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(
                f"out: {file} is not of diffgen's samples ({error!r}); choose another --out"
            ) from None
        here = _deciding(json.loads(json.dumps(sidecar)))
        differing = [
            "  " + _difference(name, there.get(name), here.get(name))
            for name in sorted(there.keys() | here.keys())
            if there.get(name) != here.get(name)
        ]
        if differing:
            raise UserError(
                f"out: {self.path} holds pictures drawn with other settings; choose another "
                "--out\n" + "\n".join(differing)
            )


class Digests(dict[str, str]):
    """Of files, by their names."""


def _difference(name: str, there: Any, here: Any) -> str:
    """How two values of ``name`` differ; digests of many files would fill the screen."""
    if isinstance(there, Digests) and isinstance(here, Digests):
        files = [file for file in {**here, **there} if there.get(file) != here.get(file)]
        if len(files) > 1:
            return f"{name}: {len(files)} files differ, the first is {files[0]}"
        name, there, here = f"{name}={files[0]}", there.get(files[0]), here.get(files[0])
    shown = [f"{len(x)} file(s)" if isinstance(x, Digests) else x for x in (there, here)]
    return f"{name}: {shown[0]} there, {shown[1]} here"


def _deciding(sidecar: dict[str, Any]) -> dict[str, Any]:
    """What decides the pictures' bits."""
    stated = from_earlier(sidecar["settings"])
    settings = {k: v for k, v in stated.items() if k not in FREE}
    settings["guidance"] = described(read_guidance(stated))
    if not stated.get("constraint"):  # nothing there is constrained, as in earlier versions
        settings = {k: v for k, v in settings.items() if k not in ConstraintsConfig.model_fields}
    return settings | {name: sidecar.get(name) for name in BITS} | _noted(sidecar)


def _noted(sidecar: dict[str, Any]) -> dict[str, Any]:
    """Every file that pictures are made of, and the rest that is known of them."""
    deciding: dict[str, Any] = {}
    for place, kind in NOTES.items():
        for number, note in enumerate(sidecar.get(place) or ()):
            name = f"{kind} {number}, {note['name']}"
            deciding[name] = Digests(note.get("files", {}))
            deciding |= {f"{name}: {k}": v for k, v in note.items() if k not in ASIDE}
    return deciding
