"""Extractors against the libraries they come from, on the same 8-bit pictures."""

import hashlib
import pickle
from io import BytesIO
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
from diffgen.metrics import load_extractor, load_reader

PICTURES = torch.randint(
    0, 256, (3, 3, 40, 56), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


class Blank(FeatureExtractorInceptionV3):
    """Inception as it is initialised: torch-fidelity's own always wants weights."""

    def load_state_dict(self, *_, **__):
        return None


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    nothing = BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    network = Blank("blank", ["2048"], nothing)
    for weight in network.parameters():
        if weight.ndim == 4:
            weight.mul_(6**0.5)  # torch's start fades away over 50 rectified layers
    torch.save(network.state_dict(), path)
    return path


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
    theirs = FeatureExtractorInceptionV3("theirs", ["2048"], str(inception_weights))
    expected = theirs(PICTURES[:2])[0]
    assert torch.equal(extractor(PICTURES[:2]), expected)
    assert expected.std(0).mean() > 0.01 * expected.abs().mean() > 0  # it tells pictures apart
    assert extractor.facts() == {
        "name": "inception",
        "weights_sha256": sha256(inception_weights),
        "num_features": 2048,
        "preprocessing": "bilinear to 299x299 as TensorFlow 1 resizes, then (x - 128) / 128",
    }


def test_a_timm_model_is_timms_own_evaluation(model, checkpoint):
    extractor = load_extractor("test_resnet", checkpoint)
    transform = create_transform(**resolve_model_data_config(model), is_training=False)
    pixels = torch.stack([transform(picture) for picture in to_pil(PICTURES)])
    with torch.no_grad():
        features = model.forward_head(model.forward_features(pixels), pre_logits=True)
    found = extractor(PICTURES)
    assert torch.equal(found, features)
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
        found = load_extractor("test_resnet", tmp_path / f"{name}.pth")(PICTURES)
        assert torch.equal(found, expected), name


def test_the_reader_is_an_extractor_that_knows_classes():
    extractor, reader = load_extractor(), load_reader()
    seen = reader(from_uint8(PICTURES))
    assert torch.equal(extractor(PICTURES), seen.features)
    assert torch.equal(extractor.classify(seen.features), seen.logits.argmax(1))
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
