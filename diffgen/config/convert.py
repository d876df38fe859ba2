"""The configuration of ``diffgen convert``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import CliPositionalArg

from diffgen.config.base import Section
from diffgen.config.source import resolve
from diffgen.config.train import unwritable
from diffgen.config.vae import find_vae
from diffgen.errors import UserError

FILES = (".safetensors", ".pt")


class ConvertConfig(Section):
    """Turn a published checkpoint into a diffgen pipeline folder, or back with --to."""

    source: CliPositionalArg[Path]
    """Checkpoint of DiT, SiT, FiT or FiTv2 (.pt, .bin, .safetensors) or folder of a diffusers
    DiTPipeline; with --to a run folder or pipeline folder."""
    target: CliPositionalArg[Path]
    """Pipeline folder to make; with --to a .safetensors or .pt file. It must not exist."""
    vae: str | None = None
    """Folder or hub id of the VAE to put in; a model of 4 channels without one asks for it when
    it draws, and is taken to see Stable Diffusion's latents times 0.18215."""
    num_heads: int | None = Field(default=None, ge=1)
    """Attention heads, which files do not tell [count]; none: those of the published model of the
    same width."""
    family: Literal["dit", "sit"] | None = None
    """DiT and SiT name their weights alike; none: told by the training arguments in the file, or
    by its name."""
    to: Literal["dit", "sit", "fitv2"] | None = None
    """Write the model in this layout instead, for the released code."""

    def problems(self) -> Iterator[str]:
        """Yield mistakes that show on the disk."""
        if not self.source.exists():
            yield f"source: {self.source} does not exist"
        elif self.to is not None:
            try:
                resolve(str(self.source))
            except UserError as error:
                yield str(error)
            for name in ("vae", "num_heads", "family"):
                if getattr(self, name) is not None:
                    yield f"{name}: has no effect with to {self.to}"
            if self.target.suffix not in FILES:
                yield f"target: {self.target} must end with {' or '.join(FILES)}"
        else:
            yield from self._published_problems()
        if self.target.exists():
            yield f"target: {self.target} exists already; name another, or remove it"
        else:
            yield from unwritable("target", self.target.parent)

    def _published_problems(self) -> Iterator[str]:
        try:
            if self.vae is not None:
                find_vae(self.vae)
            if self.source.is_dir() and not (self.source / "config.json").exists():
                if not resolve(str(self.source)).diffusers:
                    yield f"source: {self.source} is diffgen's own; give --to to write it out"
                for name in ("num_heads", "family"):
                    if getattr(self, name) is not None:
                        yield f"{name}: is stated by the folder {self.source}"
        except UserError as error:
            yield str(error)
