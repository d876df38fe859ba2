"""R^2 against the time, and where constraints end."""

import pytest
import torch
from torch import Tensor, nn

from diffgen.lacon import curve
from diffgen.lacon.conditions import EDGE_F1, MASK, PALETTE, Condition
from diffgen.lacon.curve import Examples, cut_off, r2_curve, r_squared, read_maps
from diffgen.lacon.training import with_positions
from diffgen.sampling.guided import Denoiser
from tests.aligners import fresh, pictures, trained
from tests.late import RANDOM
from tests.tiny import build

GREY = Condition("grey", 1, False, lambda x: x.mean(dim=1, keepdim=True), EDGE_F1)


def examples_of(denoiser: Denoiser, condition: Condition, count: int = 6, seed: int = 0):
    """Smooth pictures, three classes in turn."""
    x0 = pictures(count, (8, 8), seed)
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed + 1))
    return Examples(denoiser, x0, condition.of(x0), torch.arange(count) % 3, noise)


class Oracle(nn.Module):
    """Reads the mean of the channels of the model's x0."""

    blocks = (0,)

    def forward(self, seen) -> Tensor:
        return seen.x0.mean(dim=1, keepdim=True)


class TestCurve:
    def test_r_squared_is_1_of_the_truth_and_0_of_the_mean_map(self):
        wanted = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
        mean = wanted.mean(dim=0, keepdim=True).expand_as(wanted)
        assert r_squared(wanted, wanted) == 1
        assert r_squared(mean, wanted) == pytest.approx(0, abs=1e-6)
        assert r_squared(2 * mean - wanted, wanted) == pytest.approx(-3, abs=1e-5)

    def test_it_is_the_share_of_the_spread_that_is_read(self, monkeypatch):
        """Of the model's own x0, counted again here at every time."""
        monkeypatch.setattr(curve, "BATCH", 4)
        denoiser = build().denoiser([])
        _, x0, maps, labels, noise = examples = examples_of(denoiser, GREY)
        found = r2_curve(examples, Oracle(), GREY, [0.05, 0.5, 1.0])
        assert list(found) == ["0.05", "0.5", "1"]
        for t in (0.05, 0.5, 1.0):
            with torch.no_grad():
                read = GREY.find(denoiser((1 - t) * x0 + t * noise, t, labels, None).x0)
            assert found[f"{t:g}"] == pytest.approx(r_squared(read, maps), abs=1e-4)

    def test_binary_maps_are_compared_as_maps(self):
        class Sure(Oracle):
            def forward(self, seen):
                return 100 * (2 * self.answer - 1)

        aligner, examples = Sure(), examples_of(build().denoiser([]), MASK)
        aligner.answer = examples.maps
        assert r2_curve(examples, aligner, MASK, [0.5]) == {"0.5": pytest.approx(1)}

    def test_what_is_read_fades_with_the_noise(self):
        pipe = build()
        denoiser = pipe.denoiser([])
        aligner = trained(denoiser, fresh(pipe, PALETTE), PALETTE, 60)
        examples = examples_of(denoiser, PALETTE, 32, seed=2)
        first, middle, last = r2_curve(examples, aligner, PALETTE, [0.2, 0.6, 0.95]).values()
        assert 1 > first > middle > last
        assert first > 0.6

    def test_drawn_positions_belong_to_the_pictures_whatever_the_batch(self, monkeypatch):
        pipe = build(position=RANDOM)
        aligner = fresh(pipe, PALETTE)
        one, other = (
            examples_of(with_positions(pipe.denoiser([]), seed, list(range(5))), PALETTE, 5)
            for seed in (0, 1)
        )
        whole = read_maps(one, aligner, PALETTE, 0.5)
        assert not torch.allclose(read_maps(other, aligner, PALETTE, 0.5), whole, atol=1e-4)
        monkeypatch.setattr(curve, "BATCH", 2)
        torch.testing.assert_close(read_maps(one, aligner, PALETTE, 0.5), whole)


class TestCutOff:
    def test_it_is_the_greatest_time_of_nine_tenths_of_the_best(self):
        found = {"0.1": 0.5, "0.2": 0.6, "0.3": 0.58, "0.4": 0.55, "0.5": 0.53, "0.6": 0.2}
        assert cut_off(found) == 0.4
        assert cut_off({**found, "0.5": 0.54}) == 0.5

    def test_a_dip_on_the_way_does_not_matter(self):
        assert cut_off({"0.1": 0.6, "0.2": 0.1, "0.3": 0.6, "0.4": 0.0}) == 0.3

    def test_an_aligner_that_reads_nothing_never_acts(self):
        assert cut_off({"0.1": -0.2, "0.5": 0.0, "1": -0.1}) == 1
        assert cut_off({"0.1": -0.2, "0.5": 0.01}) == 0.5
