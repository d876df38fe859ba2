"""Fréchet distances of whole folders against torch-fidelity and torchmetrics, on the same random
weights of Inception.

Both peers take the trace from the eigenvalues of S_1 S_2. Most of them should be 0 for so few
pictures and are not quite, which is what the tolerances leave room for.
"""

import pytest
import torch
import torch_fidelity
from torchmetrics.image.fid import FrechetInceptionDistance

from diffgen.data.pixels import from_pil, to_pil
from diffgen.metrics import frechet_distance, load_extractor


def pictures(count: int, height: int, width: int, hue: int, seed: int) -> torch.Tensor:
    """Checks of a random side on a gradient, uint8: edges for a resize to alias."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    sides = torch.randint(2, 9, (count, 1, 1), generator=generator)
    checks = (rows // sides + columns // sides) % 2
    colours = torch.randint(0, 128, (count, 3, 1, 1), generator=generator)
    gradient = (columns * hue) // width
    return (colours + 96 * checks[:, None] + gradient[None, None] // 4).clamp(0, 255).byte()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two folders of 24 PNGs of 48x64, and what is in them."""
    made = []
    for name, hue in (("real", 40), ("fake", 120)):
        folder = tmp_path_factory.mktemp(name)
        images = pictures(24, 48, 64, hue, seed=hue)
        for i, picture in enumerate(to_pil(images)):
            picture.save(folder / f"{i:02}.png")
            assert torch.equal(from_pil(picture), images[i])
        made.append((folder, images))
    return made


@pytest.mark.slow
def test_a_folders_distance_is_torch_fidelitys(folders, inception_weights):
    (real, real_images), (fake, fake_images) = folders
    theirs = torch_fidelity.calculate_metrics(
        input1=str(fake),
        input2=str(real),
        fid=True,
        feature_extractor_weights_path=str(inception_weights),
        cuda=False,
        batch_size=8,
        cache=False,
        save_cpu_ram=True,
        verbose=False,
    )["frechet_inception_distance"]
    extractor = load_extractor("inception", inception_weights)
    ours = frechet_distance(extractor(real_images), extractor(fake_images))
    assert ours == pytest.approx(theirs, rel=1e-4)  # 1.9429


@pytest.mark.slow
def test_torchmetrics_distance_is_that_of_the_resize_it_takes(inception_weights):
    real, fake = (pictures(8, 320, 400, hue, seed=hue) for hue in (40, 120))
    distances = {}
    for antialias, resize in ((True, "torch_bilinear_antialias"), (False, "tf1_bilinear")):
        metric = FrechetInceptionDistance(
            feature_extractor_weights_path=str(inception_weights), antialias=antialias
        )
        metric.update(real, real=True)
        metric.update(fake, real=False)
        theirs = metric.compute().item()
        extractor = load_extractor("inception", inception_weights, resize=resize)
        distances[resize] = frechet_distance(extractor(real), extractor(fake))
        assert distances[resize] == pytest.approx(theirs, abs=1e-3)
    # The resize alone, on pictures larger than 299 pixels: 6.8 and 5.0 when this was written.
    smooth, sampled = distances.values()
    assert abs(smooth - sampled) > 0.1 * smooth
