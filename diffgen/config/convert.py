"""The configuration of ``diffgen convert``."""

from collections.abc import Iterator, Sequence
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
    """Turn a published checkpoint into a diffgen pipeline folder, or back with --to; or pass a
    distillation on to another model with --add-difference."""

    source: CliPositionalArg[Path]
    """Checkpoint of DiT, SiT, FiT or FiTv2 (.pt, .bin, .safetensors) or folder of a diffusers
    DiTPipeline; with --to or --add-difference a run folder or pipeline folder."""
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
    add_difference: str | None = None
    """Run folder, pipeline folder or hub id of a distilled model: the difference between its
    weights and those of base is added to the source, which is distilled like it then."""
    base: str | None = None
    """Run folder, pipeline folder or hub id of the model that add_difference was distilled from, of
    the same architecture."""

    def problems(self) -> Iterator[str]:
        """Yield mistakes that show on the disk."""
        if self.base is not None and self.add_difference is None:
            yield "base: has no effect without add_difference, the distilled model"
        if not self.source.exists():
            yield f"source: {self.source} does not exist"
        elif self.add_difference is not None:
            yield from self._difference_problems(self.add_difference)
        elif self.to is not None:
            yield from self._ordinary_problems()
            yield from self._idle(f"to {self.to}", ("vae", "num_heads", "family"))
            if self.target.suffix not in FILES:
                yield f"target: {self.target} must end with {' or '.join(FILES)}"
        else:
            yield from self._published_problems()
        if self.target.exists():
            yield f"target: {self.target} exists already; name another, or remove it"
        else:
            yield from unwritable("target", self.target.parent)

    def _idle(self, option: str, names: Sequence[str]) -> Iterator[str]:
        """Yield options that do nothing beside ``option``."""
        for name in names:
            if getattr(self, name) is not None:
                yield f"{name}: has no effect with {option}"

    def _ordinary_problems(self) -> Iterator[str]:
        """Yield why there is no model that the released code could draw with."""
        try:
            if resolve(str(self.source)).distilled is not None:
                yield (
                    f"source: {self.source} is distilled, and --to writes weights alone: the "
                    "released code would draw it as an ordinary model; give its teacher"
                )
        except UserError as error:
            yield str(error)

    def _difference_problems(self, distilled: str) -> Iterator[str]:
        """Yield models that are none, are not distilled or are where they should not be."""
        yield from self._idle("add_difference", ("to", "vae", "num_heads", "family"))
        if self.base is None:
            yield (
                f"base: is needed with add_difference, the model that {distilled} was distilled "
                "from; the difference is taken from its weights"
            )
        named = {"source": str(self.source), "add_difference": distilled, "base": self.base}
        for field, name in named.items():
            try:
                few = None if name is None else resolve(name, field).distilled
            except UserError as error:
                yield str(error)
                continue
            if field == "add_difference" and few is None:
                yield f"{field}: {name} is not distilled; an ordinary model's weights are its own"
            elif field != "add_difference" and few is not None:
                yield f"{field}: {name} is distilled already; give an ordinary model"

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
