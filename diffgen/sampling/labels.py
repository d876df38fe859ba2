"""Class labels and names, as a person gives them, to the labels of a model."""

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor


def label_tensor(class_labels: Any, count: int | None, names: list[str], null: int) -> Tensor:
    """Labels of the images to draw.

    Args:
        class_labels: a label or a name, several of them, or a tensor; None: the null class.
        count: images to draw; None: as many as there are labels, or 1.
        names: in label order.
        null: the null class, the number of classes.

    Returns:
        (B,) int64.

    Raises:
        ValueError: a label or name is unknown, there is none, or ``count`` is another number.
    """
    if count is not None and count < 1:
        raise ValueError(f"num_images must be 1 or more, not {count}")
    if class_labels is None:
        return torch.full((count or 1,), null)
    if isinstance(class_labels, Tensor):
        class_labels = class_labels.tolist()
    if isinstance(class_labels, str) or not isinstance(class_labels, Iterable):
        class_labels = [class_labels]
    labels = [_label(label, names, null) for label in class_labels]
    if not labels:
        raise ValueError("class_labels is empty")
    if count not in (None, len(labels)):
        raise ValueError(f"num_images {count} contradicts {len(labels)} class_labels")
    return torch.tensor(labels)


def _label(label: int | str, names: list[str], null: int) -> int:
    if isinstance(label, str):
        if label not in names:
            raise ValueError(f"class_labels: {label!r} is unknown; known are {names}")
        label = names.index(label)
    try:
        label = operator.index(label)
    except TypeError:
        message = f"class_labels: {label!r} is neither a name nor a whole number"
        raise ValueError(message) from None
    if not 0 <= label <= null:
        raise ValueError(f"class_labels: {label} is not in 0 to {null} ({null}: null)")
    return label


def file_name(class_names: Sequence[str], label: int) -> str:
    """A class's name, fit for a file or a folder; that of the null class is "unconditional"."""
    if label >= len(class_names):
        return "unconditional"
    name = class_names[label] or f"class{label}"
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
