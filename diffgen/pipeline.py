"""DiffGenPipeline: a trained model as a diffusers pipeline, drawing at any size."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import diffusers
import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from safetensors import SafetensorError
from torch import Tensor

from diffgen.config.distilled import Distilled
from diffgen.config.process import ProcessConfig, process_of
from diffgen.config.sampling import TimeShift
from diffgen.config.source import resolve
from diffgen.config.vae import LatentFormat, own_format
from diffgen.data.pixels import to_output
from diffgen.errors import UserError
from diffgen.guidance import Constraint, Rule
from diffgen.models.dit import DiT
from diffgen.models.fit import check_stored
from diffgen.models.vae import LatentSpace, check_fit
from diffgen.processes import build_process
from diffgen.publish import upload
from diffgen.sampling.adopted import diffusers_parts
from diffgen.sampling.few_steps import Asked, steps_and_scale
from diffgen.sampling.geometry import Geometry
from diffgen.sampling.guided import Denoiser
from diffgen.sampling.labels import label_tensor
from diffgen.sampling.late import checked
from diffgen.sampling.noise import Generators, initial_noise, position_seeds
from diffgen.sampling.output import ImageOutput, OutputType, check_decodable, check_output
from diffgen.sampling.rules import rule_for
from diffgen.sampling.schedulers import Scheduler, set_steps, size_shift
from diffgen.sampling.walk import walk
from diffgen.seeding import step_generators

HUB_OPTIONS = ("revision", "token", "cache_dir", "local_files_only", "force_download")


class DiffGenPipeline(DiffusionPipeline):
    """Draw images with a diffgen model.

    Args:
        transformer: the model.
        scheduler: a diffusers scheduler of build_scheduler; it also tells the noising process.
        class_names: names that ``class_labels`` may use, in label order.
        vae: the autoencoder of a model of latents.
        latent_format: the fields of a LatentFormat; None: a model of pixels, or with ``vae`` the
            VAE's own normalisation.
        distilled: the fields of a Distilled, of a model that draws in few steps; its scheduler is
            ``build_scheduler("lcm", ...)``. None: an ordinary model.

    Raises:
        ValueError: transformer, vae and latent_format do not fit each other, or distilled has
            wrong fields.
    """

    model_cpu_offload_seq = "transformer->vae"
    _optional_components: ClassVar[list[str]] = ["vae"]

    def __init__(
        self,
        transformer: DiT,
        scheduler: Scheduler,
        class_names: list[str] | None = None,
        vae: AutoencoderKL | None = None,
        latent_format: dict[str, Any] | None = None,
        distilled: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        own = own_format(dict(vae.config)) if vae is not None else None
        form = LatentFormat.model_validate(dict(latent_format)) if latent_format else own
        check_fit(transformer.config.in_channels, form, own)
        self.register_modules(transformer=transformer, scheduler=scheduler, vae=vae)
        few = Distilled.model_validate(dict(distilled)) if distilled else None
        self.register_to_config(
            class_names=list(class_names or []),
            latent_format=form and form.model_dump(),
            distilled=few and few.model_dump(mode="json"),
        )

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, **kwargs: Any
    ) -> "DiffGenPipeline":
        """Load a run folder, a pipeline folder (also one of diffusers' DiTPipeline) or a hub id.

        Keywords are diffusers', such as ``vae=`` for a model of latents that comes without.

        Raises:
            UserError: there is no such source, it holds no diffgen pipeline, or weights of
                another architecture than its configuration says.
        """
        hub = {name: kwargs.pop(name) for name in HUB_OPTIONS if name in kwargs}
        source = resolve(str(pretrained_model_name_or_path), hub=hub)
        if source.diffusers:
            pipe = cls(**diffusers_parts(source, **kwargs))
            pipe._run = None
            return pipe
        if "transformer" not in kwargs:
            check_stored(source.pipeline / "transformer")
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
        return upload(self, repo_id, private, token, commit_message)

    @property
    def process_config(self) -> ProcessConfig:
        """The noising process, as the settings of the scheduler and the model tell it."""
        scheduler = {**self.scheduler.config, "_class_name": type(self.scheduler).__name__}
        return process_of(scheduler, self.transformer.config)

    @property
    def latent_format(self) -> LatentFormat | None:
        """How the model's latents come from the VAE's; None: a model of pixels."""
        stated = self.config.latent_format
        return LatentFormat.model_validate(dict(stated)) if stated else None

    @property
    def distilled(self) -> Distilled | None:
        """The few steps it was distilled to; None: an ordinary model."""
        stated = self.config.distilled
        return Distilled.model_validate(dict(stated)) if stated else None

    @property
    def geometry(self) -> Geometry:
        """Sizes of its images, and what the model sees of them."""
        model, form = self.transformer.config, self.latent_format
        factor = form.factor if form else 1
        return Geometry(model.in_channels, model.patch_size, tuple(model.sample_size), factor)

    def decode(self, latents: Tensor, batch_size: int = 8, tiled: bool = False) -> Tensor:
        """The model's x0 as images; that of a model of pixels is one already.

        Args:
            latents: (B, C, h, w).
            batch_size, tiled: as in ``LatentSpace.decode``.

        Returns:
            (B, 3, H, W) fp32 in about [-1, 1].

        Raises:
            ValueError: the model is one of latents and the pipeline has no VAE.
        """
        self._check_decodable()
        form = self.latent_format
        if form is None:
            return latents
        return LatentSpace(self.vae, form).decode(latents, batch_size, tiled)

    def _check_decodable(self) -> None:
        check_decodable(self.transformer.config.in_channels, self.latent_format, self.vae)

    @torch.no_grad()
    def __call__(
        self,
        class_labels: int | str | list[int | str] | Tensor | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        seed: int | None = None,
        generator: Generators | None = None,
        latents: Tensor | None = None,
        output_type: OutputType = "pil",
        guidance: Rule | None = None,
        num_images: int | None = None,
        image_numbers: list[int] | None = None,
        return_dict: bool = True,
        time_shift: TimeShift = "none",
        guide: "DiffGenPipeline | None" = None,
        constraints: Sequence[Constraint] = (),
        recurrence: int = 1,
    ) -> Any:
        """Draw one image per label.

        Args:
            class_labels: labels or class names, one per image; None: unconditional.
            height, width: of the images [pixels], multiples of ``geometry.multiple``; None: as
                trained.
            num_inference_steps: steps from noise to image; None: 20, or the fewest a distilled
                model was trained for.
            guidance_scale: classifier-free guidance; 1 turns it off. None: 2, or 1 for a distilled
                model, which takes no other.
            seed: image k has the noise of (seed, k), at the start and on the way, whatever the
                batch.
            generator: torch's way of seeding, instead of ``seed``.
            latents: (B, C, h, w) initial noise as the model sees it, instead of both.
            output_type: see ImageOutput.
            guidance: a guidance rule, instead of ``guidance_scale``: see ``diffgen.guidance``.
                Released DiT, SiT and FiT are guided on their first channels unless the rule says.
            num_images: images to draw when no labels are given; None: 1.
            image_numbers: the numbers k that go with ``seed``; None: 0, 1, ...
            return_dict: False returns the images in a tuple.
            time_shift: "sqrt" shifts a flow's noise levels by the root of how many more pixels
                the images have than those of training.
            guide: the weaker model of ``AutoGuidance``, for the same images and classes.
            constraints: what the images shall match, see ``diffgen.guidance.late``.
            recurrence: how often a step is walked at which a constraint acts.

        Returns:
            ImageOutput, or a tuple of its one field.

        Raises:
            ValueError: an argument is out of range or does not fit another; it is named.
        """
        check_output(output_type)
        if output_type != "latent":
            self._check_decodable()
        if class_labels is None and num_images is None and latents is not None:
            num_images = len(latents)
        names, null = list(self.config.class_names), self.transformer.num_classes
        labels = label_tensor(class_labels, num_images, names, null)
        asked = Asked(num_inference_steps, guidance_scale, guidance, guide, constraints, time_shift)
        steps, scale = steps_and_scale(self.distilled, self.scheduler, asked)
        rule = rule_for(self, labels, guidance, scale, guide)
        numbers = list(range(len(labels))) if image_numbers is None else image_numbers
        if len(numbers) != len(labels) or (image_numbers is not None and seed is None):
            raise ValueError(f"image_numbers {numbers}: give one for each image, and a seed")
        noise = initial_noise(numbers, self.geometry, (height, width), seed, generator, latents)
        constraints = checked(constraints, recurrence, noise)
        if guide is not None:
            guide.geometry.shape(height, width)
        step_noise = generator if seed is None else step_generators(seed, numbers)
        pipes = [self] if guide is None else [self, guide]
        draws = any(pipe.transformer.encoding.draws_always for pipe in pipes)
        seeds = position_seeds(numbers, seed, generator) if draws else []
        shift = size_shift(time_shift, noise.shape[-2:], self.geometry.seen)
        set_steps(self.scheduler, steps, self._execution_device, shift)
        x0 = self._walk(noise, labels, rule, step_noise, seeds, guide, constraints, recurrence)
        images = x0 if output_type == "latent" else to_output(self.decode(x0), output_type)
        self.maybe_free_model_hooks()
        return ImageOutput(images=images) if return_dict else (images,)

    def denoiser(self, position_seeds: list[int]) -> Denoiser:
        """The model and its process; the seeds (B,) are for an encoding that draws positions."""
        model = self.transformer.eval()
        process = build_process(self.process_config, model.convention, model.config.prediction)
        seeds = position_seeds if model.encoding.draws_always else None
        shift = self.distilled.timestep_shift if self.distilled else 1.0
        return Denoiser(model, process, seeds, timestep_shift=shift)

    def _walk(
        self,
        noise: Tensor,
        labels: Tensor,
        rule: Rule,
        step_noise: Generators | None,
        position_seeds: list[int],
        guide: "DiffGenPipeline | None",
        constraints: Sequence[Constraint],
        recurrence: int,
    ) -> Tensor:
        """From ``noise`` (B, C, h, w) to the model's x0, same shape, by the scheduler's steps."""
        with self.progress_bar(total=len(self.scheduler.timesteps)) as bar:
            return walk(
                self.denoiser(position_seeds),
                self.scheduler,
                rule,
                noise.to(self._execution_device),
                labels.to(self._execution_device),
                self.transformer.num_classes,
                bar.update,
                step_noise,
                guide and guide.denoiser(position_seeds),
                constraints,
                recurrence,
            )


# diffusers.DiffusionPipeline looks the class a folder names up in its own module.
diffusers.DiffGenPipeline = DiffGenPipeline
