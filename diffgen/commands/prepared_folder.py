"""The folder ``prepare`` fills: ``settings.json`` comes first, ``index.json`` last."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL
from tqdm import tqdm

from diffgen.config.latent_index import INDEX, SETTINGS, LatentIndex
from diffgen.config.stored import read_json
from diffgen.data.shards import note_place
from diffgen.errors import UserError
from diffgen.files import write_file, write_folder, write_json
from diffgen.models.vae import load_vae, vae_digest
from diffgen.training.run_folder import flatten


@dataclass(frozen=True)
class PreparedFolder:
    """``vae/``, a folder of files for each size of latents, and what tells of them."""

    path: Path

    def open(self, settings: dict[str, Any], vae: AutoencoderKL, weights: str) -> None:
        """Begin, or go on with, what ``settings`` decide; ``weights``: digest of those of ``vae``.

        Raises:
            UserError: it holds something else; every differing setting is named.
        """
        file, here = self.path / SETTINGS, json.loads(json.dumps(settings))
        if file.exists():
            self._compare(file, here)
        elif strange := next((p for p in self.path.iterdir() if p.name[0] != "."), None):
            raise UserError(
                f"out: {self.path} holds {strange.name}, but no latents; choose another --out"
            )
        else:
            write_json(file, here)
        if self._kept_vae() != (weights, _described(json.loads(vae.to_json_string()))):
            write_folder(self.path / "vae", vae.save_pretrained)

    def tell_damaged(self, shards: Sequence[str]) -> None:
        """Name those of ``shards``, which are to be encoded again, that had been finished."""
        for shard in filter(self.has, shards):
            tqdm.write(f"{self.path / shard} is not whole: it is encoded again", file=sys.stderr)

    def reopen(self) -> None:
        """Something is missing or damaged: the folder is not whole until ``close``."""
        try:
            (self.path / INDEX).unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"out: {self.path} cannot be written: {error}") from None

    def close(self, index: LatentIndex) -> None:
        """All files are there: write the index, unless it says so already."""
        file = self.path / INDEX
        content = (index.model_dump_json(by_alias=True, indent=1) + "\n").encode()
        if not file.exists() or file.read_bytes() != content:
            write_file(file, lambda path: path.write_bytes(content))

    def has(self, shard: str) -> bool:
        """True if a file has been finished, as far as its note tells."""
        return note_place(self.path, shard).exists()

    def _kept_vae(self) -> tuple[str, dict[str, Any]] | None:
        """Digest of the copy's weights, and its settings; None: there is none that can be read."""
        folder = self.path / "vae"
        if not folder.exists():
            return None
        try:
            settings = read_json(folder / "config.json", "vae", "gone")
            return vae_digest(load_vae(folder)), _described(settings)
        except UserError:
            return None

    def _compare(self, file: Path, here: dict[str, Any]) -> None:
        try:
            there = json.loads(file.read_text(encoding="utf-8"))
            before, now = flatten(there), flatten(here)
        except (OSError, ValueError, AttributeError) as error:
            raise UserError(f"out: {file} is damaged ({error}); choose another --out") from None
        differing = [
            f"  {name}: {before.get(name)} there, {now.get(name)} here"
            for name in sorted(before.keys() | now.keys())
            if before.get(name) != now.get(name)
        ]
        if differing:
            raise UserError(
                f"out: {self.path} holds latents prepared with other settings; choose another "
                "--out\n" + "\n".join(differing)
            )


def _described(settings: dict[str, Any]) -> dict[str, Any]:
    """What a config.json says of the VAE, not of where it lay and which diffusers wrote it."""
    return {name: value for name, value in settings.items() if not name.startswith("_")}
