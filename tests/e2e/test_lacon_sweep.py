"""``eval/lacon.py`` as a user runs it, on a tiny model with untrained aligners."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import diffgen.sampling.batches as batches
from diffgen.cli import main
from diffgen.commands.lacon_sweep.aligners import stored_aligners
from diffgen.commands.lacon_sweep.scorer import Scorer
from diffgen.commands.lacon_sweep.wanted import Judge
from diffgen.config.data import ShapesConfig
from diffgen.config.lacon_sweep import LaconSweepConfig
from diffgen.data.pixels import from_uint8, to_uint8
from diffgen.data.source import build_images
from diffgen.group import ALONE
from diffgen.guidance import CFG, Constraint
from diffgen.lacon.conditions import EDGE, MASK, PALETTE
from diffgen.lacon.fidelity import colour_error, edge_f1
from diffgen.lacon.load import load_aligner
from diffgen.lacon.losses import Aligned
from diffgen.pipeline import DiffGenPipeline
from tests.e2e.forked import Running
from tests.e2e.lacon_sweeps import COUNT, FAST, STEPS, make_run, save_aligner
from tests.tiny import build

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


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


def argv(model: Path, out: Path, *more: str) -> list[str]:
    asked = ["--conditions", "edge,mask", "--scales", "4,1", "--pictures", "3"]
    return ["lacon-sweep", str(model), *asked, *FAST, "--out", str(out), *more]


def cell(out: Path, name: str) -> dict:
    return json.loads((out / f"cells/{name}-steps2-seed0.json").read_text())


def strip(out: Path, name: str) -> torch.Tensor:
    """The pictures of a cell, (n, 3, 16, 16) uint8."""
    with Image.open(out / f"cells/{name}-steps2-seed0.png") as picture:
        pixels = torch.from_numpy(np.array(picture.convert("RGB")))
    return torch.stack(pixels.permute(2, 0, 1).chunk(pixels.shape[1] // 16, dim=-1))


@pytest.fixture(scope="module")
def wanted() -> tuple[torch.Tensor, list[int]]:
    """The held-out pictures that conditions are of, after those that FID compares with."""
    source = build_images(ShapesConfig(size="16x16"), "held_out")
    items = [source[k] for k in range(COUNT, 2 * COUNT)]
    return torch.stack([picture for picture, _ in items]), [label for _, label in items]


@pytest.fixture(scope="module")
def drawn(model, wanted):
    """``drawn(constraints, numbers)``: pictures straight from the pipeline, by default settings."""
    pipe = DiffGenPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    batches.set_up(pipe, LaconSweepConfig(source=str(model)).cell(STEPS, 0, []))

    def draw(constraints, numbers=range(COUNT)) -> torch.Tensor:
        x0 = pipe(
            [wanted[1][n % COUNT] for n in numbers],
            num_inference_steps=STEPS,
            guidance=CFG(2.0),
            seed=0,
            image_numbers=list(numbers),
            constraints=constraints,
            output_type="latent",
        ).images
        return to_uint8(x0)

    return draw


def edges(model: Path, maps: torch.Tensor, scale: float) -> list[Constraint]:
    """The constraint of a cell, put together by hand."""
    pipe = DiffGenPipeline.from_pretrained(model)
    aligner = load_aligner(model / "aligners/edge", pipe.transformer)
    return [Constraint(Aligned(aligner, EDGE, maps), scale)]


def test_table_plot_and_grid(swept):
    lines = (swept / "sweep.md").read_text().splitlines()
    assert lines[0].startswith("| condition | steps | scale | fidelity | control | FID | precision")
    assert [[part.strip() for part in line.split("|")[1:4]] for line in lines[2:10]] == [
        [name, steps, scale]
        for name in ("edge", "mask")
        for steps, scale in (("2", "unguided"), ("2", "1"), ("2", "4"), ("", "real"))
    ]
    sweep = json.loads((swept / "sweep.json").read_text())
    assert sweep["schema"] == "diffgen-lacon-sweep/1"
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
    assert found["mask", 4.0]["fidelity"]["mean"] == stored["measured"]["fidelity"]["mask"]["mean"]
    assert len(stored["measured"]["fidelity"]["mask"]["values"]) == COUNT
    assert found["mask", 0.0]["times"]["mean"] == 1
    assert found["mask", 4.0]["times"]["mean"] > 1
    with Image.open(swept / "plot.png") as plot, Image.open(swept / "grid.png") as grid:
        assert len(plot.convert("RGB").getcolors(2**24)) > 50
        assert grid.height > 2 * 5 * 64
        assert grid.width >= 3 * 64
    assert not list(swept.glob("cells/*.parts"))


def test_unguided_cells_are_evaluations_of_the_same_images(swept, wanted, drawn, tmp_path):
    pictures = drawn([])
    assert torch.equal(strip(swept, "unguided"), pictures[:3])
    np.savez(tmp_path / "x.npz", pictures.permute(0, 2, 3, 1).numpy(), np.array(wanted[1]))
    again = ["eval", str(tmp_path / "x.npz"), "--num-images", str(COUNT), "--no-intervals"]
    assert main([*again, "--device", "cpu", "--out", str(tmp_path / "e.json")]) == 0
    scores, there = json.loads((tmp_path / "e.json").read_text())["scores"], cell(swept, "unguided")
    for name in ("fid", "precision", "recall", "saturation"):
        assert there["scores"][name] == pytest.approx(scores[name], rel=1e-5)
    assert there["labels"].startswith("as in the pictures of the conditions")


def test_guided_cells_and_their_control_are_drawn_under_the_right_maps(model, swept, wanted, drawn):
    maps, there = EDGE.of(wanted[0]), cell(swept, "edge-4")["measured"]
    for name, given in (("fidelity", maps), ("control", maps.roll(-1, 0))):
        pictures = drawn(edges(model, given, 4.0))
        values = edge_f1(EDGE.of(from_uint8(pictures)), maps)
        assert there[name]["edge"]["values"] == pytest.approx(values.tolist(), abs=1e-6)
    assert there["fidelity"] != there["control"]


def test_variation_is_between_images_of_one_map_and_other_noise(model, swept, wanted, drawn):
    guided = edges(model, EDGE.of(wanted[0]), 4.0)
    first, again = (from_uint8(drawn(guided, range(k, k + COUNT))) for k in (0, COUNT))
    found = cell(swept, "edge-4")["measured"]["variation"]
    assert found["values"] == pytest.approx(colour_error(first, again).tolist(), abs=1e-6)
    unguided = cell(swept, "unguided")["measured"]["variation"]["mean"]
    assert 0 < found["mean"] < 1
    assert found["mean"] != unguided


@pytest.fixture
def counted(monkeypatch):
    """Notes the images that are drawn: scale (0: unguided) and number of images."""
    seen = []
    call = DiffGenPipeline.__call__

    def noting(self, *args, **options):
        scales = [constraint.scale for constraint in options["constraints"]]
        seen.append(((scales or [0])[0], len(options["image_numbers"])))
        return call(self, *args, **options)

    monkeypatch.setattr(DiffGenPipeline, "__call__", noting)
    return seen


def of_cell(scale: float) -> list[tuple[float, int]]:
    """What a guided cell draws: its images, as many again and under another map, and for time."""
    return [(scale, 8)] * 6 + [(scale, 8), (0, 8)] * 3


def same(this: Path, other: Path) -> bool:
    """Whether two sweeps have the same figures, but for what was timed."""

    def read(out: Path) -> dict:
        sweep = json.loads((out / "sweep.json").read_text())
        del sweep["settings"]["out"], sweep["processes"]
        for one in sweep["cells"]:
            for figures in (one["figures"], *one["seeds"]):
                del figures["seconds"], figures["times"]
        return sweep

    return read(this) == read(other)


def test_the_same_command_goes_on_and_a_new_aligner_redraws_its_own_cells(
    model, swept, tmp_path, counted, capsys
):
    copy, out = shutil.copytree(model, tmp_path / "model"), shutil.copytree(swept, tmp_path / "s")
    run = argv(copy, out)
    assert main(run) == 0
    assert counted == []
    (out / "cells/mask-4-steps2-seed0.json").unlink()
    assert main(run) == 0
    assert counted == of_cell(4.0)
    counted.clear()
    pipe = DiffGenPipeline.from_pretrained(copy)
    save_aligner(pipe, EDGE, copy / "aligners", seed=1)
    assert main(run) == 0
    assert counted == of_cell(1.0) + of_cell(4.0)
    assert "2 cells of other settings" in capsys.readouterr().err


def test_a_stopped_cell_loses_nothing(model, swept, tmp_path, counted, monkeypatch, capsys):
    measure = Judge.fidelity

    def stopped(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(Judge, "fidelity", stopped)
    run = argv(model, tmp_path / "s")
    assert main(run) == 130
    assert list(tmp_path.glob("s/cells/unguided-*.parts/*/*.safetensors"))
    assert counted == [(0, 8)] * 4
    monkeypatch.setattr(Judge, "fidelity", measure)
    counted.clear()
    assert main(run) == 0
    assert counted == [(0, 8)] * 6 + 2 * [*of_cell(1.0), *of_cell(4.0)]
    assert same(tmp_path / "s", swept)


def test_processes_share_the_cells_of_the_script(model, swept, tmp_path):
    _, *given = argv(model, tmp_path / "s")
    run = Running("eval/lacon.py", *given, folder=tmp_path, world=2)
    assert run.codes == [0, 0], run.said
    assert cell(tmp_path / "s", "edge-4")["processes"] == 2
    assert same(tmp_path / "s", swept)


def test_another_pictures_map_is_that_of_the_next_one_and_the_class_stays(model, tmp_path):
    config = LaconSweepConfig(
        source=str(model), conditions=["mask"], num_images=COUNT, device="cpu", out=tmp_path
    )
    stored = stored_aligners(config)
    scorer = Scorer(stored, config.cell(STEPS, 0, ["mask"]), ALONE, tmp_path / "real.parts")
    late = config.late("mask", 1.0, stored["mask"].digest)
    own, other = (scorer.plan(late, shift) for shift in (0, 1))

    def maps(plan, number: int) -> torch.Tensor:
        return plan.constrain([number])[0].loss.wanted

    assert torch.equal(maps(other, 3), maps(own, 4))
    assert torch.equal(maps(other, COUNT - 1), maps(own, 0))
    assert torch.equal(maps(own, COUNT + 2), maps(own, 2))
    assert other.labels == own.labels
    assert own.of([COUNT + 1]) == {COUNT + 1: own.labels[1]}


def test_other_sizes_guidance_and_forms(model, tmp_path):
    out = tmp_path / "s"
    more = ["--size", "24x16", "--guidance.kind", "apg", "--form", "ratio_rms", "--until", "0.5"]
    more += ["--conditions", "palette", "--scales", "0.5", "--recurrence", "2"]
    assert main(["lacon-sweep", str(model), *FAST, "--out", str(out), *more]) == 0
    late = cell(out, "palette-0.5")["settings"]["late"]
    assert (late["form"], late["until"], late["recurrence"]) == ("ratio_rms", 0.5, 2)
    with Image.open(out / "cells/palette-0.5-steps2-seed0.png") as picture:
        assert picture.size == (8 * 16, 24)


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
    assert found["measured"]["real"]["edge"]["mean"] == 1  # these pictures have 8 bits already
    assert found["labels"] == "the classes in turn"


def test_a_claim_of_two_models(model, tmp_path, capsys):
    other = shutil.copytree(model, tmp_path / "other")
    pipe = DiffGenPipeline.from_pretrained(other)
    with torch.no_grad():
        next(pipe.transformer.parameters()).mul_(1.1)
    pipe.save_pretrained(other / "pipeline")
    (other / "config.yaml").write_text("seed: 3\n")
    for condition in (EDGE, MASK, PALETTE):
        save_aligner(pipe, condition, other / "aligners")
    few = ["--scales", "1", *FAST, "--num-images", "12"]
    assert main(["lacon-sweep", str(other), *few, "--out", str(tmp_path / "b")]) == 0
    file = tmp_path / "lacon.json"
    more = ["--evidence", str(file), "--also", str(tmp_path / "b"), "--out", str(tmp_path / "a")]
    assert main(["lacon-sweep", str(model), *few, *more]) == 0
    claim = json.loads(file.read_text())
    assert claim["seeds"] == [5, 3]
    assert f"claim {file}: {claim['verdict']}" in capsys.readouterr().out
    assert len(claim["data"]["models"]) == 2
    assert main(["evidence", str(file)]) == 0
