"""FiTv2 against the released code: a padded batch, every extrapolation, guidance on 12 of 16."""

import pytest
import torch

from diffgen.guidance import CFG, FirstChannels
from diffgen.models.tokens import unpatchify
from diffgen.processes import Flow
from diffgen.sampling.guided import Denoiser, GuidedDenoiser

VARIANTS = {
    "linear": {"scaling": "pi"},
    "ntk-aware": {"scaling": "ntk"},
    "ntk-by-parts": {"scaling": "ntk_by_parts"},
    "yarn": {"scaling": "yarn"},
    "ntk-aware-pro1": {"scaling": "ntk", "temperature": "log_side_2x"},
    "ntk-aware-pro2": {"scaling": "ntk", "temperature": "log_ratio_2x"},
}


def coordinates(grid):
    """The released (B, 2, N) column, row -> (B, N, 2) row, column."""
    return grid.flip(1).transpose(1, 2).float()


def close(found, expected):
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("form", ["padded", "packed"])
def test_a_batch_of_three_sizes(released_fitv2, form):
    model, golden = released_fitv2()
    mask, coords = golden["mask"].bool(), coordinates(golden["grid"])
    assert not mask.all()
    t, y, sizes = golden["t"], golden["y"], golden["sizes"]
    if form == "padded":
        out = model.forward_tokens(golden["x"], coords, t, y, mask=mask, sizes=sizes)
        return close(out, golden["output"])
    flat = model.forward_tokens(
        golden["x"][mask], coords[mask], t, y, sizes=sizes, lengths=mask.sum(1)
    )
    return close(flat, golden["output"][mask])


@torch.no_grad()
@pytest.mark.parametrize("axes", ["coupled", "decoupled"])
@pytest.mark.parametrize("name", VARIANTS)
def test_beyond_the_trained_grid(released_fitv2, name, axes):
    model, golden = released_fitv2(**VARIANTS[name], decoupled=axes == "decoupled")
    assert model.grid == (8, 8)
    inputs = [golden[f"extrapolate.{part}"] for part in ("x", "grid", "t", "y")]
    x, grid, t, y = inputs
    out = model.forward_tokens(x, coordinates(grid), t, y)
    close(out, golden[f"extrapolate.{name}.{axes}"])
    unlike = (out - golden["extrapolate.normal"]).abs().max()
    assert unlike > 1e-3


@torch.no_grad()
def test_beyond_the_trained_grid_unscaled(released_fitv2):
    model, golden = released_fitv2()
    x, grid, t, y = (golden[f"extrapolate.{part}"] for part in ("x", "grid", "t", "y"))
    close(model.forward_tokens(x, coordinates(grid), t, y), golden["extrapolate.normal"])


@torch.no_grad()
def test_guidance_on_twelve_of_sixteen_features_is_that_of_three_channels(released_fitv2):
    """By way of x0, as diffgen guides: x0 = x + (1 - t) v for a model that counts to the image."""
    model, golden = released_fitv2()
    rows, columns = golden["extrapolate.size"].tolist()
    x = unpatchify(golden["extrapolate.x"], rows, columns, 2)
    expected = unpatchify(golden["cfg3_first12of16"], rows, columns, 2)
    process = Flow(model.convention)
    channels = model.config.guidance_channels
    assert channels == 3
    run = FirstChannels(CFG(3.0), channels).begin()
    labels = golden["extrapolate.y"]
    denoise = GuidedDenoiser(Denoiser(model, process), run, labels, model.num_classes)
    t = 1 - float(golden["extrapolate.t"])
    x0 = denoise(x, t, True).x0
    torch.testing.assert_close((x0 - x) / t, expected, rtol=0, atol=1e-4)
