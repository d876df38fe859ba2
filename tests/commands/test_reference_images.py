"""What a reference file keeps of images."""

from dataclasses import replace

import numpy as np
import torch

from diffgen.commands.reference_images import moments_of
from diffgen.config.npz import inspect_npz
from diffgen.metrics import load_extractor
from diffgen.metrics.inception import described
from diffgen.metrics.shards import Shards
from diffgen.metrics.stored import read_stored, write_stored

RESIZES = {"inception pil_bicubic": "pil_bicubic", "inception": "tf1_bilinear"}


def test_adms_names_are_for_tensorflows_resize_alone_whatever_the_order(tmp_path):
    network = replace(load_extractor(), name="inception", layers={})
    networks = {
        title: replace(network, preprocessing=described(resize))
        for title, resize in RESIZES.items()
    }
    shards = Shards(tmp_path / "parts", 80, 80)
    generator = torch.Generator().manual_seed(0)
    seen = {f"{title}/features": torch.randn(80, 64, generator=generator) for title in networks}
    shards.write(range(80), {**seen, "labels": torch.zeros(80)})
    for order in (list(networks), list(reversed(networks))):
        file = tmp_path / "reference.npz"
        sets = moments_of(shards, {title: networks[title] for title in order})
        write_stored(file, sets, {"num_images": 80}, {})
        with np.load(file) as arrays:
            adms = seen["inception/features"].double().mean(0).numpy()
            np.testing.assert_allclose(arrays["mu"], adms, rtol=1e-12)
        stored = read_stored(file, inspect_npz(file, "reference"))
        for title, one in networks.items():
            (fitting,) = (found for found in stored.values() if found.fits(one))
            mean = seen[f"{title}/features"].double().mean(0)
            torch.testing.assert_close(fitting.moments["features"].mean, mean)
    alone = moments_of(shards, {title: networks[title] for title in order[1:]})
    assert list(alone) == ["inception pil_bicubic"]
