"""Real images in the place of the teacher's."""

from diffgen.commands.nitro.distillation import Distillation
from diffgen.config.beside import OwnDataConfig, of_one_size
from diffgen.config.command_line import load
from diffgen.config.places import run_folder
from diffgen.config.train import TrainConfig
from diffgen.data.order import TrainingData
from diffgen.data.source import build_images
from diffgen.errors import UserError


def real_data(distilling: Distillation) -> TrainingData:
    """Images of the configuration, or those the teacher's run was trained on.

    Raises:
        UserError: they cannot be read, or are of other classes than the teacher's.
    """
    config, run = distilling.config, run_folder(distilling.source)
    data = config.data
    if isinstance(data, OwnDataConfig):
        assert run is not None, "a teacher without a run names its data"
        data = load(TrainConfig, run / "config.yaml").data
    images = build_images(of_one_size(data))
    names = tuple(distilling.pipe.config.class_names)
    if distilling.pipe.transformer.num_classes and tuple(images.class_names) != names:
        raise UserError(
            f"data: its classes are {', '.join(images.class_names)}, the teacher's are "
            f"{', '.join(names)}; they must be the same"
        )
    return TrainingData(images, config.seed)
