"""Which pictures a path names, a folder of images or an ``.npz``, and their size; without torch."""

from pathlib import Path

from diffgen.config.data import image_files
from diffgen.config.npz import inspect_npz
from diffgen.errors import UserError

ROTATED = (5, 6, 7, 8)  # EXIF orientations that swap height and width


def is_npz(place: str) -> bool:
    """True for a path that ends like an ``.npz`` file, whether or not it exists."""
    return place.lower().endswith(".npz")


def is_image_folder(place: str) -> bool:
    """True for a folder of pictures to score, as against a model to draw them with."""
    path = Path(place)
    if not path.is_dir() or (path / "model_index.json").exists():
        return False
    if (path / "config.yaml").exists() or (path / "pipeline").exists():
        return False
    return next(image_files(path), None) is not None


def sample_folders(place: Path) -> list[Path]:
    """The folders of single sizes in an output folder of ``sample``."""
    sheets = place.glob("sheet-*.png")
    sizes = [place / sheet.stem.removeprefix("sheet-") for sheet in sorted(sheets)]
    return [folder for folder in sizes if folder.is_dir()]


def own_size(place: str, field: str, skip: bool = False) -> str | None:
    """HEIGHTxWIDTH of the pictures at ``place``; None: there are none.

    Raises:
        UserError: they have several sizes, two are named; or one cannot be read, unless ``skip``.
    """
    if is_npz(place):
        size = inspect_npz(Path(place), field).size
        return "{}x{}".format(*size) if size else None
    first: tuple[Path, str] | None = None
    for path in sorted(image_files(Path(place))):
        try:
            found = file_size(path, field)
        except UserError as error:
            if skip:
                continue
            raise UserError(f"{error}; --on-error skip leaves such files out") from None
        first = first or (path, found)
        if found != first[1]:
            raise UserError(
                f"{field}: {place} holds pictures of several sizes "
                f"({first[0].name} is {first[1]}, {path.name} is {found}); "
                "--size HEIGHTxWIDTH crops all to one"
            )
    return first[1] if first else None


def file_size(path: Path, field: str) -> str:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            width, height = image.size
            swapped = image.getexif().get(0x0112) in ROTATED
    except (
        *(UnidentifiedImageError, Image.DecompressionBombError),
        *(OSError, SyntaxError, ValueError),
    ) as error:
        raise UserError(f"{field}: {path} is not a readable image: {error}") from None
    return f"{width}x{height}" if swapped else f"{height}x{width}"
