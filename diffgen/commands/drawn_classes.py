"""Which class every image of an evaluation is drawn with."""

import torch

from diffgen.commands.real_images import Part
from diffgen.config.evaluate import EvaluateConfig
from diffgen.data.images import StoredImages
from diffgen.data.npz import NpzImages
from diffgen.metrics.read import Reading
from diffgen.sampling.batches import labels_in_turn
from diffgen.seeding import stream_generator

IN_TURN = "the classes in turn"
AS_REFERENCE = "as in the reference: image k has the class of its picture k"
AS_CONDITIONS = "as in the pictures of the conditions: image k has the class of picture k"
AT_RANDOM = "random classes, that of image k from (seed, k)"
FIXED = (IN_TURN, AS_REFERENCE, AS_CONDITIONS)
"""Rules under which the shares of the classes are not drawn at random."""


def classes_to_draw(
    config: EvaluateConfig,
    part: Part | None,
    real: Reading | None,
    names: tuple[str, ...],
    count: int,
) -> tuple[list[int], str]:
    """The class of every image to draw, and the rule in words.

    Where stored reference images are of the model's classes the images take their labels, so that
    unequal shares of the classes do not count against the model.

    Args:
        config: says which rule; its seed decides random classes.
        part: reference images; None: there are only statistics.
        real: what was seen of them.
        names: of the model's classes.
        count: images to draw.
    """
    if config.labels == "random" and names:
        every = [stream_generator(config.seed, "label", k) for k in range(count)]
        return [int(torch.randint(len(names), (), generator=g)) for g in every], AT_RANDOM
    stored = part is not None and isinstance(part.source, StoredImages | NpzImages)
    if config.labels == "auto" and stored and part and part.class_names and real:
        same = same_classes(real, names)
        if same:
            return [same[k % len(same)] for k in range(count)], AS_REFERENCE
    return labels_in_turn(count, len(names)), IN_TURN


def same_classes(real: Reading, names: tuple[str, ...]) -> list[int]:
    """A model's labels of reference images, by the names of their classes; []: it lacks one."""
    labels: list[int] = real.labels.tolist()
    known = range(len(real.class_names))
    if not set(real.class_names) <= set(names) or not set(labels) <= set(known):
        return []
    if real.class_names == names:  # also where two classes have one name
        return labels
    return [names.index(real.class_names[label]) for label in labels]
