"""``eval/lacon.py`` as a user runs it, on a tiny model with untrained aligners: its figures."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffgen.cli import main
from diffgen.commands import costs
from diffgen.commands.lacon_sweep import scorer
from diffgen.commands.lacon_sweep.wanted import read_wanted
from diffgen.config.lacon_sweep import LaconSweepConfig
from diffgen.data.pixels import from_uint8, to_uint8
from diffgen.group import ALONE
from diffgen.guidance import APG
from diffgen.lacon.conditions import EDGE, MASK, PALETTE
from diffgen.lacon.fidelity import colour_error, edge_f1
from diffgen.pipeline import DiffGenPipeline
from tests.e2e.lacon_sweeps import (
    COUNT,
    FAST,
    QUICK,
    STEPS,
    argv,
    cell,
    constraint,
    draw,
    held_out,
    make_run,
    save_aligner,
    strip,
)
from tests.tiny import build

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A tiny run with three aligners."""
    return make_run(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def swept(model, tmp_path_factory) -> Path:
    """A finished sweep of two conditions at two scales."""
    out = tmp_path_factory.mktemp("sweeps") / "s"
    assert main(argv(model, out)) == 0
    return out


def test_the_table_has_a_line_a_scale_and_the_figures_of_the_cells(swept):
    lines = (swept / "sweep.md").read_text().splitlines()
    assert lines[0].startswith("| condition | steps | scale | fidelity | first 16 | control, first")
    assert [[part.strip() for part in line.split("|")[1:4]] for line in lines[2:10]] == [
        [name, steps, scale]
        for name in ("edge", "mask")
        for steps, scale in (("2", "unguided"), ("2", "1"), ("2", "4"), ("", "real"))
    ]
    sweep = json.loads((swept / "sweep.json").read_text())
    assert (sweep["scales"], sweep["steps"], sweep["seeds"]) == ([0.0, 1.0, 4.0], [2], [0])
    assert sweep["conditions"]["mask"]["read_by"] == "the embedded reader"
    assert sweep["conditions"]["edge"]["until"] == 0.3
    found = {(c["condition"], c["scale"]): c["figures"] for c in sweep["cells"]}
    edge, mask = found["edge", 0.0], found["mask", 0.0]
    assert edge["fid"] == mask["fid"]
    assert edge["fidelity"] != mask["fidelity"]
    assert edge["control"] is None
    stored = cell(swept, "mask-4")
    assert found["mask", 4.0]["fid"]["mean"] == stored["scores"]["fid"]
    assert found["mask", 4.0]["fidelity"] == stored["measured"]["fidelity"]["mask"]
    assert not list(swept.glob("cells/*.parts"))


def test_real_pictures_are_held_against_their_own_maps_and_against_each_other(swept):
    real = json.loads((swept / "sweep.json").read_text())["real"]["edge"]
    pictures, _ = held_out()
    ceiling = edge_f1(EDGE.of(from_uint8(to_uint8(pictures))), EDGE.of(pictures))
    assert real["fidelity"]["mean"] == pytest.approx(float(ceiling.mean()))
    assert real["fid"]["mean"] == cell(swept, "unguided")["floor"]["scores"]["fid"]


def test_the_grid_shows_the_pictures_their_maps_and_the_images(swept):
    with Image.open(swept / "grid.png") as picture:
        grid = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    pictures, _ = held_out()
    maps = (255 * EDGE.of(pictures)).to(torch.uint8).expand(-1, 3, -1, -1)
    shown = to_uint8(pictures), maps, strip(swept, "unguided"), strip(swept, "edge-1")
    for row, images in enumerate(shown):  # four times as large, below a title
        top = 22 + row * (22 + 64 + 4)
        seen = grid[:, top : top + 64 : 4, 4 : 4 + 3 * 64 : 4]
        assert torch.equal(seen, torch.cat(list(images[:3]), dim=-1))
    with Image.open(swept / "plot.png") as plot:
        assert len(plot.convert("RGB").getcolors(2**24)) > 50


def test_unguided_cells_are_evaluations_of_the_same_images(model, swept, tmp_path):
    pictures = draw(model)
    assert torch.equal(strip(swept, "unguided"), pictures[:3])
    np.savez(tmp_path / "x.npz", pictures.permute(0, 2, 3, 1).numpy(), np.array(held_out()[1]))
    again = ["eval", str(tmp_path / "x.npz"), "--num-images", str(COUNT), "--no-intervals"]
    assert main([*again, "--device", "cpu", "--out", str(tmp_path / "e.json")]) == 0
    scores, there = json.loads((tmp_path / "e.json").read_text())["scores"], cell(swept, "unguided")
    for name in ("fid", "precision", "recall", "saturation"):
        assert there["scores"][name] == pytest.approx(scores[name], rel=1e-5)
    assert there["labels"].startswith("as in the pictures of the conditions")


def test_guided_cells_and_their_control_are_drawn_under_the_right_maps(model, swept):
    maps, there = EDGE.of(held_out()[0]), cell(swept, "edge-4")["measured"]
    for name, given in (("fidelity", maps), ("control", maps.roll(-1, 0))):
        pictures = draw(model, constraint(model, EDGE, given, 4.0))
        values = edge_f1(EDGE.of(from_uint8(pictures)), maps)
        assert there[name]["edge"]["mean"] == pytest.approx(float(values.mean()), abs=1e-6)
    assert there["fidelity"] != there["control"]


def test_a_control_is_held_against_the_same_images(model, tmp_path, monkeypatch):
    monkeypatch.setattr(scorer, "AGAIN", 5)
    one = ["--conditions", "edge", "--scales", "4"]
    assert main(["lacon-sweep", str(model), *FAST, *one, "--out", str(tmp_path / "s")]) == 0
    maps, there = EDGE.of(held_out()[0]), cell(tmp_path / "s", "edge-4")["measured"]
    values = edge_f1(EDGE.of(from_uint8(draw(model, constraint(model, EDGE, maps, 4.0)))), maps)
    for name, few in (("fidelity", values), ("first", values[:5])):
        assert there[name]["edge"]["mean"] == pytest.approx(float(few.mean()), abs=1e-6)
    assert "| control, first 5 |" in (tmp_path / "s/sweep.md").read_text()


def test_variation_is_between_images_of_one_map_and_other_noise(model, swept):
    guided = constraint(model, EDGE, EDGE.of(held_out()[0]), 4.0)
    parts = [range(k, k + COUNT) for k in (0, COUNT)]
    first, again = (from_uint8(draw(model, guided, numbers=part)) for part in parts)
    found = cell(swept, "edge-4")["measured"]["variation"]["mean"]
    assert found == pytest.approx(float(colour_error(first, again).mean()), abs=1e-6)
    assert 0 < found < 1
    assert found != cell(swept, "unguided")["measured"]["variation"]["mean"]


def test_every_number_of_steps_and_every_seed_is_drawn(model, tmp_path):
    out = tmp_path / "s"
    asked = ["--conditions", "palette", "--scales", "4", "--steps", "3,2", "--seeds", "0,1"]
    run = ["lacon-sweep", str(model), *QUICK, *asked, "--pictures", "2", "--out", str(out)]
    assert main(run) == 0
    guided = constraint(model, PALETTE, PALETTE.of(held_out()[0]), 4.0)
    for steps in (3, 2):
        for seed in (0, 1):
            for name, constraints in (("unguided", []), ("palette-4", [guided])):
                pictures = draw(model, *constraints, num_inference_steps=steps, seed=seed)
                assert torch.equal(strip(out, name, steps, seed), pictures[:2])
    sweep = json.loads((out / "sweep.json").read_text())
    for one in sweep["cells"]:
        fids = [seen["fid"]["mean"] for seen in one["seeds"]]
        assert one["figures"]["fid"]["mean"] == pytest.approx(sum(fids) / 2)
        assert fids[0] != fids[1]
    assert sweep["intervals"].startswith("95 %, by Student's t over seeds")


def test_size_guidance_form_end_and_recurrence_reach_the_pictures(model, tmp_path):
    out = tmp_path / "s"
    more = ["--size", "24x16", "--guidance.kind", "apg", "--form", "ratio_rms", "--until", "0.6"]
    more += ["--conditions", "palette", "--scales", "0.5", "--recurrence", "2", "--steps", "3"]
    assert main(["lacon-sweep", str(model), *QUICK, *more, "--out", str(out)]) == 0
    asked = {"form": "ratio_rms", "until": 0.6}
    sized = {"height": 24, "width": 16, "num_inference_steps": 3, "guidance": APG()}
    maps = PALETTE.of(held_out("24x16")[0])
    found = strip(out, "palette-0.5", steps=3)
    for recurrence, changes, same in ((2, {}, True), (1, {}, False), (2, {"until": 0.7}, False)):
        one = constraint(model, PALETTE, maps, 0.5, **{**asked, **changes})
        pictures = draw(model, one, recurrence=recurrence, **sized)
        assert torch.equal(found, pictures[:8]) == same


def test_models_of_latents_and_a_folder_of_pictures(make_vae, work, tmp_path):
    tiny = build(in_channels=4, sample_size=(8, 8))
    form = {"factor": 2, "mean": [0.0] * 4, "std": [1.0] * 4}
    pipe = DiffGenPipeline(
        tiny.transformer, tiny.scheduler, tiny.config.class_names, latent_format=form
    )
    pipe.save_pretrained(tmp_path / "model")
    save_aligner(pipe, EDGE, tmp_path / "elsewhere")
    more = ["--vae", str(make_vae()), "--aligners", str(tmp_path / "elsewhere")]
    more += ["--reference", str(work / "real"), "--size", "24x32", "--scales", "1"]
    run = ["lacon-sweep", str(tmp_path / "model"), "--conditions", "edge", *FAST, *more]
    assert main([*run, "--out", str(tmp_path / "s")]) == 0
    found = cell(tmp_path / "s", "edge-1")
    real = found["measured"]["real"]["edge"]["fidelity"]["mean"]
    assert real == 1  # these pictures have 8 bits already
    assert found["labels"] == "the classes in turn"


@pytest.fixture
def opened(model, tmp_path):
    """A scorer for masks, its unguided cell and a guided one."""
    config = LaconSweepConfig(
        source=str(model), conditions=["mask"], num_images=COUNT, device="cpu", out=tmp_path
    )
    wanted = read_wanted(config)
    free = config.cell(STEPS, 0, {"mask": wanted.conditions["mask"].digest})
    guided = free.model_copy(update={"late": config.late("mask", 1.0, "digest")})
    return scorer.Scorer(wanted, free, ALONE, tmp_path / "real.parts"), free, guided


def test_another_pictures_map_is_that_of_the_next_one_and_the_class_stays(opened):
    found, _, guided = opened
    own, other = (found.plan(guided, shift) for shift in (0, 1))
    maps = MASK.of(held_out()[0])

    def of(plan, number: int) -> torch.Tensor:
        return plan.constrain([number])[0].loss.wanted

    assert torch.equal(of(other, 3), of(own, 4))
    assert torch.equal(of(other, COUNT - 1), of(own, 0))
    assert torch.equal(of(own, COUNT + 2), of(own, 2))
    assert of(own, 2).shape == maps[2:3].shape
    assert other.labels == own.labels
    assert own.of([COUNT + 1]) == {COUNT + 1: own.labels[1]}


def test_costs_are_told_by_turns_since_machines_slow_down(opened, monkeypatch):
    """A clock by which a constraint takes three times as long, and each batch twice the last."""
    found, free, guided = opened
    now, slow = [0.0], [1.0]
    call = DiffGenPipeline.__call__

    def ticking(self, *args, **options):
        now[0] += slow[0] * (3 if options["constraints"] else 1)
        slow[0] *= 2
        return call(self, *args, **options)

    monkeypatch.setattr(DiffGenPipeline, "__call__", ticking)
    monkeypatch.setattr(costs, "perf_counter", lambda: now[0])
    plan, unguided = found.plan(guided), found.plan(free)
    cost = costs.cost(found.bench, guided, plan, unguided, COUNT)
    assert cost["times"]["mean"] == 3 / 2  # grouped it would be 3 / 8
    assert cost["seconds"]["mean"] == 3 * 4 / 16
    assert costs.cost(found.bench, free, unguided, None, COUNT)["times"]["mean"] == 1


def test_a_claim_of_two_models(model, tmp_path, capsys):
    other = shutil.copytree(model, tmp_path / "other")
    pipe = DiffGenPipeline.from_pretrained(other)
    with torch.no_grad():
        next(pipe.transformer.parameters()).mul_(1.1)
    pipe.save_pretrained(other / "pipeline")
    (other / "config.yaml").write_text("seed: 3\n")
    for condition in (EDGE, MASK, PALETTE):
        save_aligner(pipe, condition, other / "aligners")
    (other / "aligners/edge/config.yaml").write_text("condition: edge\nwidth: 8\ndevice: cpu\n")
    few = ["--scales", "1", *FAST, "--num-images", "12"]
    assert main(["lacon-sweep", str(other), *few, "--out", str(tmp_path / "b")]) == 0
    file = tmp_path / "lacon.json"
    more = ["--evidence", str(file), "--also", str(tmp_path / "b"), "--out", str(tmp_path / "a")]
    assert main(["lacon-sweep", str(model), *few, *more]) == 0
    claim = json.loads(file.read_text())
    assert claim["seeds"] == [5, 3]
    assert f"claim {file}: {claim['verdict']}" in capsys.readouterr().out
    assert len(claim["data"]["models"]) == 2
    first = f"runs/{model.name}"
    assert claim["commands"][0] == f"python train/dit.py --out {first} --seed 5 --model.depth 2"
    assert claim["commands"][4].startswith(f"python eval/lacon.py {first} --out a ")
    assert "python train/lacon.py runs/other --condition edge --width 8" in claim["commands"]
    assert str(tmp_path) not in file.read_text()
    assert main(["evidence", str(file)]) == 0
