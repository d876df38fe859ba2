"""R^2 against the time, and where constraints end."""

import pytest
import torch
from torch import Tensor, nn

from diffgen.lacon.conditions import EDGE_F1, MASK, PALETTE, Condition
from diffgen.lacon.curve import TIMES, cut_off, r2_curve
from tests.aligners import fresh, pictures, trained
from tests.tiny import build

GREY = Condition("grey", 1, False, lambda x: x.mean(dim=1, keepdim=True), EDGE_F1)
LABELS = torch.tensor([0, 1, 2, 3, 0, 1])
X0 = pictures(6, (8, 8), seed=0)
NOISE = torch.randn(X0.shape, generator=torch.Generator().manual_seed(1))


class Oracle(nn.Module):
    """Reads the mean of the channels of the model's x0."""

    blocks = (0,)

    def forward(self, seen) -> Tensor:
        return seen.x0.mean(dim=1, keepdim=True)


class TestCurve:
    def test_it_is_the_share_of_the_spread_that_is_read(self):
        """Of the model's own x0, counted again here at every time."""
        denoiser, maps = build().denoiser([]), GREY.of(X0)
        ticks = []
        curve = r2_curve(
            *(denoiser, Oracle(), GREY, X0, maps, LABELS, NOISE),
            on_time=lambda: ticks.append(1),
            batch_size=4,
        )
        assert list(curve) == [f"{t:g}" for t in TIMES]
        assert len(ticks) == len(TIMES) == 20
        spread = (maps - maps.mean(dim=0)).square().sum()
        for t in (0.05, 0.5, 1.0):
            with torch.no_grad():
                x0 = denoiser((1 - t) * X0 + t * NOISE, t, LABELS, None).x0
            error = (GREY.of(x0) - maps).square().sum()
            assert curve[f"{t:g}"] == pytest.approx(float(1 - error / spread), abs=1e-4)

    def test_binary_maps_are_compared_as_maps(self):
        class Sure(Oracle):
            def forward(self, seen):
                return 100 * (2 * self.answer - 1)

        aligner, maps = Sure(), (X0[:, :1] > 0).float()
        aligner.answer = maps
        curve = r2_curve(
            *(build().denoiser([]), aligner, MASK, X0, maps, LABELS, NOISE), times=[0.5]
        )
        assert curve == {"0.5": pytest.approx(1)}

    def test_what_is_read_fades_with_the_noise(self):
        pipe = build()
        denoiser = pipe.denoiser([])
        aligner = trained(denoiser, fresh(pipe, PALETTE), PALETTE, 60)
        x0 = pictures(32, (8, 8), seed=2)
        noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(3))
        labels = torch.zeros(32, dtype=torch.int64)
        times = [0.2, 0.6, 0.95]
        curve = r2_curve(denoiser, aligner, PALETTE, x0, PALETTE.of(x0), labels, noise, times=times)
        first, middle, last = curve.values()
        assert 1 > first > middle > last
        assert first > 0.6


class TestCutOff:
    def test_it_is_the_greatest_time_of_nine_tenths_of_the_best(self):
        curve = {"0.1": 0.5, "0.2": 0.6, "0.3": 0.58, "0.4": 0.55, "0.5": 0.53, "0.6": 0.2}
        assert cut_off(curve) == 0.4
        assert cut_off({**curve, "0.5": 0.54}) == 0.5

    def test_a_dip_on_the_way_does_not_matter(self):
        assert cut_off({"0.1": 0.6, "0.2": 0.1, "0.3": 0.6, "0.4": 0.0}) == 0.3

    def test_an_aligner_that_reads_nothing_never_acts(self):
        assert cut_off({"0.1": -0.2, "0.5": 0.0, "1": -0.1}) == 1
