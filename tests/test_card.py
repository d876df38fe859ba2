"""The model card shows the figures of the weights it goes with."""

import json

from diffgen import DiffGenPipeline
from diffgen.card import model_card
from diffgen.commands.load import load_pipeline
from diffgen.config.distilled import Distilled
from diffgen.files import weights_digest
from tests.tiny import build

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
    (tmp_path / "evaluation-a.json").write_text(evaluation("before", 7.0))
    (tmp_path / "evaluation-broken.json").write_text("{")
    (tmp_path / "evaluation-other.json").write_text("[]")
    made = ("me/cats", {"depth": 1}, ["cat"], tmp_path, (32, 32), "now")
    assert "## Scores" not in model_card(*made)
    (tmp_path / "evaluation-b.json").write_text(evaluation("now", 2.0))
    card = model_card(*made)
    row = "| 32x32 | data/val | dpmpp, 20 | cfg 2 | reader | 512 | 6.25 (-) | 0.500 | - | 96.0% |"
    assert row in card.splitlines()
    assert "| cfg 7 |" not in card


def test_the_card_of_a_distilled_model_tells_its_steps_and_that_it_takes_no_guidance():
    made = ("me/cats", {"depth": 1}, ["cat"], None, (32, 32), "now")
    card = model_card(*made, Distilled(steps=(1, 2, 4)))
    assert "It is distilled: it draws in 1, 2 or 4 steps, 1 where" in card
    assert "takes no guidance" in card
    assert "distilled" not in model_card(*made)


def test_a_pipeline_that_is_saved_again_keeps_its_digest(tmp_path):
    """So the card of an upload finds the figures of the run it was loaded from."""
    pipe = build()
    pipe.save_pretrained(tmp_path / "run/pipeline")
    pipe = DiffGenPipeline.from_pretrained(tmp_path / "run")
    pipe.save_pretrained(tmp_path / "again")
    digest = load_pipeline(tmp_path / "run", "cpu").weights
    assert weights_digest(tmp_path / "again") == digest
