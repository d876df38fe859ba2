"""How whatever is trained beside a frozen model begins, goes on, and ends."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Generic

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from diffgen.commands.begin_training import begin_state, open_accelerator
from diffgen.commands.left_out import tell_left_out
from diffgen.commands.load import CHANGED
from diffgen.config.beside import C, Settled
from diffgen.config.stored import read_json
from diffgen.data.hub import HubStream
from diffgen.data.order import Sample
from diffgen.data.source import ImageSource
from diffgen.device import on_cpu
from diffgen.errors import SharedError, UserError
from diffgen.files import locked, write_json
from diffgen.group import Group
from diffgen.lacon.conditions import Condition
from diffgen.lacon.training import MappedData, model_labels
from diffgen.models.vae import LatentSpace
from diffgen.pipeline import DiffGenPipeline
from diffgen.signals import Interrupted
from diffgen.training.checkpoint import TrainingState
from diffgen.training.checkpoints import Checkpoints
from diffgen.training.loop import Hooks, Loop
from diffgen.training.run_folder import RunFolder


@dataclass(frozen=True)
class Training(Generic[C]):
    """One process's part of a training beside a model."""

    settled: Settled[C]
    condition: Condition
    accelerator: Accelerator
    group: Group
    lock: ExitStack
    """Holds that of the folder."""

    @property
    def folder(self) -> RunFolder:
        """Of what is trained."""
        return RunFolder(self.settled.out)

    def begin(self, model: nn.Module, data: MappedData, backbone: str) -> TrainingState:
        """The state of the trained ``model``, fresh or resumed, in a folder that is opened for it.

        ``backbone``: fingerprint of the frozen model.

        Raises:
            UserError: the folder is another's, or what is in it cannot be gone on with.
        """
        config, folder = self.settled.config, self.folder
        if len(set(self.group.everyones(backbone))) > 1:
            raise SharedError(CHANGED.format(config.source))
        with self.group.together():
            if self.group.main:
                self.lock.enter_context(locked(folder.path))
                open_folder(self.settled, data.images, backbone, folder)
            names = data.images.class_names
            return begin_state(config, model, self.accelerator, folder, names, data.count)

    def loop(
        self,
        model: nn.Module,
        objective: Callable[[nn.Module, Sample], Tensor],
        data: MappedData,
        state: TrainingState,
        preview: Callable[[TrainingState], object],
        parts: Callable[[], Mapping[str, tuple[float, float]]] = dict,
    ) -> None:
        """Train ``model``, or what of it ``state`` holds; see ``Loop``."""
        Loop(
            settings=self.settled.config.train,
            accelerator=self.accelerator,
            group=self.group,
            data=data,
            model=self.accelerator.prepare(model),
            objective=objective,
            state=state,
            folder=self.folder,
            # What is still in training would be taken for finished elsewhere: it stays here.
            hooks=Hooks(sample=preview),
            parts=parts,
        ).run()

    def end(self, report: Callable[[], object], left: str) -> None:
        """``report`` on the main process when the training is done; ``left``: what else does."""
        if self.group.main:
            try:
                report()
            except Interrupted as stop:
                said = f"the training is finished, the same command {left}"
                raise Interrupted(stop.signum, said) from None


def train_beside(
    config: C,
    find: Callable[[C], Condition],
    run: Callable[[Training[C]], None],
    suffix: str = "",
) -> None:
    """Join the other processes, find out what is trained where, and ``run`` that.

    Args:
        config: as the command got it.
        find: the condition it asks for.
        run: builds everything, then writes.
        suffix: of the name of the folder, behind the condition's.

    Raises:
        UserError: anything a user can mend; see its message.
        Interrupted: a signal came; see its message.
    """
    group = Group.join(cpu=on_cpu(config.device))
    with group.together():
        condition = find(config)
        settled = config.settled(condition.name + suffix)
        accelerator = open_accelerator(config.train, config.device, settled.out)
    with ExitStack() as lock:
        try:
            run(Training(settled, condition, accelerator, group, lock))
        except (SharedError, Interrupted):
            accelerator.end_training()
            raise
        accelerator.end_training()


def open_folder(
    settled: Settled[C], images: ImageSource | HubStream, backbone: str, folder: RunFolder
) -> None:
    """Make the folder, or check that what it holds is of this model; tell what is left out.

    ``origin.json`` tells the model by its weights.

    Raises:
        UserError: it holds another's; what differs is named.
    """
    file = folder.path / "origin.json"
    newest = Checkpoints(folder.path).newest()
    if newest is not None:
        missing = f"{file} is gone, which tells what {newest} was trained on"
        if read_json(file, "out", missing).get("backbone") != backbone:
            raise UserError(
                f"source: {settled.config.source} is another model than {folder.path} was trained "
                "on, or has other weights by now; choose another --out"
            )
    folder.open(settled.config)
    write_json(file, {"backbone": backbone})
    tell_left_out(images, folder)
    if settled.replaced:
        why = "conditions belong to pictures of one size, and of drawn ones to whole pictures"
        print(f"data.crop: center instead of {settled.replaced}; {why}")


def tell_size(
    training: Training[C], what: str, trained: nn.Module, model: nn.Module, more: str = ""
) -> None:
    """Print how many parameters ``trained`` has, called ``what``, and ``more``."""
    count, share = size_of(trained, model)
    said = f"{count:,} parameters, {share:.1%} of the model's"
    said = ", ".join(filter(None, [said, more]))
    training.accelerator.print(f"{what} of {training.condition.name}: {said}")


def size_of(trained: nn.Module, model: nn.Module) -> tuple[int, float]:
    """Parameters of ``trained``, and their share of those of ``model``."""
    count, whole = (sum(p.numel() for p in one.parameters()) for one in (trained, model))
    return count, count / whole


def encoder(pipe: DiffGenPipeline) -> Callable[[Tensor], Tensor] | None:
    """Pictures to what the model sees, the mode of the posterior; None: it sees pixels."""
    form = pipe.latent_format
    return None if form is None else LatentSpace(pipe.vae, form).encode


def known_labels(training: Training[C], images: ImageSource | HubStream) -> Tensor:
    """The model's label of each class of the images."""
    source = training.settled.source
    labels, known = model_labels(images.class_names, source.class_names, source.num_classes)
    if not known:
        training.accelerator.print("data: its classes are not the model's, which is told none")
    return torch.tensor(labels)
