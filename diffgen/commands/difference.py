"""``convert --add-difference``: what distilling one model changed, added to another.

So NitroFusion (Chen et al. 2024) passes its few steps on to other models of the same base, without
training: target + (student - base), parameter by parameter.
"""

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from diffgen.config.convert import ConvertConfig
from diffgen.config.process import noise_path
from diffgen.errors import UserError
from diffgen.files import write_folder
from diffgen.pipeline import DiffGenPipeline

OWN = ("sample_size",)
"""Settings that decide no parameter."""


def add_difference(config: ConvertConfig) -> None:
    """Write the pipeline of ``config.source`` distilled as ``config.add_difference`` is.

    It keeps its class names, VAE and latent format; its scheduler is the distilled model's.

    Raises:
        UserError: the three models are not of one architecture, one is missing, or the difference
            is nothing.
    """
    assert config.add_difference is not None
    assert config.base is not None
    target = DiffGenPipeline.from_pretrained(config.source)
    student = DiffGenPipeline.from_pretrained(config.add_difference)
    base = DiffGenPipeline.from_pretrained(config.base)
    for field, other in (("add_difference", student), ("base", base)):
        for problem in misfits(target, other):
            raise UserError(f"{field}: {getattr(config, field)} is another model: {problem}")
    share = add(target.transformer, student.transformer, base.transformer)
    if share == 0:
        raise UserError(f"base: {config.base} has the weights of {config.add_difference}")
    few = student.distilled
    assert few is not None  # the configuration was checked
    pipe = DiffGenPipeline(
        target.transformer,
        student.scheduler,
        list(target.config.class_names),
        target.vae,
        target.config.latent_format,
        few.model_dump(mode="json"),
    )
    write_folder(config.target, pipe.save_pretrained)
    print(
        f"{config.target}: {config.source} distilled to {few.in_words} steps; the difference added "
        f"is {share:.3g} of the norm of {config.base}"
    )
    print(f"draw with: diffgen sample {shlex.quote(str(config.target))} --steps {few.fewest}")


def misfits(target: DiffGenPipeline, other: DiffGenPipeline) -> Iterator[str]:
    """Settings, then parameters, in which ``other`` is not of the architecture of ``target``."""
    own, theirs = (_settings(pipe) for pipe in (target, other))
    for name in {**own, **theirs}:
        if own.get(name) != theirs.get(name):
            yield f"its {name} is {theirs.get(name)}, that of the source {own.get(name)}"
    shapes, others = (_shapes(pipe.transformer) for pipe in (target, other))
    for name in {**shapes, **others}:
        if shapes.get(name) != others.get(name):
            yield f"its {name} is {others.get(name)}, that of the source {shapes.get(name)}"


def _settings(pipe: DiffGenPipeline) -> dict[str, Any]:
    """What decides a model's parameters and what they are trained for."""
    stated = {k: v for k, v in pipe.transformer.config.items() if k[0] != "_" and k not in OWN}
    return {**stated, "noising process": noise_path(pipe.process_config)}


def _shapes(model: nn.Module) -> Mapping[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


@torch.no_grad()
def add(target: nn.Module, student: nn.Module, base: nn.Module) -> float:
    """target += student - base, in place, over parameters of the same names and shapes.

    The sum is taken in fp64 and rounded once: where target and base are the same model, it is the
    student to the bit.

    Returns:
        |student - base| / |base|, L2 norms over all parameters.
    """
    theirs, from_ = dict(student.named_parameters()), dict(base.named_parameters())
    moved, whole = 0.0, 0.0
    for name, parameter in target.named_parameters():
        start: Tensor = from_[name].double()
        difference = theirs[name].double() - start
        parameter.copy_(parameter.double() + difference)
        moved += float(difference.square().sum())
        whole += float(start.square().sum())
    return (moved / whole) ** 0.5
