"""JointPipeline: a DiffGenPipeline whose images and conditions are drawn together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from diffgen.config.sampling import TimeShift
from diffgen.guidance import Rule
from diffgen.joint.adapter import JointAdapter
from diffgen.joint.course import DRAWN, GIVEN, Course
from diffgen.joint.denoise import JointDenoiser
from diffgen.joint.maps import as_picture, from_picture
from diffgen.joint.walk import Branch, walk_jointly
from diffgen.lacon.conditions import Condition
from diffgen.models.vae import LatentSpace
from diffgen.pipeline import DiffGenPipeline
from diffgen.sampling.labels import label_tensor
from diffgen.sampling.noise import Generators, initial_noise, position_seeds
from diffgen.sampling.rules import rule_for
from diffgen.sampling.schedulers import set_steps, size_shift
from diffgen.seeding import step_generators, stream_seed

IMAGE = "image"
"""Name of the images' own branch."""


@dataclass(frozen=True)
class Given:
    """What is known of a branch.

    Raises:
        ValueError: a course that starts at noise and would make no use of the picture.
    """

    maps: Tensor
    """(B or 1, channels, H, W): images in [-1, 1], or maps of a condition in its own range."""
    course: Course | None = None
    """The part of the way that is walked; (0.3, 1) draws it anew from noise level 0.7 on, which
    refines rough maps and edits images. None: it stays as it is, with ``known`` drawn from noise.
    """
    known: Tensor | None = None
    """(B or 1, 1, H, W), 1 where it is kept, 0 where it is drawn anew; None: as ``course`` says."""

    def __post_init__(self) -> None:
        if self.known is None and self.way.start == 0:
            raise ValueError("a picture that is given, but drawn from noise, would not be used")
        if self.known is not None and self.way.start == 1:
            raise ValueError("known: a picture that stays as it is, is known everywhere")

    @property
    def way(self) -> Course:
        """The course, chosen."""
        return self.course or (GIVEN if self.known is None else DRAWN)


@dataclass(frozen=True)
class JointOutput:
    """What was drawn, or given."""

    images: Tensor
    """(B, 3, H, W) fp32 in [-1, 1]."""
    conditions: dict[str, Tensor] = field(default_factory=dict)
    """By name, (B, channels, H, W) fp32 in the condition's own range."""


class JointPipeline:
    """Draws images and their conditions jointly, or either from the other.

    Args:
        pipe: of the frozen model.
        adapters: each with its condition, all trained on this model; several may have been trained
            without knowing each other.

    Raises:
        ValueError: no adapters, two of one name, or one that was made for another model.
    """

    def __init__(
        self, pipe: DiffGenPipeline, adapters: Sequence[tuple[JointAdapter, Condition]]
    ) -> None:
        self.pipe = pipe
        self.adapters = [adapter.to(pipe.device).eval() for adapter, _ in adapters]
        self.conditions = {condition.name: condition for _, condition in adapters}
        model = pipe.transformer
        if not adapters or len(self.conditions) < len(adapters) or IMAGE in self.conditions:
            raise ValueError("adapters: give one or more, each of another condition")
        for adapter in self.adapters:
            own = (adapter.config.hidden_size, adapter.config.depth)
            due = (model.config.hidden_size, len(model.blocks))
            if own != due:
                raise ValueError(
                    f"adapters: one is for a model of width and depth {own}, not {due}"
                )

    @torch.no_grad()
    def __call__(
        self,
        class_labels: int | str | list[int | str] | Tensor | None = None,
        *,
        given: Mapping[str, Given] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 20,
        guidance_scale: float = 2.0,
        guidance: Rule | None = None,
        condition_scale: float = 0.0,
        weights: Sequence[float] | None = None,
        seed: int | None = None,
        generator: Generators | None = None,
        num_images: int | None = None,
        image_numbers: list[int] | None = None,
        time_shift: TimeShift = "none",
        latent: bool = False,
        on_step: Callable[[], object] = lambda: None,
    ) -> JointOutput:
        """Draw one image and one map of each condition per label.

        Args:
            class_labels: labels or class names, one per image; None: no class is told.
            given: what is known, by "image" or the name of a condition; the rest is drawn.
            height, width: of the images [pixels]; None: as what is given, else as trained.
            num_inference_steps: steps from noise to image.
            guidance_scale: classifier-free guidance of all branches; 1 turns it off.
            guidance: a guidance rule, instead of it; each branch has a run of its own.
            condition_scale: how much more what the joint attention changes counts; costs a pass.
            weights: of each adapter's joint attention; None: 1.
            seed, generator, image_numbers: as for ``DiffGenPipeline``.
            num_images: images to draw when no labels are given; None: 1.
            time_shift: as for ``DiffGenPipeline``.
            latent: leave images and maps as the model sees them.
            on_step: called after every evaluation of the model.

        Raises:
            ValueError: an argument is out of range or does not fit another; it is named.
        """
        pipe, given = self.pipe, dict(given or {})
        model, device = pipe.transformer, pipe._execution_device
        names = [IMAGE, *self.conditions]
        for name in given:
            if name not in names:
                raise ValueError(f"given: {name!r} is not one of {', '.join(names)}")
        labels = label_tensor(
            class_labels, num_images, list(pipe.config.class_names), model.num_classes
        ).to(device)
        rule = rule_for(pipe, labels, guidance, guidance_scale, None)
        weights = [1.0] * len(self.adapters) if weights is None else list(weights)
        if len(weights) != len(self.adapters):
            raise ValueError(f"weights: {len(weights)} for {len(self.adapters)} adapters")
        if num_inference_steps < 1:
            raise ValueError(f"num_inference_steps must be 1 or more, not {num_inference_steps}")
        numbers = list(range(len(labels))) if image_numbers is None else image_numbers
        size = self._size(given, height, width)
        branches = [
            self._branch(i, name, given.get(name), numbers, size, seed, generator)
            for i, name in enumerate(names)
        ]
        shift = size_shift(time_shift, branches[0].noise.shape[-2:], pipe.geometry.seen)
        set_steps(pipe.scheduler, num_inference_steps, device, shift)
        draws = model.encoding.draws_always
        denoise = JointDenoiser(
            pipe.denoiser(position_seeds(numbers, seed, generator) if draws else []),
            self.adapters,
            weights,
            [rule.begin(pipe.denoiser([]).process.prediction) for _ in names],
            labels,
            model.num_classes,
            condition_scale,
        )
        drawn = walk_jointly(denoise, pipe.scheduler, branches, on_step)
        if not latent:
            drawn = [pipe.decode(x0) for x0 in drawn]
        maps = {
            name: x0 if latent else from_picture(x0, condition)
            for (name, condition), x0 in zip(self.conditions.items(), drawn[1:], strict=True)
        }
        return JointOutput(drawn[0], maps)

    @staticmethod
    def _size(
        given: Mapping[str, Given], height: int | None, width: int | None
    ) -> tuple[int | None, int | None]:
        """Height and width of everything. Raises ValueError for pictures that differ."""
        sizes = {name: (one.maps.shape[-2], one.maps.shape[-1]) for name, one in given.items()}
        if height is not None and width is not None:
            sizes["height and width"] = (height, width)
        for name, size in sizes.items():
            first, wanted = next(iter(sizes.items()))
            if size != wanted:
                raise ValueError(
                    f"given: {name} is {size[0]}x{size[1]}, but {first} {wanted[0]}x{wanted[1]}"
                )
        return next(iter(sizes.values()), (height, width))

    def _branch(
        self,
        place: int,
        name: str,
        given: Given | None,
        numbers: list[int],
        size: tuple[int | None, int | None],
        seed: int | None,
        generator: Generators | None,
    ) -> Branch:
        """Branch ``place``; of one seed each has noise of its own, the images' that of sampling."""
        pipe, count = self.pipe, len(numbers)
        own = seed if seed is None or not place else stream_seed(seed, name, 0) % 2**32
        noise = initial_noise(numbers, pipe.geometry, size, own, generator)
        steps = generator if own is None else step_generators(own, numbers)
        noise = noise.to(pipe._execution_device)
        if given is None:
            return Branch(noise, DRAWN, generator=steps)
        maps = given.maps.to(noise).expand(count, -1, -1, -1)
        picture = maps if name == IMAGE else as_picture(maps, self.conditions[name])
        if pipe.latent_format is not None:
            picture = LatentSpace(pipe.vae, pipe.latent_format).encode(picture)
        known = given.known
        if known is not None:
            known = known.to(noise).expand(count, -1, -1, -1)
            known = -torch.nn.functional.adaptive_max_pool2d(-known, noise.shape[-2:])
        return Branch(noise, given.way, picture, known, steps)
