"""Randomness as a function of (seed, stream, number)."""

import pytest
import torch

from diffgen.seeding import image_noise, stream_generator, stream_seed


def test_seeds_are_what_they_always_were():
    """A change here would change every published picture."""
    assert stream_seed(0, "image", 0) == 6105025837312347657
    noise = image_noise(7, [3], (2, 2))[0]
    expected = torch.randn(
        2, 2, generator=torch.Generator().manual_seed(stream_seed(7, "image", 3))
    )
    assert torch.equal(noise, expected)


def test_image_k_has_its_noise_whatever_the_batch_order_or_global_generator():
    together = image_noise(5, list(range(6)), (3, 4, 8))
    torch.manual_seed(123)
    shuffled = image_noise(5, [4, 0, 2], (3, 4, 8))
    assert torch.equal(shuffled, together[[4, 0, 2]])
    for k in range(6):
        assert torch.equal(image_noise(5, [k], (3, 4, 8))[0], together[k])
    assert together.dtype == torch.float32
    assert together.device.type == "cpu"


def test_drawing_leaves_torchs_own_generator_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    image_noise(0, [0, 1], (4,))
    assert torch.equal(torch.rand(3), expected)


def test_neighbouring_seeds_streams_and_numbers_do_not_collide():
    """Neither (seed + 1, number) nor (seed, number + 1) nor another stream is the same draw."""
    seeds = {
        stream_seed(seed, stream, number)
        for seed in range(20)
        for stream in ("train", "image", "augment", "order")
        for number in range(50)
    }
    assert len(seeds) == 20 * 4 * 50


def test_seeds_fill_the_64_bits_torch_takes():
    drawn = torch.tensor([stream_seed(0, "train", number) for number in range(4000)])
    assert drawn.min() < -(2**62)
    assert drawn.max() > 2**62
    bits = (drawn[:, None] >> torch.arange(64)) & 1
    assert bits.float().mean(0).sub(0.5).abs().max() < 4 * 0.5 / 4000**0.5


def test_noise_is_normal_and_uncorrelated_between_neighbours():
    noise = image_noise(0, list(range(400)), (100,))
    assert noise.mean().item() == pytest.approx(0, abs=0.02)
    assert noise.std().item() == pytest.approx(1, abs=0.02)
    neighbours = (noise[:-1] * noise[1:]).mean().item()
    assert neighbours == pytest.approx(0, abs=0.02)


def test_the_first_draw_of_a_stream_is_uniform_over_numbers():
    first = torch.stack(
        [torch.rand((), generator=stream_generator(3, "train", n)) for n in range(2000)]
    )
    assert first.mean().item() == pytest.approx(0.5, abs=0.03)
    assert first.var().item() == pytest.approx(1 / 12, rel=0.1)
