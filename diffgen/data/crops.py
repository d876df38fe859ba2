"""Fitting pictures of any size to the size of training."""

import math

import torch
from PIL import Image


def center_crop(image: Image.Image, height: int, width: int) -> Image.Image:
    """ADM's centre crop (Dhariwal and Nichol 2021) for any shape.

    Halve with a box filter while the picture is at least twice as large as needed, scale with
    bicubic until it just covers height x width, cut out the middle.
    """
    image = _without_far_ends(image, height, width)
    while image.width >= 2 * width and image.height >= 2 * height:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = max(width / image.width, height / image.height)
    covered = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
    image = image.resize(covered, Image.Resampling.BICUBIC)
    left, top = (covered[0] - width) // 2, (covered[1] - height) // 2
    return image.crop((left, top, left + width, top + height))


def _without_far_ends(image: Image.Image, height: int, width: int) -> Image.Image:
    """The middle of a picture that is over 16 times as long as the crop: scaled, a strip of
    1 x 50,000 pixels would fill the memory."""
    longest_width = math.ceil(16 * image.height * width / height)
    longest_height = math.ceil(16 * image.width * height / width)
    left = max(0, (image.width - longest_width) // 2)
    top = max(0, (image.height - longest_height) // 2)
    if left == top == 0:
        return image
    return image.crop((left, top, image.width - left, image.height - top))


def random_box(
    image: tuple[int, int], height: int, width: int, smallest: float, generator: torch.Generator
) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of a random part with the aspect of ``height`` x ``width``.

    Its area is uniform in [smallest, 1] times that of the largest such part of ``image``, which
    is (height, width).
    """
    share, x, y = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
    scale = min(image[1] / width, image[0] / height)
    side = math.sqrt(smallest + (1 - smallest) * share) * scale
    cut_width, cut_height = max(1.0, side * width), max(1.0, side * height)
    left, top = max(0.0, x * (image[1] - cut_width)), max(0.0, y * (image[0] - cut_height))
    # Rounding must not reach over the edge.
    return left, top, min(left + cut_width, image[1]), min(top + cut_height, image[0])


def resized(
    image: Image.Image, height: int, width: int, box: tuple[float, float, float, float]
) -> Image.Image:
    """The part ``box`` (left, top, right, bottom) of ``image``, bicubic at height x width."""
    size = (width, height)
    return image.resize(size, Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
