"""Whether a generator still draws different images of a class."""

import torch
from torch import Tensor


def diversity(drawn: Tensor, teacher: Tensor, labels: Tensor) -> float:
    """Variance within a class of what was drawn, as a share of the teacher's.

    A generator that draws one image a class has 0; one as varied as the teacher 1.

    Args:
        drawn, teacher: (N, C, h, w) of the same classes.
        labels: (N,) int64.
    """
    return float(within(drawn, labels) / within(teacher, labels))


def within(images: Tensor, labels: Tensor) -> Tensor:
    """Mean over the images of the squared distance to the mean of their class, 0-d fp64."""
    flat = images.flatten(1).double()
    total = torch.zeros((), dtype=torch.float64)
    for label in labels.unique():
        chosen = flat[labels == label]
        total += (chosen - chosen.mean(dim=0)).square().sum()
    return total / len(flat)
