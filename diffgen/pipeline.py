"""DiffGenPipeline: a trained model as a diffusers pipeline, drawing at any size."""

import math
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import diffusers
import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput
from huggingface_hub import HfApi
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from diffgen.card import model_card
from diffgen.config.process import ProcessConfig, process_of
from diffgen.config.source import resolve
from diffgen.data.pixels import to_pil, to_uint8
from diffgen.errors import UserError
from diffgen.guidance import CFG, Rule
from diffgen.models.dit import DiT
from diffgen.processes import build_process
from diffgen.sampling.schedulers import Generators, Scheduler, set_steps
from diffgen.sampling.walk import walk
from diffgen.seeding import image_noise, step_generators

HUB_OPTIONS = ("revision", "token", "cache_dir", "local_files_only", "force_download")
OutputType = Literal["pil", "np", "pt", "latent"]


@dataclass
class ImageOutput(BaseOutput):
    """What the pipeline returns."""

    images: list[Image.Image] | np.ndarray | Tensor
    """A list of pictures ("pil"), (B, H, W, C) fp32 in [0, 1] ("np"), (B, C, H, W) fp32 in
    [0, 1] ("pt"), or the model's own x0 (B, C, H, W) fp32 ("latent")."""


class DiffGenPipeline(DiffusionPipeline):
    """Draw images with a diffgen model.

    Args:
        transformer: the model.
        scheduler: a diffusers scheduler of build_scheduler; it also tells the noising process.
        class_names: names that ``class_labels`` may use, in label order.
    """

    model_cpu_offload_seq = "transformer"

    def __init__(
        self, transformer: DiT, scheduler: Scheduler, class_names: list[str] | None = None
    ) -> None:
        super().__init__()
        self.register_modules(transformer=transformer, scheduler=scheduler)
        self.register_to_config(class_names=list(class_names or []))

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, **kwargs: Any
    ) -> "DiffGenPipeline":
        """Load a run folder, a pipeline folder or a hub id.

        Raises:
            UserError: there is no such source, or it holds no diffgen pipeline.
        """
        hub = {name: kwargs.pop(name) for name in HUB_OPTIONS if name in kwargs}
        source = resolve(str(pretrained_model_name_or_path), hub=hub)
        try:
            pipe = super().from_pretrained(str(source.pipeline), **kwargs)
        except (OSError, SafetensorError, RuntimeError) as error:
            raise UserError(f"source: {source.pipeline} cannot be loaded: {error}") from error
        pipe._run = source.run
        return pipe

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        commit_message: str = "Upload a diffgen pipeline",
    ) -> str:
        """Upload the pipeline with a model card of its settings and figures.

        Args:
            repo_id: ``owner/name`` on the hub; made if it does not exist.
            private, token, commit_message: as in huggingface_hub.

        Returns:
            The address of the commit.
        """
        api = HfApi(token=token)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            card = model_card(
                repo_id,
                dict(self.transformer.config),
                list(self.config.class_names),
                getattr(self, "_run", None),
            )
            (Path(folder) / "README.md").write_text(card, encoding="utf-8")
            info = api.upload_folder(
                repo_id=repo_id, folder_path=folder, commit_message=commit_message
            )
        return str(info)

    @property
    def process_config(self) -> ProcessConfig:
        """The noising process, as the settings of the scheduler and the model tell it."""
        scheduler = {**self.scheduler.config, "_class_name": type(self.scheduler).__name__}
        return process_of(scheduler, self.transformer.config)

    @torch.no_grad()
    def __call__(
        self,
        class_labels: int | str | list[int | str] | Tensor | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 20,
        guidance_scale: float = 2.0,
        seed: int | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        output_type: OutputType = "pil",
        guidance: Rule | None = None,
        num_images: int | None = None,
        image_numbers: list[int] | None = None,
        return_dict: bool = True,
    ) -> Any:
        """Draw one image per label.

        Args:
            class_labels: labels or class names, one per image; None: unconditional.
            height, width: size of the images [pixels]; None: as trained. Multiples of the patch.
            num_inference_steps: steps from noise to image.
            guidance_scale: classifier-free guidance; 1 turns it off.
            seed: image k has the noise of (seed, k), at the start and on the way, whatever the
                batch.
            generator: torch's way of seeding, instead of ``seed``.
            latents: (B, C, H, W) initial noise, instead of both.
            output_type: see ImageOutput.
            guidance: a guidance rule, instead of ``guidance_scale``.
            num_images: images to draw when no labels are given; None: 1.
            image_numbers: the numbers k that go with ``seed``; None: 0, 1, ...
            return_dict: False returns the images in a tuple.

        Returns:
            ImageOutput, or a tuple of its one field.

        Raises:
            ValueError: an argument is out of range or does not fit another; it is named.
        """
        count = num_images
        if count is None:
            count = 1 if latents is None else len(latents)
        if count < 1:
            raise ValueError(f"num_images must be 1 or more, not {count}")
        if not 0 <= guidance_scale < math.inf:
            raise ValueError(f"guidance_scale must be 0 or more, not {guidance_scale}")
        labels = self._labels(class_labels, count)
        if num_images not in (None, len(labels)):
            raise ValueError(f"num_images {num_images} contradicts {len(labels)} class_labels")
        rule = guidance or CFG(guidance_scale)
        if bool((labels == self.transformer.num_classes).all()):
            rule = CFG(1.0)  # nothing to guide towards
        if num_inference_steps < 1:
            raise ValueError(f"num_inference_steps must be 1 or more, not {num_inference_steps}")
        if output_type not in ("pil", "np", "pt", "latent"):
            raise ValueError(f"output_type {output_type!r} is not one of pil, np, pt, latent")
        numbers = list(range(len(labels))) if image_numbers is None else image_numbers
        if len(numbers) != len(labels) or (image_numbers is not None and seed is None):
            raise ValueError(f"image_numbers {numbers}: give one for each image, and a seed")
        noise = self._noise(numbers, height, width, seed, generator, latents)
        step_noise: Generators = generator if seed is None else step_generators(seed, numbers)
        set_steps(self.scheduler, num_inference_steps, self._execution_device)
        model = self.transformer.eval()
        process = build_process(self.process_config, model.convention, model.config.prediction)
        with self.progress_bar(total=len(self.scheduler.timesteps)) as bar:
            x0 = walk(
                model,
                process,
                self.scheduler,
                rule,
                noise.to(self._execution_device),
                labels.to(self._execution_device),
                model.num_classes,
                bar.update,
                step_noise,
            )
        images = _deliver(x0, output_type)
        return ImageOutput(images=images) if return_dict else (images,)

    def _labels(self, class_labels: Any, count: int) -> Tensor:
        """(B,) int64; class names are looked up, None becomes the null class."""
        null = self.transformer.num_classes
        if class_labels is None:
            return torch.full((count,), null)
        if isinstance(class_labels, Tensor):
            class_labels = class_labels.tolist()
        if isinstance(class_labels, int | str):
            class_labels = [class_labels]
        names = list(self.config.class_names)
        labels = []
        for label in class_labels:
            if isinstance(label, str):
                if label not in names:
                    raise ValueError(f"class_labels: {label!r} is unknown; known are {names}")
                label = names.index(label)
            if not 0 <= int(label) <= null:
                raise ValueError(f"class_labels: {label} is not in 0 to {null} ({null}: null)")
            labels.append(int(label))
        if not labels:
            raise ValueError("class_labels is empty")
        return torch.tensor(labels)

    def _noise(
        self,
        numbers: list[int],
        height: int | None,
        width: int | None,
        seed: int | None,
        generator: torch.Generator | list[torch.Generator] | None,
        latents: Tensor | None,
    ) -> Tensor:
        """(B, C, H, W) fp32 initial noise of images ``numbers`` from the source that was given."""
        count = len(numbers)
        if sum(source is not None for source in (seed, generator, latents)) > 1:
            raise ValueError("give one of seed, generator and latents")
        config = self.transformer.config
        shape = (
            config.in_channels,
            config.sample_size[0] if height is None else height,
            config.sample_size[1] if width is None else width,
        )
        patch = config.patch_size
        for name, side in (("height", shape[1]), ("width", shape[2])):
            if side < patch or side % patch:
                raise ValueError(f"{name} {side} is not a positive multiple of the patch {patch}")
        if latents is not None:
            sized = shape if height or width else (shape[0], *latents.shape[2:])
            if latents.shape != (count, *sized) or any(s % patch for s in latents.shape[2:]):
                raise ValueError(
                    f"latents are {tuple(latents.shape)}, but {(count, *sized)} is needed, "
                    f"in multiples of the patch {patch}"
                )
            return latents.float()
        if seed is not None:
            return image_noise(seed, numbers, shape)
        if isinstance(generator, list):
            if len(generator) != count:
                raise ValueError(f"{len(generator)} generators were given for {count} images")
            draws = [torch.randn(shape, generator=g, device=g.device) for g in generator]
            return torch.stack(draws)
        device = "cpu" if generator is None else generator.device
        return torch.randn((count, *shape), generator=generator, device=device)


def _deliver(x0: Tensor, output_type: OutputType) -> list[Image.Image] | np.ndarray | Tensor:
    if output_type == "latent":
        return x0
    if output_type == "pil":
        return to_pil(to_uint8(x0))
    unit = (x0 / 2 + 0.5).clamp(0, 1)
    return unit if output_type == "pt" else unit.permute(0, 2, 3, 1).cpu().numpy()


def load_pipeline(source: str | Path, device: str = "auto", dtype: str = "fp32") -> DiffGenPipeline:
    """Load ``source`` and put it where and how it shall compute.

    Raises:
        UserError: no such source, no such device, or bf16 without a GPU.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda was asked for, but torch sees no GPU; use auto or cpu")
    place = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    if dtype == "bf16" and place == "cpu":
        raise UserError("dtype: bf16 needs a GPU; on a CPU diffgen computes in fp32")
    diffusers.utils.logging.disable_progress_bar()  # the commands show bars of their own
    pipe = DiffGenPipeline.from_pretrained(source)
    pipe.set_progress_bar_config(disable=True)
    if dtype == "bf16":
        pipe.transformer.bfloat16()
    return pipe.to(place)


# diffusers.DiffusionPipeline looks the class a folder names up in its own module.
diffusers.DiffGenPipeline = DiffGenPipeline
