"""``nitro``: the teacher's images, the regression, the adversarial stage; each is resumed."""

from contextlib import ExitStack

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from diffgen.commands.begin_training import begin_state, open_accelerator
from diffgen.commands.guide import load_guide
from diffgen.commands.load import CHANGED, load_pipeline
from diffgen.commands.nitro.adversarial import train_student
from diffgen.commands.nitro.distillation import Distillation
from diffgen.commands.nitro.pairs import prepare_pairs, take_over
from diffgen.commands.nitro.sheet import draw_sheet
from diffgen.config.guidance import AutoGuidanceConfig
from diffgen.config.nitro import NitroConfig
from diffgen.config.source import Source, resolve
from diffgen.device import on_cpu
from diffgen.errors import SharedError
from diffgen.files import locked
from diffgen.group import Group
from diffgen.models.beside import fingerprint
from diffgen.nitro.objective import Regression
from diffgen.nitro.pairs import PairData, Pairs
from diffgen.signals import Interrupted
from diffgen.training.checkpoint import TrainingState
from diffgen.training.loop import Hooks, Loop
from diffgen.training.run_folder import RunFolder


def nitro(config: NitroConfig) -> None:
    """Distil, or go on distilling.

    Raises:
        UserError: anything a user can mend; see its message.
        Interrupted: a signal came; see its message.
    """
    group = Group.join(cpu=on_cpu(config.device))
    with group.together():
        source = resolve(config.source)
        config = config.settled(source)
        folder = RunFolder(config.place(source))
        loops = config.regression.train, config.train
        accelerator = [open_accelerator(one, config.device, folder.path) for one in loops][-1]
    with ExitStack() as lock:
        try:
            with group.together():
                if group.main:
                    lock.enter_context(locked(folder.path))
            distil(opened(config, source, accelerator, group, folder))
        except (SharedError, Interrupted):
            accelerator.end_training()
            raise
        accelerator.end_training()


def opened(
    config: NitroConfig, source: Source, accelerator: Accelerator, group: Group, folder: RunFolder
) -> Distillation:
    """The teacher loaded, and the folder made or compared with what it holds."""
    with group.together():
        pipe = load_pipeline(config.source, config.device, vae=config.vae).pipe
        pipe.transformer.requires_grad_(False)
        guidance = config.pairs.guidance
        guide = None
        if isinstance(guidance, AutoGuidanceConfig):
            guide = load_guide(guidance, config.source, config.device, "fp32")
        teacher = fingerprint(pipe.transformer)
        if group.main:
            folder.open(config)
    if len(set(group.everyones(teacher))) > 1:
        raise SharedError(CHANGED.format(config.source))
    return Distillation(config, source, accelerator, group, folder, pipe, teacher, guide)


def distil(distilling: Distillation) -> None:
    """All stages, in order; what is finished is kept."""
    with distilling.group.together():
        if distilling.group.main:
            take_over(distilling)
    pairs = prepare_pairs(distilling)
    begun = regress(distilling, pairs)
    train_student(distilling, pairs, begun)


def regress(distilling: Distillation, pairs: Pairs) -> dict[str, torch.Tensor]:
    """The first stage; its averaged weights by name."""
    config, group = distilling.config.regression, distilling.group
    folder = RunFolder(distilling.folder.path / "regression")
    data = PairData(pairs, distilling.config.seed)
    with group.together():
        folder.path.mkdir(exist_ok=True)
        set_seed(distilling.config.seed)
        model = distilling.student()
        names = tuple(distilling.pipe.config.class_names)
        state = begin_state(config, model, distilling.accelerator, folder, names, data.count)
        averaged = distilling.student()
    before, counts = state.seen, distilling.config.counts

    def preview(state: TrainingState) -> None:
        pipe = distilling.pipeline(averaged, state.ema.preview.weights, counts)
        draw_sheet(distilling, pairs, pipe, folder.samples / f"images-{state.seen:09d}.png")

    Loop(
        settings=config.train,
        accelerator=distilling.accelerator,
        group=group,
        data=data,
        model=distilling.accelerator.prepare(model),
        objective=Regression(
            distilling.calls, config.later, distilling.config.times, distilling.device
        ),
        state=state,
        folder=folder,
        hooks=Hooks(sample=preview),
        remedy="lower --regression.optimizer rates in a new --out may help",
    ).run()
    weights = state.ema.preview.weights
    with group.together():
        place = folder.pipeline
        if group.main and (state.seen > before or not place.exists()):
            distilling.save(distilling.pipeline(averaged, weights, counts), place)
    return weights
