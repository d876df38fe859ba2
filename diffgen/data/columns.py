"""Which columns of a dataset hold the images and their classes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffgen.config.hub import HubConfig
from diffgen.errors import UserError


@dataclass(frozen=True)
class Columns:
    """The columns used."""

    image: str
    label: str | None
    """None: a single class."""
    class_names: tuple[str, ...] | None
    """In label order; None: the column does not say, its values do."""

    def is_label(self, value: Any) -> bool:
        """True for the number of a class."""
        return isinstance(value, int) and 0 <= value < len(self.class_names or ())

    def label_of(self, row: dict[str, Any], name: str) -> int:
        """The class of a row. Raises UserError, calling it ``name``, when it has none."""
        value = 0 if self.label is None else row[self.label]
        if self.label is not None and not self.is_label(value):
            raise UserError(self.unlabelled(value, name))
        return int(value)

    def unlabelled(self, value: Any, name: str) -> str:
        """The complaint about a row without a class."""
        return f"data.label_column: {name} has the label {value}, which is no class of {self.label}"


def choose_columns(features: Any, config: HubConfig) -> Columns:
    """The columns a configuration names, or the only ones of their type.

    Args:
        features: of a dataset, by column.

    Raises:
        UserError: a column is missing, is of the wrong type, or must be named.
    """
    from datasets import ClassLabel, Image

    there = ", ".join(f"{name} ({kind_of(feature)})" for name, feature in features.items())
    for field in ("image_column", "label_column"):
        name = getattr(config, field)
        if name is not None and name not in features:
            raise UserError(f"data.{field}: {config.name} has no column {name!r}; it has {there}")
    image = config.image_column or the_only(features, Image, "image_column", there)
    label = config.label_column or the_only(features, ClassLabel, "label_column", there)
    if label is None and {"__key__", "cls"} <= set(features):  # a WebDataset
        label = "cls"
    if image is None:
        raise UserError(f"data.image_column: name the column of images; there are {there}")
    if not can_hold_images(features[image]):
        raise UserError(f"data.image_column: {image} holds no images; there are {there}")
    if label is None:
        return Columns(image, None, None)
    feature = features[label]
    if isinstance(feature, ClassLabel):
        return Columns(image, label, tuple(feature.names))
    if kind_of(feature) not in ("string", "large_string", "bool") and "int" not in kind_of(feature):
        raise UserError(f"data.label_column: {label} holds no classes; there are {there}")
    return Columns(image, label, None)


def the_only(features: Any, wanted: type, field: str, there: str) -> str | None:
    """The column of a type, None if there is none. Raises UserError when there are several."""
    found = [name for name, feature in features.items() if isinstance(feature, wanted)]
    if len(found) > 1:
        raise UserError(f"data.{field}: name one of {', '.join(found)}; there are {there}")
    return found[0] if found else None


def can_hold_images(feature: Any) -> bool:
    """True for the image type and for what it is stored as: content, or content and path."""
    from datasets import Image

    keys = set(feature) if isinstance(feature, dict) else set()
    return isinstance(feature, Image) or kind_of(feature) == "binary" or keys == {"bytes", "path"}


def kind_of(feature: Any) -> str:
    """The type of a column in a word."""
    from datasets import Value

    return str(feature.dtype) if isinstance(feature, Value) else type(feature).__name__


def labels_of(rows: Any, columns: Columns, name: str) -> tuple[list[int], tuple[str, ...]]:
    """The label of every row of a dataset called ``name``, and the class names.

    Without names in the column's type, the classes are its distinct values, sorted.

    Raises:
        UserError: a row has no class.
    """
    if columns.label is None:
        return [0] * len(rows), (Path(name).stem,)
    values = list(rows[columns.label])
    if columns.class_names is None:
        if None in values:
            raise UserError(columns.unlabelled(None, f"{name}, row {values.index(None)}"))
        distinct = sorted(set(values))
        numbers = {value: number for number, value in enumerate(distinct)}
        return [numbers[value] for value in values], tuple(str(value) for value in distinct)
    for row, value in enumerate(values):
        if not columns.is_label(value):
            raise UserError(columns.unlabelled(value, f"{name}, row {row}"))
    return values, columns.class_names
