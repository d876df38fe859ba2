"""Extractors against the libraries they come from, on the same 8-bit pictures."""

import hashlib
import json
import pickle
from functools import partial
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.data import create_transform, resolve_model_data_config
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

import diffgen.metrics.inception
from diffgen.data.pixels import from_uint8, to_pil
from diffgen.errors import UserError
from diffgen.metrics import Extractor, load_extractor, load_reader
from diffgen.metrics.dinov2 import dinov2_positions
from diffgen.metrics.resizes import resize
from diffgen.metrics.timm_model import clip_tower

PICTURES = torch.randint(
    0, 256, (3, 3, 40, 56), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


@pytest.fixture(scope="module")
def model():
    """A small timm model with random weights and a classifier of 7."""
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=7).eval()


@pytest.fixture
def checkpoint(model, tmp_path) -> Path:
    path = tmp_path / "model.safetensors"
    save_file(model.state_dict(), path)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


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


def test_a_timm_model_is_timms_own_evaluation(model, checkpoint):
    extractor = load_extractor("test_resnet", checkpoint)
    transform = create_transform(**resolve_model_data_config(model), is_training=False)
    pixels = torch.stack([transform(picture) for picture in to_pil(PICTURES)])
    with torch.no_grad():
        features = model.forward_head(model.forward_features(pixels), pre_logits=True)
        logits = model(pixels)
    found = extractor(PICTURES)
    assert torch.equal(found, features)
    assert torch.equal(extractor.outputs(PICTURES)["logits"], logits)
    assert extractor.layers == {"features": 96, "logits": 7}
    assert found.shape == (3, extractor.num_features) == (3, 96)
    assert found.dtype == torch.float32
    assert extractor.weights_sha256 == sha256(checkpoint)
    for words in ("bilinear", "160x160", "crop_pct 0.95", "mean (0.5, 0.5, 0.5)"):
        assert words in extractor.preprocessing


def test_checkpoints_of_every_kind_give_the_same_features(model, checkpoint, tmp_path):
    expected = load_extractor("test_resnet", checkpoint)(PICTURES)
    state = model.state_dict()
    headless = {name: value for name, value in state.items() if not name.startswith("fc.")}
    kinds = {"plain": state, "training": {"state_dict": state, "epoch": 3}, "headless": headless}
    for name, content in kinds.items():
        torch.save(content, tmp_path / f"{name}.pth")
        extractor = load_extractor("test_resnet", tmp_path / f"{name}.pth")
        assert torch.equal(extractor(PICTURES), expected), name
        assert ("logits" in extractor.layers) == (name != "headless")


def test_a_timm_model_at_another_size_resizes_as_told(tmp_path):
    torch.manual_seed(0)
    vit = timm.create_model("test_vit", img_size=64).eval()
    save_file(vit.state_dict(), tmp_path / "vit.safetensors")
    square = PICTURES[..., :40]
    data = resolve_model_data_config(vit, args={"img_size": 64})
    transform = create_transform(**data, is_training=False)
    mean, std = (torch.tensor(data[name]).view(3, 1, 1) for name in ("mean", "std"))
    pixels = {
        None: torch.stack([transform(picture) for picture in to_pil(square)]),
        "torch_bicubic_antialias": (
            resize(square, (64, 64), "torch_bicubic_antialias") / 255 - mean
        )
        / std,
    }
    for way, expected in pixels.items():
        extractor = load_extractor(
            "test_vit", tmp_path / "vit.safetensors", resize=way, image_size=64
        )
        assert expected.shape[2:] == (64, 64)
        with torch.no_grad():
            torch.testing.assert_close(extractor.outputs(square)["logits"], vit(expected))
        assert f"{way or 'bicubic resize (PIL) and center crop'} to 64x64" in (
            extractor.preprocessing
        )


def test_a_convolutional_timm_model_sees_the_size_it_is_given(model, checkpoint):
    extractor = load_extractor("test_resnet", checkpoint, resize="tf1_bilinear", image_size=96)
    data = resolve_model_data_config(model)
    mean, std = (torch.tensor(data[name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        expected = model((resize(PICTURES, (96, 96), "tf1_bilinear") / 255 - mean) / std)
    assert torch.equal(extractor.outputs(PICTURES)["logits"], expected)


def test_dinov2_has_its_own_codes_positions_at_another_size(tmp_path):
    torch.manual_seed(0)
    vit = timm.create_model("vit_small_patch14_dinov2").eval()
    torch.save(vit.state_dict(), tmp_path / "dinov2.pth")
    extractor = load_extractor("vit_small_patch14_dinov2", tmp_path / "dinov2.pth", image_size=56)
    small = timm.create_model("vit_small_patch14_dinov2", img_size=56).eval()
    state = vit.state_dict()
    state["pos_embed"] = dinov2_positions(state["pos_embed"], 4)
    small.load_state_dict(state)
    transform = create_transform((3, 56, 56), interpolation="bicubic", crop_pct=1.0)
    pixels = torch.stack([transform(picture) for picture in to_pil(PICTURES)])
    with torch.no_grad():
        assert torch.equal(extractor(PICTURES), small.forward_features(pixels)[:, 0])
    assert extractor.layers == {"features": 384}


def test_a_clip_tower_projects_and_its_fine_tuned_sister_classifies(tmp_path):
    name, settings = "vit_xsmall_patch16_clip_224", {"img_size": 32, "num_classes": 512}
    torch.manual_seed(0)
    tower = timm.create_model(name, **settings).eval()
    path = tmp_path / "clip.safetensors"
    save_file(tower.state_dict(), path)
    extractor = load_extractor(f"{name}.tinyclip_yfcc15m", path, image_size=32)
    assert extractor.layers == {"features": 256, "embedding": 512}
    found = extractor.outputs(PICTURES)
    with torch.no_grad():
        torch.testing.assert_close(found["embedding"], tower.head(found["features"]))

    tower.reset_classifier(5)
    save_file(tower.state_dict(), path)
    extractor = load_extractor(name, path, image_size=32)
    assert extractor.layers == {"features": 256, "logits": 5}


def test_timms_names_tell_projections_from_classifiers():
    classes = {1000, 11821}  # of ImageNet-1k and -12k
    towers = [timm.get_pretrained_cfg(name) for name in timm.list_pretrained("*clip*")]
    projecting = [x for x in towers if clip_tower(x, x.num_classes) and x.num_classes]
    assert len(projecting) > 50
    for settings in towers:
        if settings.num_classes:
            name = f"{settings.architecture}.{settings.tag}"
            assert (settings in projecting) == (settings.num_classes not in classes), name


def test_the_reader_is_an_extractor_that_knows_classes():
    extractor, reader = load_extractor(), load_reader()
    seen = reader(from_uint8(PICTURES))
    assert torch.equal(extractor(PICTURES), seen.features)
    assert torch.equal(extractor.outputs(PICTURES)["logits"], seen.logits)
    assert torch.equal(extractor.classify(seen.features), seen.logits.argmax(1))
    assert json.loads(json.dumps(extractor.facts()))["layers"] == {"features": 64, "logits": 18}
    stored = Path(diffgen.metrics.inception.__file__).with_name("reader.safetensors")
    assert extractor.weights_sha256 == sha256(stored)


@pytest.mark.parametrize("name", ["inception", "test_vit"])
def test_weights_of_another_network_are_refused_by_name(checkpoint, name):
    with pytest.raises(UserError) as caught:
        load_extractor(name, checkpoint)
    assert f"weights: {checkpoint} does not fit the extractor {name}" in str(caught.value)


def test_a_checkpoint_that_lacks_a_layer_is_refused(model, tmp_path):
    state = dict(model.state_dict())
    del state["layer1.0.conv1.weight"]
    torch.save(state, tmp_path / "part.pth")
    with pytest.raises(UserError, match=r"layer1\.0\.conv1\.weight"):
        load_extractor("test_resnet", tmp_path / "part.pth")


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("name", ["inception", "test_resnet"])
def test_pickled_objects_are_never_loaded(name, tmp_path):
    mark, path = tmp_path / "mark", tmp_path / "trap.pth"
    torch.save({"weight": torch.zeros(1), "trap": Trap(mark)}, path)
    with pytest.raises(UserError, match="is no readable checkpoint"):
        load_extractor(name, path)
    path.write_bytes(pickle.dumps(Trap(mark)))
    with pytest.raises(UserError, match="is no readable checkpoint"):
        load_extractor(name, path)
    assert not mark.exists()
    for content in ({"epoch": 3}, torch.zeros(3)):
        torch.save(content, path)
        with pytest.raises(UserError, match=r"trap\.pth"):
            load_extractor(name, path)


def test_without_a_connection_it_says_what_to_fetch(monkeypatch, tmp_path):
    url = "http://127.0.0.1:9/weights-inception-2015-12-05-6726825d.pth"  # nothing answers there
    monkeypatch.setattr(diffgen.metrics.inception, "URL_INCEPTION_V3", url)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    with pytest.raises(UserError) as caught:
        load_extractor("inception")
    place = tmp_path / "checkpoints" / url.rpartition("/")[2]
    for words in (url, "--weights", str(place)):
        assert words in str(caught.value)

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError) as caught:
        load_extractor("test_resnet.r160_in1k")
    address = "https://huggingface.co/timm/test_resnet.r160_in1k/resolve/main/model.safetensors"
    for words in (address, "--weights"):
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnt18", "resnt18 is neither reader, inception nor a timm model; did you mean resnet18"),
        ("resnet18.nothing", "resnet18.a1_in1k"),
        ("../resnet18", "is neither reader, inception nor a timm model"),
    ],
)
def test_an_unknown_extractor_is_refused(name, said):
    with pytest.raises(UserError) as caught:
        load_extractor(name)
    assert said in str(caught.value)


def test_weights_that_give_nan_are_refused(model, tmp_path):
    state = {name: value.clone() for name, value in model.state_dict().items()}
    state["conv1.0.weight"][0] = torch.nan
    torch.save(state, tmp_path / "nan.pth")
    extractor = load_extractor("test_resnet", tmp_path / "nan.pth")
    with pytest.raises(UserError, match="test_resnet gave NaN"):
        extractor(PICTURES)
    with pytest.raises(ValueError, match="uint8"):
        extractor(PICTURES.float())


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


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("reader", {"resize": "pil_bicubic"}, "resize: the reader sees pictures at their own"),
        ("reader", {"image_size": 64}, "image_size: only timm models can be given one, not reader"),
        ("inception", {"image_size": 64}, "can be given one, not inception"),
        ("test_vit", {"image_size": 72}, "image_size: test_vit sees patches of 16 pixels a side"),
    ],
)
def test_an_option_without_use_is_refused(name, options, said, tmp_path):
    path = None
    if name == "test_vit":
        path = tmp_path / "vit.safetensors"
        save_file(timm.create_model("test_vit").state_dict(), path)
    with pytest.raises(UserError) as caught:
        load_extractor(name, path, **options)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "image_size", "said"),
    [
        ("mixer_s32_224", 64, "does not fit the extractor mixer_s32_224 at image_size 64"),
        ("edgenext_xx_small", 16, "image_size: edgenext_xx_small cannot see 16x16: Calculated"),
    ],
)
def test_a_size_a_timm_model_cannot_have_is_refused(name, image_size, said, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(timm.create_model(name).state_dict(), path)
    with pytest.raises(UserError) as caught:
        load_extractor(name, path, image_size=image_size)
    assert said in str(caught.value)
