"""JointPipeline: a DiffGenPipeline whose images and conditions are drawn together."""

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffgen.config.joint_given import IMAGE, adapters_place
from diffgen.config.sampling import TimeShift
from diffgen.config.source import resolve
from diffgen.guidance import Rule
from diffgen.joint.adapter import JointAdapter
from diffgen.joint.branches import Branches
from diffgen.joint.checks import check_given, check_numbers, check_walked
from diffgen.joint.denoise import JointDenoiser
from diffgen.joint.load import load_adapter
from diffgen.joint.pictures import Given, JointOutput, common_size
from diffgen.joint.walk import walk_jointly
from diffgen.lacon.conditions import Condition
from diffgen.pipeline import DiffGenPipeline
from diffgen.sampling.labels import label_tensor
from diffgen.sampling.noise import Generators, position_seeds
from diffgen.sampling.rules import rule_for
from diffgen.sampling.schedulers import set_steps, size_shift

__all__ = ["IMAGE", "Given", "JointOutput", "JointPipeline"]


class JointPipeline:
    """Draws images and their conditions jointly, or either from the other.

    Args:
        pipe: of the frozen model.
        adapters: each with its condition, all trained on this model; several may have been trained
            without knowing each other. They stay as they are: a drawing takes copies of those that
            are not where, and in the dtype in which, the model computes.

    Raises:
        ValueError: no adapters, two of one name, or one for a model of other width or depth. That
            it was trained on these weights ``load_adapter`` checks.
    """

    def __init__(
        self, pipe: DiffGenPipeline, adapters: Sequence[tuple[JointAdapter, Condition]]
    ) -> None:
        self.pipe = pipe
        model = pipe.transformer
        self.adapters = [adapter for adapter, _ in adapters]
        self.conditions = {condition.name: condition for _, condition in adapters}
        if not adapters or len(self.conditions) < len(adapters) or IMAGE in self.conditions:
            raise ValueError("adapters: give one or more, each of another condition")
        for adapter in self.adapters:
            own = (adapter.config.hidden_size, adapter.config.depth)
            due = (model.config.hidden_size, len(model.blocks))
            if own != due:
                raise ValueError(
                    f"adapters: one is for a model of width and depth {own}, not {due}"
                )

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        conditions: str | Sequence[str],
        adapters: str | Path | None = None,
        device: str | torch.device | None = None,
        **kwargs: Any,
    ) -> "JointPipeline":
        """Load a model and the adapters of ``conditions``.

        Args:
            pretrained_model_name_or_path: run folder, pipeline folder or hub id of the model.
            conditions: their names, or a single one, as in ``RUN/joint``.
            adapters: folder that holds a folder of each; None: where ``train/joint.py`` puts them.
            device: where to compute; None: the CPU.
            kwargs: as for ``DiffGenPipeline.from_pretrained``.

        Raises:
            UserError: there is no such model, or no adapter of its own for a condition.
        """
        source = str(pretrained_model_name_or_path)
        pipe = DiffGenPipeline.from_pretrained(source, **kwargs)
        if device is not None:
            pipe.to(device)
        given = None if adapters is None else Path(adapters)
        place, model = adapters_place(given, resolve(source), source), pipe.transformer
        names = [conditions] if isinstance(conditions, str) else conditions
        found = [load_adapter(place / name, model, "conditions", name) for name in names]
        return cls(pipe, found)

    @torch.no_grad()
    def __call__(
        self,
        class_labels: int | str | list[int | str] | Tensor | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 20,
        guidance_scale: float = 2.0,
        seed: int | None = None,
        generator: Generators | None = None,
        guidance: Rule | None = None,
        num_images: int | None = None,
        image_numbers: list[int] | None = None,
        time_shift: TimeShift = "none",
        *,
        given: Mapping[str, Given] | None = None,
        condition_scale: float = 0.0,
        weights: Sequence[float] | None = None,
        latent: bool = False,
        decode_batch_size: int = 8,
        decode_tiled: bool = False,
        on_step: Callable[[], object] = lambda: None,
    ) -> JointOutput:
        """Draw one image and one map of each condition per label.

        Args:
            class_labels: labels or class names, one per image; None: no class is told.
            height, width: of the images [pixels]; None: as what is given, else as trained.
            num_inference_steps: steps from noise to image.
            guidance_scale: classifier-free guidance of all branches; 1 turns it off.
            seed: image k and its conditions have the noise of (seed, k), whatever the batch; the
                images' is that of ``DiffGenPipeline``.
            generator, time_shift: as for ``DiffGenPipeline``.
            guidance: a guidance rule, instead of ``guidance_scale``; each branch has a run of its
                own.
            num_images: images to draw when no labels are given; None: as many as are given, or 1.
            image_numbers: the numbers k that go with ``seed``; None: 0, 1, ...
            given: what is known, by "image" or the name of a condition; the rest is drawn.
            condition_scale: how much more what the joint attention changes counts; costs a pass.
            weights: of each adapter's joint attention; None: 1.
            latent: leave images and maps as the model sees them, (B, C, h, w).
            decode_batch_size, decode_tiled: of a model of latents, as in ``LatentSpace.decode``.
            on_step: called after every evaluation of the model.

        Raises:
            ValueError: an argument is out of range or does not fit another; it is named.
            UserError: guidance is confined to an interval that holds none of the noise levels.
        """
        pipe, given = self.pipe, dict(given or {})
        weights = [1.0] * len(self.adapters) if weights is None else list(weights)
        check_given(given, self.conditions)
        check_numbers(weights, len(self.adapters), condition_scale, num_inference_steps)
        if getattr(guidance, "baseline", None) == "guide":
            raise ValueError("guidance: joint generation takes no guide, so no autoguidance")
        if given or not latent:
            pipe._check_decodable()
        if class_labels is None and num_images is None:
            num_images = max((one.count for one in given.values()), default=1)
        names, null = [IMAGE, *self.conditions], pipe.transformer.num_classes
        labels = label_tensor(class_labels, num_images, list(pipe.config.class_names), null)
        rule = rule_for(pipe, labels, guidance, guidance_scale, None)
        numbers = list(range(len(labels))) if image_numbers is None else image_numbers
        if len(numbers) != len(labels) or (image_numbers is not None and seed is None):
            raise ValueError(f"image_numbers {numbers}: give one for each image, and a seed")
        size, decoding = common_size(given, height, width), (decode_batch_size, decode_tiled)
        branches = Branches(pipe, self.conditions, given, numbers, size, *decoding)
        starts = [branches.start(name, seed, generator) for name in names]
        shift = size_shift(time_shift, starts[0].noise.shape[-2:], pipe.geometry.seen)
        set_steps(pipe.scheduler, num_inference_steps, pipe._execution_device, shift)
        draws = pipe.transformer.encoding.draws_always
        seeds = position_seeds(numbers, seed, generator) if draws else []
        denoise = self._denoiser(rule, labels, seeds, weights, condition_scale)
        check_walked(rule, denoise.denoiser, pipe.scheduler, starts, num_inference_steps)
        walked = walk_jointly(denoise, pipe.scheduler, starts, on_step)
        drawn = dict(zip(names, walked, strict=True))
        if not latent:
            drawn = {name: branches.shown(name, x0) for name, x0 in drawn.items()}
        return JointOutput(drawn.pop(IMAGE), drawn, self.conditions)

    def _denoiser(
        self, rule: Rule, labels: Tensor, seeds: list[int], weights: list[float], scale: float
    ) -> JointDenoiser:
        """The model and the adapters under ``rule``, where the model computes."""
        device, model = self.pipe._execution_device, self.pipe.transformer
        denoiser = self.pipe.denoiser(seeds)
        return JointDenoiser(
            denoiser,
            [at_work(adapter, device, model.dtype) for adapter in self.adapters],
            weights,
            [rule.begin(denoiser.process.prediction) for _ in (IMAGE, *self.conditions)],
            labels.to(device),
            model.num_classes,
            scale,
        )


def at_work(adapter: JointAdapter, device: torch.device, dtype: torch.dtype) -> JointAdapter:
    """``adapter`` itself if it is of this device and dtype, else a copy that is."""
    if (adapter.device, adapter.dtype) == (device, dtype):
        return adapter
    return copy.deepcopy(adapter).to(device, dtype)
