"""``nitro``: the teacher's images, the regression, the adversarial stage; each is resumed."""

from contextlib import ExitStack

from accelerate import Accelerator

from diffgen.commands.begin_training import begin_state, open_accelerator
from diffgen.commands.guide import load_guide, same_weights
from diffgen.commands.load import CHANGED, load_pipeline
from diffgen.commands.nitro.adversarial import train_student
from diffgen.commands.nitro.distillation import Distillation
from diffgen.commands.nitro.origin import check_origin, note_origin
from diffgen.commands.nitro.pairs import prepare_pairs, take_over
from diffgen.commands.nitro.real import real_data
from diffgen.commands.nitro.scores import extractor_of
from diffgen.commands.nitro.sheet import previewer
from diffgen.config.guidance import AutoGuidanceConfig
from diffgen.config.nitro import NitroConfig
from diffgen.config.source import Source, resolve
from diffgen.device import on_cpu
from diffgen.errors import SharedError, UserError
from diffgen.files import locked
from diffgen.group import Group
from diffgen.models.beside import fingerprint
from diffgen.models.dit import DiT
from diffgen.nitro.objective import Regression
from diffgen.nitro.pairs import PairData, Pairs
from diffgen.signals import Interrupted
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
        open_accelerator(
            config.regression.train, config.device, folder.path, field="regression.train"
        )  # asked only whether it can be shared: both stages compute alike
        accelerator = open_accelerator(config.train, config.device, folder.path)
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
            if same_weights(pipe, guide):
                raise UserError(
                    "pairs.guidance.guide: it is the model itself, which guides nowhere"
                )
        teacher = fingerprint(pipe.transformer)
        if group.main:
            check_origin(folder.path, config.source, teacher)
            folder.open(config)
            note_origin(folder.path, teacher)
    if len(set(group.everyones(teacher))) > 1:
        raise SharedError(CHANGED.format(config.source))
    return Distillation(config, source, accelerator, group, folder, pipe, teacher, guide)


def distil(distilling: Distillation) -> None:
    """All stages, in order; what is finished is kept.

    What the last one needs is opened first: that it cannot be shows before hours are spent.
    """
    main = distilling.group.main
    with distilling.group.together():
        real = real_data(distilling) if distilling.config.real == "data" else None
        extractor = extractor_of(distilling) if main else None
        if main:
            take_over(distilling)
    pairs = prepare_pairs(distilling)
    begun = regress(distilling, pairs)
    distilling.accelerator.free_memory()
    train_student(distilling, begun, pairs, real, extractor)


def regress(distilling: Distillation, pairs: Pairs) -> DiT:
    """The regression; the student with its averaged weights."""
    config, group = distilling.config.regression, distilling.group
    folder = RunFolder(distilling.folder.path / "regression")
    data = PairData(pairs, distilling.config.seed)
    with group.together():
        folder.path.mkdir(exist_ok=True)
        model = distilling.student()
        names = tuple(distilling.pipe.config.class_names)
        state = begin_state(config, model, distilling.accelerator, folder, names, data.count)
        averaged = distilling.student()
    before, counts = state.seen, distilling.config.counts

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
        hooks=Hooks(sample=previewer(distilling, pairs, averaged, folder.samples)),
        remedy="lower --regression.optimizer rates in a new --out may help",
    ).run()
    pipe = distilling.pipeline(averaged, state.ema.preview.weights, counts)
    with group.together():
        place = folder.pipeline
        if group.main and (state.seen > before or not place.exists()):
            distilling.save(pipe, place)
    return averaged
