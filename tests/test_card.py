"""The model card shows the figures of the weights it goes with."""

import json

from diffgen.card import model_card
from diffgen.files import weights_digest

SCORES = {"fid": 6.25, "precision": 0.5, "recall": None, "class_accuracy": 0.96}


def evaluation(weights: str, guidance: float) -> str:
    settings = {
        "reference": "/data/val",
        "scheduler": "dpmpp",
        "steps": 20,
        "guidance_scale": guidance,
    }
    return json.dumps(
        {
            "weights": weights,
            "scores": SCORES,
            "floor": None,
            "size": "32x32",
            "counts": {"images": 512},
            "extractor": {"name": "reader"},
            "settings": settings,
        }
    )


def test_figures_of_other_weights_are_left_out(tmp_path):
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline/w.safetensors").write_bytes(b"now")
    (tmp_path / "evaluation-a.json").write_text(evaluation("before", 7.0))
    card = model_card("me/cats", {"depth": 1}, ["cat"], tmp_path, (32, 32))
    assert "## Scores" not in card
    now = weights_digest(tmp_path / "pipeline")
    (tmp_path / "evaluation-b.json").write_text(evaluation(now, 2.0))
    card = model_card("me/cats", {"depth": 1}, ["cat"], tmp_path, (32, 32))
    row = "| 32x32 | val | dpmpp, 20 | 2 | reader | 512 | 6.25 (-) | 0.500 | - | 96.0% |"
    assert row in card.splitlines()
    assert "| 7 |" not in card
