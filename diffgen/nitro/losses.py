"""What heads and student minimise, from the logits the heads give."""

import torch
import torch.nn.functional as F
from torch import Tensor

from diffgen.config.nitro_stages import AdversarialLoss


def critic_loss(kind: AdversarialLoss, real: Tensor, fake: Tensor) -> Tensor:
    """The heads' loss for logits of the teacher's images and of the student's, of any one shape.

    linear: E[D(fake) - D(real)], as the paper prints it (its superscripts swapped), with
    nothing that bounds it. hinge: E[max(0, 1 - D(real)) + max(0, 1 + D(fake))] (Lim and Ye 2017).
    softplus: the non-saturating loss (Goodfellow et al. 2014), as DMD2 uses it.
    """
    match kind:
        case "linear":
            return (fake - real).mean()
        case "hinge":
            return (F.relu(1 - real) + F.relu(1 + fake)).mean()
        case "softplus":
            return (F.softplus(-real) + F.softplus(fake)).mean()


def student_loss(kind: AdversarialLoss, fake: Tensor) -> Tensor:
    """-E[D(fake)], or for softplus E[softplus(-D(fake))]."""
    return F.softplus(-fake).mean() if kind == "softplus" else -fake.mean()


def r1_penalty(logits: Tensor, features: Tensor) -> Tensor:
    """Mean squared gradient of each head's mean logit by its features, summed over an image.

    R1 (Mescheder et al. 2018) on what a head sees, as in adversarial diffusion distillation (Sauer
    et al. 2023): it needs no second pass through the teacher.

    Args:
        logits: (n, B, places) of ``features`` (n, B, h, w, width), which require gradients.
    """
    score = logits.mean(dim=-1).sum()
    (slope,) = torch.autograd.grad(score, features, create_graph=True)
    return slope.square().sum(dim=(2, 3, 4)).mean()
