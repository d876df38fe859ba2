"""Fréchet distances of whole folders against torch-fidelity and torchmetrics, on the same random
weights of Inception.

Both peers take the trace from the eigenvalues of S_1 S_2. Of 24 pictures a side 23 should be other
than 0; some 1,750 of the 2,048 come out above it by rounding, and their roots add 2.2e-5 to
torch-fidelity's trace, so that its distance is 4.4e-5 below the one of the 23. That, and its mean
in float32 (3e-7), is all of the difference: full rank would take over 2,048 pictures.
"""

import json

import pytest
import torch
import torch_fidelity
from torchmetrics.image.fid import FrechetInceptionDistance

from diffgen.cli import launch
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
# diffusers hands a tensor to numpy the old way.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_distance_of_two_folders_by_the_command_is_torch_fidelitys(
    folders, inception_weights, tmp_path
):
    (real, _), (fake, _) = folders
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
    network = ["--extractor", "inception", "--weights", str(inception_weights)]
    rules = ["--num-images", "24", "--no-floor", "--no-intervals", "--batch-size", "8"]
    out = ["--out", str(tmp_path / "e.json")]
    given = [str(fake), "--reference", str(real), *network, *rules, *out]
    assert launch("eval", [*given, "--device", "cpu"], "eval") == 0
    ours = json.loads((tmp_path / "e.json").read_text())["scores"]["fid"]
    assert ours == pytest.approx(theirs, rel=1e-4)  # 1.9429
    assert ours == pytest.approx(theirs, abs=1e-4)


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
        # 1.1e-4 and 8e-5 above it, for the same reason: of 8 pictures 7 roots should not be 0.
        assert distances[resize] == pytest.approx(theirs, abs=3e-4)
    # The resize alone, on pictures larger than 299 pixels: 6.8 and 5.0 when this was written.
    smooth, sampled = distances.values()
    assert abs(smooth - sampled) > 0.1 * smooth
