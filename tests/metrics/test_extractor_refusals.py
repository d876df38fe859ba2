"""Names, weights and options that no extractor can have."""

import pickle
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save_file

import diffgen.metrics.inception
from diffgen.errors import UserError
from diffgen.metrics import load_extractor
from tests.metrics.extractors import PICTURES


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
