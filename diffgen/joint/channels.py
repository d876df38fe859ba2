"""What joint generation is compared with: the model with its condition in further channels.

A copy of the model gets the clean condition beside each noisy image, and is trained whole. It draws
images of a condition, and nothing else.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from diffgen.config.sampling import TimeShift
from diffgen.config.stored import read_json
from diffgen.data.order import Sample
from diffgen.errors import UserError
from diffgen.guidance import Rule
from diffgen.joint.training import position_generators, seen_pairs
from diffgen.lacon.training import Reader
from diffgen.models.beside import fingerprint
from diffgen.models.dit import DiT
from diffgen.models.fit import check_stored
from diffgen.models.vae import LatentSpace
from diffgen.pipeline import DiffGenPipeline
from diffgen.processes import Process
from diffgen.sampling.noise import initial_noise, position_seeds
from diffgen.sampling.schedulers import set_steps, size_shift
from diffgen.sampling.walk import walk
from diffgen.seeding import step_generators
from diffgen.training.draws import draw
from diffgen.transfer import to_device


@torch.no_grad()
def widened(model: DiT) -> DiT:
    """A copy of ``model`` that takes as many input channels again, and does nothing with them yet.

    Tokens are channel-major, so what the new channels come to is the second half of a token.
    """
    stated = {name: value for name, value in model.config.items() if not name.startswith("_")}
    channels = stated["in_channels"]
    stated["out_channels"] = stated["out_channels"] or channels
    wide = DiT(**{**stated, "in_channels": 2 * channels}).to(model.device)
    weights = model.state_dict()
    name = "x_embedder.proj.weight"
    weights[name] = torch.cat([weights[name], torch.zeros_like(weights[name])], dim=1)
    wide.load_state_dict(weights)
    wide.attention = model.attention
    return wide


class Conditioned(nn.Module):
    """A widened model called as the model it comes from, on images of one ``condition``.

    Args:
        model: the widened one.
        condition: (B, C, h, w) clean, as the model sees it; n B images are n passes of B.
    """

    def __init__(self, model: nn.Module, condition: Tensor) -> None:
        super().__init__()
        self.model, self.condition = model, condition

    def forward(self, x: Tensor, t: Tensor, y: Tensor, **told: Any) -> Tensor:
        """``x`` (n B, C, h, w) -> (n B, C_out, h, w)."""
        passes = self.condition.repeat(len(x) // len(self.condition), 1, 1, 1)
        return self.model(torch.cat([x, passes.to(x)], dim=1), t, y, **told)


@dataclass(frozen=True)
class ChannelsObjective:
    """The loss of a batch; all randomness in it is a function of (seed, sample number)."""

    process: Process
    reader: Reader
    """Pictures and the data's own maps -> both as the model's size has them."""
    labels: Tensor
    """(classes of the data,) int64, the model's label of each."""
    null_label: int
    seed: int
    class_dropout: float
    """Share of labels replaced by the null class."""

    def __call__(self, model: nn.Module, batch: Sample) -> Tensor:
        """Mean over the images, 0-d fp32; ``model``: a widened one."""
        numbers = torch.as_tensor(batch["number"]).tolist()
        x0, condition = seen_pairs(self.reader, batch).chunk(2)
        drawn = draw(self.process.draw_time, self.seed, numbers, tuple(x0.shape[1:]), "channels")
        t, drop, eps = (to_device(part, x0.device) for part in drawn)
        labels = to_device(self.labels[torch.as_tensor(batch["label"])], x0.device)
        labels = labels.masked_fill(drop < self.class_dropout, self.null_label)
        told = {"generator": position_generators(self.seed, numbers)}
        conditioned = Conditioned(model, condition)
        return self.process.loss(conditioned, x0, eps, t, labels, **told).mean()


def load_channels(folder: Path | str, model: DiT, field: str = "channels") -> DiT:
    """The widened copy of ``model`` in ``folder``, on its device, in fp32, its weights frozen.

    Args:
        folder: where ``train/joint.py --method channels`` put it, ``RUN/joint/NAME-channels``.
        model: the one it was trained from.
        field: the option it was asked for by, for complaints.

    Raises:
        UserError: there is none, it is damaged, or it comes from another model.
    """
    place, script = Path(folder) / "channels", "train/joint.py --method channels"
    missing = f"{folder} holds no finished model of {script} (no channels/config.json)"
    read_json(place / "config.json", field, missing)
    origin = Path(folder) / "origin.json"
    if read_json(origin, field, f"{origin} is missing").get("backbone") != fingerprint(model):
        raise UserError(
            f"{field}: {folder} comes from another model, or from these weights at another time; "
            f"train it again with {script}"
        )
    try:
        check_stored(place)
        found: DiT = DiT.from_pretrained(place, use_safetensors=True)
    except (UserError, OSError, SafetensorError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).removeprefix("source: ").splitlines()[0]
        raise UserError(f"{field}: {reason}") from None
    return found.requires_grad_(False).eval().to(model.device)


@torch.no_grad()
def draw_from_channels(
    pipe: DiffGenPipeline,
    model: DiT,
    condition: Tensor,
    labels: Tensor,
    rule: Rule,
    *,
    numbers: list[int],
    seed: int,
    steps: int,
    time_shift: TimeShift = "none",
) -> Tensor:
    """Draw an image of each picture of a condition.

    Args:
        pipe: of the model that ``model``, the widened one, comes from; its scheduler is walked.
        condition: (B, 3, H, W) in [-1, 1], see ``joint.maps.as_picture``.
        labels: (B,) int64; the number of classes is the null class.
        rule: of guidance; a pipeline's ``rule_for`` fits it to the model.
        numbers, seed, steps, time_shift: as for the pipeline.

    Returns:
        x0 (B, C, h, w) fp32, which ``pipe.decode`` shows.
    """
    device, size = pipe.device, (condition.shape[-2], condition.shape[-1])
    condition = condition.to(device)
    if pipe.latent_format is not None:
        condition = LatentSpace(pipe.vae, pipe.latent_format).encode(condition)
    noise = initial_noise(numbers, pipe.geometry, size, seed)
    shift = size_shift(time_shift, noise.shape[-2:], pipe.geometry.seen)
    set_steps(pipe.scheduler, steps, device, shift)
    conditioned = cast(DiT, Conditioned(model, condition))  # called alike
    return walk(
        pipe.denoiser(position_seeds(numbers, seed))._replace(model=conditioned),
        pipe.scheduler,
        rule,
        noise.to(device),
        labels.to(device),
        pipe.transformer.num_classes,
        generator=step_generators(seed, numbers),
    )
