"""A tiny teacher, a student of it, and all that trains it."""

import copy
from typing import Any

import torch

from diffgen.config.process import DDPMConfig, FlowConfig, ProcessConfig
from diffgen.models.dit import DiT
from diffgen.nitro.features import Backbone, spread_taps
from diffgen.nitro.heads import HeadShape
from diffgen.nitro.objective import Adversarial
from diffgen.nitro.pool import Compartments, Pool, head_types
from diffgen.nitro.student import Student
from diffgen.nitro.turn import Turns
from diffgen.processes import Process, build_process
from tests.tiny import build

LEVELS = [0.01, 0.25, 0.5, 0.75]
BATCH = 4


def teacher(**options: Any) -> DiT:
    """Of images of 16 x 16, 8 x 8 tokens; frozen."""
    model = build(sample_size=(16, 16), prediction="x0", **options).transformer.eval()
    return model.requires_grad_(False)


def process_of(model: DiT, config: ProcessConfig | None = None) -> Process:
    """Of the teacher."""
    return build_process(config or FlowConfig(), model.convention, model.config.prediction)


def student_of(model: DiT) -> DiT:
    """A copy, to be trained."""
    return copy.deepcopy(model).requires_grad_(True)


def calls(model: DiT, config: DDPMConfig | None = None, shift: float = 1.0) -> Student:
    """How a student of ``model`` is called."""
    return Student(process_of(model, config), shift, model.encoding.draws_always, seed=5)


def objective(model: DiT, courses: Any = ((0, 1),), share: int = 1, **options: Any) -> Adversarial:
    """NitroFusion's iteration against heads on ``model``, with all three types of them."""
    places = spread_taps(len(model.blocks))
    compartments = Compartments(len(LEVELS), 3, len(places), 96)
    settings = {"loss": "softplus", "r1": 0.0, "refresh": 0.0, **options}
    return Adversarial(
        student=calls(model),
        backbone=Backbone(model, process_of(model), places),
        pool=Pool(HeadShape(32, 16, 1), compartments.total, 0, 1e-3, (0.5, 0.99)),
        types=head_types(True, True),
        turns=Turns(0, len(LEVELS), compartments, share, model.grid, 0.5, courses),
        levels=LEVELS,
        batch_size=BATCH,
        null_label=model.num_classes,
        device=torch.device("cpu"),
        **settings,
    )


def batch(numbers: range, seed: int = 0) -> dict[str, Any]:
    """Samples ``numbers`` as ``PairData`` collates them; each a function of its number."""
    drawn = [torch.Generator().manual_seed(1000 * seed + n) for n in numbers]
    images, noise = (
        torch.stack([torch.randn(3, 16, 16, generator=g) for g in drawn]) for _ in "ab"
    )
    number = torch.tensor(list(numbers))
    return {"image": images, "noise": noise, "label": number % 3, "number": number}
