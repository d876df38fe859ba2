"""Real images in the place of the teacher's."""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffgen.commands.nitro.distillation import Distillation
from diffgen.config.beside import of_one_size
from diffgen.data.order import TrainingData
from diffgen.data.source import build_images
from diffgen.errors import UserError
from diffgen.lacon.training import model_labels


@dataclass(frozen=True)
class RealData:
    """Images taken for real."""

    samples: TrainingData
    labels: Tensor
    """(classes,) int64, the teacher's label of each of theirs."""


def real_data(distilling: Distillation) -> RealData:
    """Images of the configuration, or those the teacher's run was trained on.

    Raises:
        UserError: they cannot be read, or are of classes the teacher does not know.
    """
    config, count = distilling.config, distilling.pipe.transformer.num_classes
    images = build_images(of_one_size(config.pictures(distilling.source)))
    names = tuple(distilling.pipe.config.class_names)[:count]  # one without classes may name some
    labels, known = model_labels(images.class_names, names, count)
    if not known:
        raise UserError(
            f"data: its classes are {', '.join(images.class_names)}, the teacher's are "
            f"{', '.join(names) or f'{count} without names'}; they must be the same"
        )
    return RealData(TrainingData(images, config.seed), torch.tensor(labels))
