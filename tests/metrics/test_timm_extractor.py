"""timm models as extractors, against timm on the same 8-bit pictures."""

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.data import create_transform, resolve_model_data_config

from diffgen.data.pixels import to_pil
from diffgen.errors import UserError
from diffgen.metrics import load_extractor
from diffgen.metrics.dinov2 import dinov2_positions
from diffgen.metrics.resizes import resize
from diffgen.metrics.timm_model import clip_tower
from tests.metrics.extractors import PICTURES, sha256


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
