"""Resizes against the code they are named after, and against what can be told by hand."""

from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from timm.layers import resample_abs_pos_embed
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

from diffgen.config.resizes import Resize
from diffgen.data.pixels import to_pil
from diffgen.metrics.dinov2 import dinov2_positions
from diffgen.metrics.resizes import (
    pil_bicubic,
    resize,
    tf1_bilinear,
    torch_bicubic_antialias,
    torch_bilinear,
    torch_bilinear_antialias,
)

SIZES = [((32, 32), (299, 299)), ((48, 64), (29, 77)), ((301, 40), (100, 41)), ((7, 1), (1, 7))]


def pictures(height: int, width: int, count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


def row(*values: int) -> torch.Tensor:
    """One picture, one row high, the same in every channel."""
    return torch.tensor(values, dtype=torch.uint8).expand(1, 3, 1, -1)


@pytest.mark.parametrize(("size", "target"), SIZES)
def test_tf1_bilinear_is_torch_fidelitys_bit_for_bit(size, target):
    images = pictures(*size)
    theirs = interpolate_bilinear_2d_like_tensorflow1x(images.float(), target, align_corners=False)
    assert torch.equal(tf1_bilinear(images, target), theirs)


@pytest.mark.parametrize(("size", "target"), SIZES)
def test_torchs_are_torchs(size, target):
    images = pictures(*size)
    for ours, options in (
        (torch_bilinear, {"mode": "bilinear"}),
        (torch_bilinear_antialias, {"mode": "bilinear", "antialias": True}),
        (torch_bicubic_antialias, {"mode": "bicubic", "antialias": True}),
    ):
        theirs = F.interpolate(images.float(), target, align_corners=False, **options)
        assert torch.equal(ours(images, target), theirs)


@pytest.mark.parametrize(("size", "target"), SIZES)
def test_pil_bicubic_is_pils_to_the_rounding_of_8_bits(size, target):
    """PIL rounds and clips 8-bit pictures after each pass; these overshoot nowhere."""
    images = 64 + pictures(*size) // 2
    ours = pil_bicubic(images, target)
    whole = [x.resize(target[::-1], Image.Resampling.BICUBIC) for x in to_pil(images)]
    theirs = torch.from_numpy(np.stack(whole)).permute(0, 3, 1, 2).float()
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() < 1.5
    assert (ours - ours.round()).abs().max() > 0.3  # it is not rounded itself


def test_pil_bicubic_and_torchs_are_one_kernel_apart_from_the_clip():
    images = torch.zeros(1, 3, 40, 64, dtype=torch.uint8)
    images[..., 20:, :] = 255
    for target in ((31, 17), (80, 100)):
        torchs = torch_bicubic_antialias(images, target)
        assert torchs.min() < -1 < 256 < torchs.max()
        pil = pil_bicubic(images, target)
        assert (pil.min(), pil.max()) == (0, 255)
        torch.testing.assert_close(torchs.clamp(0, 255), pil, atol=1e-3, rtol=0)


def test_tensorflow_puts_first_pixels_on_each_other_and_torch_corners():
    images = row(0, 100)
    assert tf1_bilinear(images, (1, 4))[0, 0, 0].tolist() == [0, 50, 100, 100]
    assert torch_bilinear(images, (1, 4))[0, 0, 0].tolist() == [0, 25, 75, 100]


def test_only_antialias_sees_every_pixel_of_a_picture_made_smaller():
    stripes = row(*[0, 240] * 8)
    assert tf1_bilinear(stripes, (1, 8)).unique().tolist() == [0]
    assert torch_bilinear(stripes, (1, 8)).unique().tolist() == [120]  # both of two pixels
    assert torch_bilinear(stripes, (1, 4)).unique().tolist() == [120]  # but 2 of 4 here
    four = row(*[240, 0, 0, 240] * 4)
    assert torch_bilinear(four, (1, 4)).unique().tolist() == [0]
    for smooth in (torch_bilinear_antialias, torch_bicubic_antialias, pil_bicubic):
        inner = smooth(four, (1, 4))[0, 0, 0, 1:3]
        assert (inner - 120).abs().max() < 25, smooth


def test_antialias_changes_nothing_where_a_picture_gets_larger():
    images = pictures(24, 40)
    smooth = torch_bilinear_antialias(images, (31, 50))
    torch.testing.assert_close(smooth, torch_bilinear(images, (31, 50)), atol=1e-3, rtol=0)


@pytest.mark.parametrize("how", get_args(Resize))
def test_every_name_keeps_a_picture_of_that_size_and_gives_the_size_asked_for(how):
    images = pictures(20, 36, count=3)
    assert torch.equal(resize(images, (20, 36), how), images.float())
    other = resize(images, (9, 50), how)
    assert (other.shape, other.dtype) == ((3, 3, 9, 50), torch.float32)
    alone = resize(images[1:2], (9, 50), how)
    assert torch.equal(other[1:2], alone)


def test_names_choose_the_functions():
    images = pictures(30, 22)
    for function in (
        tf1_bilinear,
        torch_bilinear,
        torch_bilinear_antialias,
        torch_bicubic_antialias,
        pil_bicubic,
    ):
        assert torch.equal(resize(images, (11, 13), function.__name__), function(images, (11, 13)))
    assert len(get_args(Resize)) == 5


def test_what_is_no_picture_or_no_name_is_refused():
    with pytest.raises(ValueError, match=r"must be one of \('tf1_bilinear'.*got 'lanczos'"):
        resize(pictures(8, 8), (4, 4), "lanczos")
    for wrong in (pictures(8, 8).float(), pictures(8, 8)[0], pictures(8, 8)[:, :1]):
        with pytest.raises(ValueError, match=r"images must be \(B, 3, H, W\) uint8"):
            resize(wrong, (4, 4), "pil_bicubic")


def test_dinov2s_positions_are_sampled_as_its_own_code_does():
    """Place i of 16 takes the four next of 37 to (i + 1/2) 37 / 16.1 - 1/2, by Keys' kernel."""
    table = torch.randn(1, 1 + 37 * 37, 2, generator=torch.Generator().manual_seed(0))
    a = -0.75  # as torch takes it; PIL and antialias take -0.5
    weights = torch.zeros(16, 37, dtype=torch.float64)
    for i in range(16):
        place = (i + 0.5) * 37 / 16.1 - 0.5
        for j in range(int(np.floor(place)) - 1, int(np.floor(place)) + 3):
            d = abs(place - j)
            near = (a + 2) * d**3 - (a + 3) * d**2 + 1
            far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
            weights[i, min(max(j, 0), 36)] += near if d <= 1 else far
    grid = table[0, 1:].double().reshape(37, 37, 2)
    expected = torch.einsum("ia,jb,abd->ijd", weights, weights, grid).float()
    found = dinov2_positions(table, 16)
    assert torch.equal(found[:, 0], table[:, 0])
    torch.testing.assert_close(found[0, 1:].reshape(16, 16, 2), expected, atol=1e-5, rtol=0)
    timms = resample_abs_pos_embed(table, new_size=[16, 16])
    assert (found - timms).square().mean() > 0.2  # of a variance of 1

    whole = table[:, : 1 + 16 * 16]
    assert torch.equal(dinov2_positions(whole, 16), whole)
