"""A folder of images and, beside it, a folder with a picture of the same name for each."""

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from diffgen.config.data import FolderConfig, image_files
from diffgen.data.decode import Colour, Damaged, decode, upright_size
from diffgen.data.folder import Folder
from diffgen.data.images import DamagedImage, centred, fitted
from diffgen.data.listing import damage_lines, some_lines
from diffgen.data.pixels import NOTICED, from_pil
from diffgen.data.scan import damaged_files
from diffgen.errors import UserError

NAMED = 5
"""Files that a message names."""
THREADS = 16


class PairedImages(Folder):
    """The images of a ``Folder``, each with its partner, cropped and mirrored as it is.

    Under ``on_error: skip`` another pair stands in for one of which either picture is damaged.

    Args:
        config: of the images.
        folder: of the partners, below it named as the images are below theirs, suffix apart.
        background: what transparent parts of a partner show.
        grey: the partners are maps of one channel; a coloured one counts as damaged.

    A damaged partner that comes up under ``on_error: raise`` raises UserError, not DamagedImage: it
    says itself what passes over its image.

    Raises:
        UserError: what ``Folder`` and ``partners_of`` refuse, or partners of other sizes; damaged
            ones under ``on_error: raise``.
    """

    def __init__(
        self, config: FolderConfig, folder: Path, *, background: Colour, grey: bool
    ) -> None:
        super().__init__(config)
        self.background, self.grey = background, grey
        self.partners = partners_of(self.files, config.path, folder)
        damaged = damaged_files(self.partners, config.max_pixels)
        if damaged and config.on_error == "raise":
            count, lines = len(damaged), some_lines(damage_lines(damaged))
            raise UserError(
                f"pair_path: {count:,} of {len(self.partners):,} pictures cannot be read; mend "
                f"them, or pass over their images with --data.on-error skip\n{lines}"
            )
        check_sizes(self.files, self.partners, config.max_pixels)
        self._latest: tuple[int, Image.Image] | None = None

    def open(self, index: int) -> Image.Image:
        """Image ``index`` as RGB. Raises DamagedImage, naming it, or its partner; see above."""
        image, partner = super().open(index), self.partners[index]
        try:
            self._latest = (index, self._opened(partner))
        except DamagedImage as damage:
            if self.config.on_error == "skip":
                raise
            remedy = "mend it, or pass over its image with --data.on-error skip"
            raise UserError(f"{damage}; {remedy}") from None
        return image

    def _opened(self, partner: Path) -> Image.Image:
        try:
            picture = decode(partner, self.background, self.config.max_pixels)
        except Damaged as damage:
            said = f"pair_path: {partner} is not a readable image: {damage}"
            raise DamagedImage(said) from None
        return greyed(picture, partner) if self.grey else picture

    def maps(self, index: int) -> dict[str, Tensor]:
        """``pair``, (3, H, W) fp32 in [-1, 1], the partner of image ``index``, centre-cropped."""
        return {"pair": centred(self._partner(index), self.config)}

    def augmented_maps(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        """``pair``, fitted and mirrored as ``augmented`` does with a generator in this state."""
        return {"pair": fitted(self._partner(index), self.config, self.limits, generator)[0]}

    def _partner(self, index: int) -> Image.Image:
        """Of what ``self[index]`` shows; most often that has just been opened."""
        in_turn = chain(range(index, len(self)), range(index))
        shown = next((i for i in in_turn if i not in self.failed), None)
        if self._latest is None or self._latest[0] != shown:
            self._readable(index)
        assert self._latest is not None
        return self._latest[1]


def greyed(picture: Image.Image, path: Path) -> Image.Image:
    """An RGB picture without the tinge that compression gives to greys; ``path`` is its file.

    Raises:
        DamagedImage: it is coloured.
    """
    channels = from_pil(picture).short()
    apart = int((channels.amax(dim=0) - channels.amin(dim=0)).max())
    if apart > NOTICED:
        raise DamagedImage(
            f"pair_path: {path} is a colour image (its channels differ by up to {apart} levels), "
            "but a map of one channel is to be grey"
        )
    return picture.convert("L").convert("RGB")


def partners_of(files: Sequence[Path], images: Path, folder: Path) -> list[Path]:
    """The picture in ``folder`` for each of ``files``, some of those in ``images``.

    Raises:
        UserError: one is missing or of no image, or there are two for one, or one for two.
    """
    found: dict[Path, Path] = {}
    for path in sorted(image_files(folder)):
        name = path.relative_to(folder).with_suffix("")
        if name in found:
            raise UserError(f"pair_path: {found[name]} and {path} have one name, suffix apart")
        found[name] = path
    names = [path.relative_to(images).with_suffix("") for path in files]
    first: dict[Path, Path] = {}
    for path, name in zip(files, names, strict=True):
        if first.setdefault(name, path) != path:
            raise UserError(
                f"pair_path: {first[name]} and {path} have one name, suffix apart, and so would "
                "have one picture; rename one"
            )
    missing = [str(path) for path, name in zip(files, names, strict=True) if name not in found]
    if missing:
        raise UserError(
            f"pair_path: {folder} has no picture for {len(missing):,} of {len(files):,} images: "
            f"{_first(missing)}"
        )
    extra = found.keys() - set(names)
    if extra:  # of images that are left out they may be
        extra -= {path.relative_to(images).with_suffix("") for path in image_files(images)}
    if extra:
        unknown = [str(found[name]) for name in sorted(extra)]
        which = "1 picture is" if len(unknown) == 1 else f"{len(unknown):,} pictures are"
        raise UserError(f"pair_path: {which} of no image in {images}: {_first(unknown)}")
    return [found[name] for name in names]


def check_sizes(images: Sequence[Path], partners: Sequence[Path], max_pixels: int) -> None:
    """Look at the headers of all. Raises UserError: a partner is not as large as its image."""

    def sizes(pair: tuple[Path, Path]) -> list[str]:
        try:
            return ["{}x{}".format(*upright_size(path, max_pixels)) for path in pair]
        except Damaged:  # whoever decodes it says so
            return []

    with warnings.catch_warnings(), ThreadPoolExecutor(THREADS) as pool:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # max_pixels decides
        pairs = list(zip(images, partners, strict=True))
        apart = [
            f"{partner} is {found[1]}, {image} is {found[0]}"
            for (image, partner), found in zip(pairs, pool.map(sizes, pairs), strict=True)
            if len(set(found)) > 1
        ]
    if apart:
        which = f"{len(apart):,} pictures are not as large as their images"
        if len(apart) == 1:
            which = "1 picture is not as large as its image"
        raise UserError(f"pair_path: {which}: {_first(apart)}")


def _first(lines: Sequence[str]) -> str:
    return ", ".join(lines[:NAMED]) + (", ..." if len(lines) > NAMED else "")
