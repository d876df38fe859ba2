"""Metrics as `torchmetrics.Metric`s: what a training loop updates and processes synchronise."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from typing_extensions import Self

from diffgen.metrics.colour import MEASURES, colour_measures
from diffgen.metrics.frechet import frechet_from_moments
from diffgen.metrics.moments import Moments, gram, moments_from_sums


class _Exact(Metric):
    """A metric whose states keep their dtype; ``.to(dtype)`` and ``.half()`` reach the rest."""

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> Self:
        # torchmetrics guards its states against .half() but casts them in .to(dtype).
        states = [name for name in self._defaults if name not in exclude_state]
        self._computed = None  # a cached figure would be cast as well
        super()._apply(fn, exclude_state=list(self._defaults))
        for name in states:
            setattr(self, name, _move(getattr(self, name), fn))
            self._defaults[name] = _move(self._defaults[name], fn)
        return self


class _TwoSets(_Exact):
    """A metric of real and fake features, which a network makes of what `update` is given."""

    is_differentiable = False
    full_state_update = False

    def __init__(self, feature: nn.Module | None, num_features: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num_features < 1:
            raise ValueError(f"num_features must be at least 1, got {num_features}")
        self.feature = feature
        self.num_features = num_features
        self.eval()

    def update(self, inputs: Tensor, real: bool) -> None:
        """Add a batch.

        Args:
            inputs: what `feature` takes, or (N, num_features) floating features without one.
            real: which side the batch belongs to.

        Raises ValueError if the features are not (N, num_features). NaN is found by `compute`,
        because looking for it here would wait for the device at every batch.
        """
        with torch.no_grad():
            features = inputs if self.feature is None else self.feature(inputs)
            if features.ndim != 2 or features.shape[1] != self.num_features:
                raise ValueError(
                    f"features must be (N, {self.num_features}), got {tuple(features.shape)}"
                )
            self._add("real" if real else "fake", features)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, also where a parent module's `.train()` arrives here."""
        super().train(False)
        return self

    @abstractmethod
    def _add(self, side: str, features: Tensor) -> None:
        """Add (N, num_features) to the states of `side`, "real" or "fake"."""


class FrechetDistance(_TwoSets):
    """Fréchet distance of the images or features seen so far, over all processes.

    State: for the real and the fake side a count, sum x, (D,), and sum x x^T, (D, D). They are
    float64 and stay so through `.to(dtype)`, `.half()` and `set_dtype`, which reach only the
    extractor. Memory is 32 D² bytes with the reset values, whatever the number of images.

    Args:
        feature: network from the images given to `update` to (N, num_features) features, kept
            in evaluation mode; None if `update` is given the features themselves.
        num_features: D.
        **kwargs: torchmetrics' own, such as `sync_on_compute`.

    Raises ValueError for num_features below 1.
    """

    higher_is_better = False

    real_count: Tensor
    real_sum: Tensor
    real_outer: Tensor
    fake_count: Tensor
    fake_sum: Tensor
    fake_outer: Tensor

    def __init__(self, feature: nn.Module | None, num_features: int, **kwargs: Any) -> None:
        super().__init__(feature, num_features, **kwargs)
        total = torch.zeros(num_features, dtype=torch.float64)
        for side in ("real", "fake"):
            self.add_state(f"{side}_count", torch.tensor(0), dist_reduce_fx="sum")
            self.add_state(f"{side}_sum", total, dist_reduce_fx="sum")
            self.add_state(f"{side}_outer", torch.outer(total, total), dist_reduce_fx="sum")

    def compute(self) -> Tensor:
        """d² as a float64 scalar; ValueError with fewer than 2 images on a side, or on NaN."""
        distance = frechet_from_moments(self._moments("real"), self._moments("fake"))
        return torch.tensor(distance, dtype=torch.float64, device=self.real_sum.device)

    def _add(self, side: str, features: Tensor) -> None:
        features = features.to(self.real_sum)
        sums = {
            "count": torch.tensor(len(features), device=features.device),
            "sum": features.sum(0),
            "outer": gram(features),
        }
        for name, value in sums.items():
            setattr(self, f"{side}_{name}", getattr(self, f"{side}_{name}") + value)

    def _moments(self, side: str) -> Moments:
        count = int(getattr(self, f"{side}_count"))
        total, outer = getattr(self, f"{side}_sum"), getattr(self, f"{side}_outer")
        try:
            return moments_from_sums(count, total, outer)
        except ValueError as error:
            raise ValueError(f"{side} images: {error}") from None


class OnFeatures(_TwoSets):
    """A function of all real and all fake features seen so far, over all processes.

        precision_and_recall = OnFeatures(partial(precision_recall, k=3), extractor, 2048)

    State: the features themselves, float32 on the CPU wherever the metric is and whatever it is
    cast to: 4 D bytes an image, twice that in `compute`, and over W processes W times as much
    there, as each then holds all features. For sets that outgrow this, call the function.

    Args:
        function: from real features, (N, D), and fake features, (M, D), both float32 on the
            metric's device, to a float or to a dataclass of floats; it may refuse them by
            ValueError.
        feature: network from the images given to `update` to (N, num_features) features, kept
            in evaluation mode; None if `update` is given the features themselves.
        num_features: D.
        **kwargs: torchmetrics' own, such as `sync_on_compute`.

    Raises ValueError for num_features below 1.
    """

    real_features: list[Tensor]
    fake_features: list[Tensor]

    def __init__(
        self,
        function: Callable[[Tensor, Tensor], Any],
        feature: nn.Module | None,
        num_features: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(feature, num_features, **kwargs)
        self.function = function
        self.add_state("real_features", [], dist_reduce_fx="cat")
        self.add_state("fake_features", [], dist_reduce_fx="cat")

    def compute(self) -> Tensor | dict[str, Tensor]:
        """What the function returns, as float64 scalars: one, or by the dataclass's fields.

        Raises what the function does, such as ValueError on too few features or on NaN.
        """
        value = self.function(self._joined("real_features"), self._joined("fake_features"))
        if is_dataclass(value):
            return {field.name: self._scalar(getattr(value, field.name)) for field in fields(value)}
        return self._scalar(value)

    def _add(self, side: str, features: Tensor) -> None:
        # A copy: the caller may go on to overwrite its batch.
        getattr(self, f"{side}_features").append(features.to("cpu", torch.float32, copy=True))

    def _joined(self, state: str) -> Tensor:
        """(N, D) float32 on the metric's device, also for N = 0."""
        none = torch.empty(0, self.num_features, dtype=torch.float32, device="cpu")
        return torch.cat([none, *getattr(self, state)]).to(self.device)

    def _scalar(self, value: float) -> Tensor:
        return torch.tensor(value, dtype=torch.float64, device=self.device)

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> Self:
        # The features stay where and what they are; the network and the device follow.
        return super()._apply(fn, exclude_state=list(self._defaults))

    def _sync_dist(self, *args: Any, **kwargs: Any) -> None:
        # A process without images sends (0, D), and features travel between devices, for NCCL.
        for state in self._defaults:
            setattr(self, state, [self._joined(state)])
        super()._sync_dist(*args, **kwargs)
        for state in self._defaults:
            setattr(self, state, [getattr(self, state).cpu()])


class Colour(_Exact):
    """Saturation, contrast, clipped pixels and colourfulness, averaged over the images seen so far.

    State, over all processes: a count and the float64 sums of ``colour_measures``, whatever the
    number of images.
    """

    is_differentiable = False
    full_state_update = False

    count: Tensor
    measure_sum: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        total = torch.zeros(len(MEASURES), dtype=torch.float64)
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("measure_sum", total, dist_reduce_fx="sum")

    def update(self, images: Tensor) -> None:
        """Add images (B, 3, H, W) uint8; ValueError for others."""
        self.measure_sum = self.measure_sum + colour_measures(images).sum(0).to(self.measure_sum)
        self.count = self.count + len(images)

    def compute(self) -> dict[str, Tensor]:
        """Float64 scalars by the names of ``MEASURES``; ValueError without images."""
        if not int(self.count):
            raise ValueError("no images were given to Colour")
        return dict(zip(MEASURES, self.measure_sum / self.count, strict=True))


def _move(value: Any, fn: Callable[[Tensor], Tensor]) -> Tensor:
    """`fn(value)` without its change of dtype."""
    moved = fn(value)
    return moved if moved.dtype == value.dtype else value.to(moved.device)
