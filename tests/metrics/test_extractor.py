"""Extractors in general, the reader, and Inception against torch-fidelity."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

import diffgen.metrics.inception
from diffgen.data.pixels import from_uint8
from diffgen.metrics import Extractor, load_extractor, load_reader
from diffgen.metrics.resizes import resize
from tests.metrics.extractors import PICTURES, sha256


def test_the_reader_is_an_extractor_that_knows_classes():
    extractor, reader = load_extractor(), load_reader()
    seen = reader(from_uint8(PICTURES))
    assert torch.equal(extractor(PICTURES), seen.features)
    assert torch.equal(extractor.outputs(PICTURES)["logits"], seen.logits)
    assert len(extractor.class_names) == extractor.layers["logits"] == 18
    assert json.loads(json.dumps(extractor.facts()))["layers"] == {"features": 64, "logits": 18}
    stored = Path(diffgen.metrics.inception.__file__).with_name("reader.safetensors")
    assert extractor.weights_sha256 == sha256(stored)


def test_inception_is_torch_fidelitys_bit_for_bit(inception_weights):
    extractor = load_extractor("inception", inception_weights)
    names = ["2048", "logits_unbiased"]
    theirs = FeatureExtractorInceptionV3("theirs", names, str(inception_weights))
    blocks: list[torch.Tensor] = []
    theirs.Mixed_6d.register_forward_hook(lambda _, __, output: blocks.append(output))
    expected, logits = theirs(PICTURES[:2])

    found = extractor.outputs(PICTURES[:2])
    assert torch.equal(found["features"], expected)
    assert torch.equal(found["logits"], logits)
    assert torch.equal(extractor(PICTURES[:2]), expected)
    assert expected.std(0).mean() > 0.01 * expected.abs().mean() > 0  # it tells pictures apart
    # A block's output begins with the channels of its 1x1 branch; sFID's order is NHWC.
    spatial = found["spatial"].reshape(2, 17, 17, 7)
    assert torch.equal(spatial.permute(0, 3, 1, 2), blocks[0][:, :7])
    assert extractor.facts() == {
        "name": "inception",
        "weights_sha256": sha256(inception_weights),
        "num_features": 2048,
        "preprocessing": "tf1_bilinear to 299x299, then (x - 128) / 128",
        "layers": {"features": 2048, "spatial": 2023, "logits": 1008},
    }


def test_inception_takes_what_a_named_resize_gives_unrounded(inception_weights):
    extractor = load_extractor("inception", inception_weights, resize="pil_bicubic")
    assert extractor.preprocessing == "pil_bicubic to 299x299, then (x - 128) / 128"
    theirs = FeatureExtractorInceptionV3("theirs", ["2048"], str(inception_weights))
    pixels = resize(PICTURES[:1], (299, 299), "pil_bicubic")
    rounded = theirs(pixels.round().to(torch.uint8))[0]
    features = extractor(PICTURES[:1])
    expected = walked(theirs, (pixels - 128) / 128)
    assert torch.equal(features, expected)
    gap = (features - rounded).abs().mean() / features.abs().mean()
    assert 1e-6 < gap < 1e-2  # 8 bits would nearly, but not quite, do


def walked(network: FeatureExtractorInceptionV3, x: torch.Tensor) -> torch.Tensor:
    """Inception's pooled features of pixels in [-1, 1], layer by layer as its paper lists them."""
    for name in (
        *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "MaxPool_1"),
        *("Conv2d_3b_1x1", "Conv2d_4a_3x3", "MaxPool_2"),
        *("Mixed_5b", "Mixed_5c", "Mixed_5d"),
        *("Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
        *("Mixed_7a", "Mixed_7b", "Mixed_7c", "AvgPool"),
    ):
        x = network.get_submodule(name)(x)
    return x.flatten(1)


def halves(images: torch.Tensor) -> torch.Tensor:
    """A network of one's own: mean of the left and of the right half."""
    return torch.stack([half.float().mean((1, 2, 3)) for half in images.chunk(2, -1)], 1)


def test_a_network_of_ones_own_needs_no_layers_stated():
    extractor = Extractor("halves", 2, "none", "none", halves, torch.device("cpu"))
    assert torch.equal(extractor(PICTURES), halves(PICTURES))
    assert extractor.layers == {"features": 2}
    assert list(extractor.outputs(PICTURES)) == ["features"]


def test_a_network_of_ones_own_may_give_layers_and_must_give_those_it_states():
    def network(images: torch.Tensor) -> dict[str, torch.Tensor]:
        features = halves(images)
        return {"features": features, "logits": features[:, :1]}

    stated = partial(Extractor, "halves", 2, "none", "none", network, torch.device("cpu"))
    extractor = stated(layers={"logits": 1})
    assert extractor.layers == {"features": 2, "logits": 1}
    assert torch.equal(extractor.outputs(PICTURES)["logits"], halves(PICTURES)[:, :1])
    for wrong in ({}, {"logits": 3}, {"embedding": 1}, {"features": 1, "logits": 1}):
        with pytest.raises(ValueError, match="halves should give"):
            stated(layers=wrong).outputs(PICTURES)
