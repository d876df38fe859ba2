"""What a profile fixes, and what may not be asked for beside it."""

import numpy as np
import pytest

from diffgen.config.command_line import parse
from diffgen.config.evaluate import EvaluateConfig
from diffgen.config.profiles import DINOV2, profile_settings
from diffgen.config.scoring import ScoringConfig
from diffgen.errors import UserError


def problems(**values) -> list[str]:
    return list(ScoringConfig(**values).scoring_problems())


@pytest.mark.parametrize("name", ["adm", "clean", "edm2", "dgm", "embedded"])
def test_a_profile_sets_its_fields_and_reads_back(name):
    config = ScoringConfig(profile=name)
    assert problems(profile=name) == []
    for field, value in profile_settings(name).items():
        if field != "further":
            assert getattr(config, field) == value
    assert ScoringConfig.model_validate(config.model_dump(mode="json")) == config


def test_profiles_follow_their_tools():
    adm, clean, edm2, dgm = (ScoringConfig(profile=p) for p in ("adm", "clean", "edm2", "dgm"))
    assert (adm.extractor, adm.resize, adm.k, adm.rule) == ("inception", "tf1_bilinear", 3, "adm")
    assert (adm.num_images, adm.labels, adm.floor) == (50_000, "random", False)
    assert clean.resize == "pil_bicubic"
    assert [e.title for e in edm2.extractors()] == [
        "inception tf1_bilinear",
        f"{DINOV2} torch_bicubic_antialias 224x224",
    ]
    assert (dgm.extractor, dgm.image_size, dgm.k, dgm.rule) == (DINOV2, 224, 5, "strict")


def test_counts_may_differ_from_a_profile_and_rules_may_not(tmp_path):
    assert problems(profile="adm", num_images=5_000, floor=True) == []
    weights = tmp_path / "w.pth"
    weights.touch()
    assert problems(profile="adm", weights=weights) == []
    own = {"name": DINOV2, "resize": "torch_bicubic_antialias", "image_size": 224}
    assert problems(profile="edm2", further=[{**own, "weights": weights}]) == []
    assert problems(profile="adm", k=5) == ["k: profile adm fixes 3, got 5"]
    assert problems(profile="clean", resize="tf1_bilinear") == [
        "resize: profile clean fixes pil_bicubic, got tf1_bilinear"
    ]
    assert "further: profile edm2 fixes" in problems(profile="edm2", further=[])[0]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"resize": "pil_bicubic"}, "resize: the reader sees pictures at their own size"),
        ({"image_size": 32}, "image_size: only timm models can be given one, got reader"),
        ({"further": [{"name": "reader"}]}, "further: reader is named twice"),
        ({"manifold_images": 8, "density_k": 9}, "manifold_images: 8 is too few for density_k 9"),
        (
            {"further": [{"name": "inception", "image_size": 32}]},
            "further: inception: image_size: only timm models",
        ),
    ],
)
def test_options_without_effect_are_refused(values, said):
    (found,) = problems(**values)
    assert found.startswith(said)


def test_a_profile_on_the_command_line_fills_what_is_not_given(tmp_path):
    file = tmp_path / "images.npz"
    np.savez(file, np.zeros((9, 16, 16, 3), np.uint8))
    argv = [str(file), "--reference", str(file), "--profile", "adm", "--num-images", "9"]
    config = parse(EvaluateConfig, argv, "eval")
    assert (config.extractor, config.splits, config.floor) == ("inception", "in_order", False)
    assert config.num_images == 9
    with pytest.raises(UserError, match="k: profile adm fixes 3, got 7"):
        parse(EvaluateConfig, [*argv, "--k", "7"], "eval")
