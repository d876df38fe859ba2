"""What is trained beside the model for the evaluation: where it lies, of which pictures, how much.

So that a reader sees whether what is compared was trained alike.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import safe_open

from diffgen.commands.lacon_sweep.report import trained_on
from diffgen.commands.lacon_sweep.wanted import Wanted
from diffgen.commands.remade import training
from diffgen.commands.training_time import seconds
from diffgen.config.command_line import read_yaml
from diffgen.config.joint_eval import How, JointEvalConfig

FILES: Mapping[How, str] = {
    "given": "adapter",
    "joint": "adapter",
    "lacon": "aligner",
    "channels": "channels",
}
"""Below the folder of what draws images of a condition, its weights."""


class Module(NamedTuple):
    """What draws images of a condition beside the model."""

    condition: str
    """As it was asked for."""
    kind: str
    """adapter, aligner or channels."""
    folder: Path
    """Of its training."""

    @property
    def weights(self) -> Path:
        """The folder of its weights."""
        return self.folder / self.kind

    @property
    def settings(self) -> dict[str, Any]:
        """Of its training; {}: they are not there."""
        file = self.folder / "config.yaml"
        return read_yaml(file) if file.is_file() else {}


def modules(config: JointEvalConfig, wanted: Wanted) -> Iterator[Module]:
    """All that the evaluation draws with."""
    ways: list[How] = ["given", *config.baselines]
    for name, one in wanted.conditions.items():
        for how in ways:
            yield Module(name, FILES[how], config.folder(how, one.condition.name))


def held_out(config: JointEvalConfig, wanted: Wanted) -> bool:
    """Whether neither the model nor anything beside it was trained on the reference's pictures."""
    trainings = [training(config.source), *(one.settings for one in modules(config, wanted))]
    return not any(trained_on(config.reference, one) for one in trainings)


def budget(module: Module) -> dict[str, Any]:
    """What its training took; None: that is not known."""
    settings = module.settings
    train = settings.get("train", {})
    return {
        "images": train.get("images"),
        "batch_size": train.get("batch_size"),
        "optimizer": settings.get("optimizer", {}).get("kind"),
        "parameters": parameters(module.weights),
        "seconds": seconds(module.folder),
    }


def parameters(weights: Path) -> int:
    """Numbers in the weights of a folder, without loading them."""
    total = 0
    for file in weights.glob("*.safetensors"):
        with safe_open(file, "pt") as stored:
            for name in stored.keys():  # noqa: SIM118  (it is no mapping)
                count = 1
                for side in stored.get_slice(name).get_shape():
                    count *= side
                total += count
    return total
