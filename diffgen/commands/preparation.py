"""What ``prepare`` works on: the images, the VAE, and how the one is put through the other."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from diffgen.commands.prepared_folder import PreparedFolder
from diffgen.config.base import parse_size
from diffgen.config.data import FolderConfig
from diffgen.config.latent_index import INDEX, LatentIndex, PreparedVAE
from diffgen.config.prepare import PrepareConfig
from diffgen.config.vae import own_format
from diffgen.data.fit import Limits
from diffgen.data.folder import Folder
from diffgen.data.hub import Hub, HubStream
from diffgen.data.images import StoredImages
from diffgen.data.listing import names_digest, some_lines
from diffgen.data.prepared_encoding import Encoding
from diffgen.data.prepared_images import PreparedImages
from diffgen.data.shards import Note, statistics_of
from diffgen.data.source import ImageSource, build_images
from diffgen.device import chosen_device
from diffgen.errors import UserError
from diffgen.models.vae import LatentSpace, load_vae, vae_digest


@dataclass(frozen=True)
class Preparation:
    """What is encoded, and what with."""

    config: PrepareConfig
    source: PreparedImages
    space: LatentSpace
    weights: str
    """Digest of those of the VAE."""

    @property
    def folder(self) -> PreparedFolder:
        """Where to."""
        return PreparedFolder(self.config.out)

    def settings(self) -> dict[str, Any]:
        """Everything that decides what is stored."""
        images = self.source.images
        facts: dict[str, Any] = {"count": len(images)}
        if isinstance(images, Folder):
            facts["names"] = names_digest(images.files, images.config.path)
            facts["class_names"] = list(images.class_names)  # a flat folder's is its own name
        elif isinstance(images, Hub):
            facts["fingerprint"] = images.fingerprint
        deciding = self.config.deciding()
        deciding["vae"] |= {"weights": self.weights, **self.space.format.model_dump(mode="json")}
        return {"schema": "diffgen-latents/1", "images": facts, **deciding}


def begin(config: PrepareConfig) -> Preparation:
    """Load the VAE and find the images."""
    chosen_device(config.device, "vae.precision" if config.vae.precision == "bf16" else None)
    vae = load_vae(config.vae.path, "vae.path", config.vae.revision)
    space = LatentSpace(vae, own_format(dict(vae.config)))
    longest = parse_size(config.longest) if config.longest else None
    limits = Limits(config.patch_size * space.format.factor, longest)
    images: ImageSource | HubStream
    if isinstance(config.data, FolderConfig):
        # What is left out is found while encoding: which images these are, and their numbers,
        # must not depend on which of them can be read today.
        images = Folder(config.data, limits, scan=not config.skips)
    else:
        images = build_images(config.data, limits=limits)
    if isinstance(images, HubStream):
        raise UserError("data.streaming: the images of a stream are not counted ahead")
    return Preparation(config, PreparedImages(images, config.seed), space, vae_digest(vae))


def build_encoding(work: Preparation) -> Encoding:
    """The VAE on its device, and how what it gives is stored."""
    config, space = work.config, work.space
    device, given = chosen_device(config.device), config.vae
    if given.precision == "bf16":
        low = load_vae(given.path, "vae.path", given.revision, torch.bfloat16)
        space = LatentSpace(low, space.format)
    space.vae.to(device)
    encode = partial(space.posterior, batch_size=given.batch_size)
    return Encoding(
        posterior=lambda images: encode(images.to(device)),
        channels=space.format.channels,
        factor=space.format.factor,
        batch_size=config.vae.batch_size,
        dtype=getattr(torch, config.dtype),
        flip=config.flip,
        skip=config.skips,
        workers=config.workers,
    )


def index_of(work: Preparation, notes: Sequence[Note], unread: dict[int, str]) -> LatentIndex:
    """What the folder says of itself.

    Raises:
        UserError: no image could be read.
    """
    config, skipped = work.config, dict(unread)
    for note in notes:
        skipped |= note.skipped
    if not any(note.entry.count for note in notes):
        lines = some_lines(list(skipped.values()))
        raise UserError(f"data: no image is left that can be read\n{lines}")
    vae = config.vae.model_dump(exclude={"batch_size"})
    return LatentIndex(
        schema="diffgen-latents/1",
        vae=PreparedVAE(**vae, weights=work.weights, format=work.space.format),
        statistics=statistics_of([note.sums for note in notes]),
        dtype=config.dtype,
        size=config.data.size,
        crop=config.crop,
        flip=config.flip,
        class_names=work.source.images.class_names,
        count=sum(note.entry.count for note in notes),
        skipped=dict(sorted(skipped.items())),
        shards=tuple(note.entry for note in notes),
    )


def tell_damaged(work: Preparation, index: LatentIndex) -> None:
    """Name the images that were left out, and the classes of which they were all."""
    images = work.source.images
    if not index.skipped:
        return
    lines = some_lines(list(index.skipped.values()))
    where = f"all are in {work.folder.path / INDEX}"
    count = f"{len(index.skipped):,} of {len(images):,} images"
    print(f"data: {count} cannot be read and are left out; {where}\n{lines}", file=sys.stderr)
    if isinstance(images, StoredImages):
        left = {label for k, label in enumerate(images.labels) if k not in index.skipped}
        empty = sorted({images.labels[number] for number in index.skipped} - left)
        if empty:
            names = ", ".join(images.class_names[label] for label in empty)
            print(f"data: no image is left of these classes: {names}", file=sys.stderr)
