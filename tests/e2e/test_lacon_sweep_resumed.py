"""``eval/lacon.py`` again: what is there is kept, what is of other things is drawn anew."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from diffgen.cli import main
from diffgen.commands.lacon_sweep import scorer
from diffgen.data.pixels import to_pil
from diffgen.lacon.conditions import EDGE
from diffgen.pipeline import DiffGenPipeline
from tests.e2e.forked import Running
from tests.e2e.lacon_sweeps import FAST, argv, cell, make_run, save_aligner

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


def stop(*args):
    raise KeyboardInterrupt


def same(this: Path, other: Path) -> bool:
    """Whether two sweeps have the same figures, but for what was timed."""

    def read(out: Path) -> dict:
        sweep = json.loads((out / "sweep.json").read_text())
        del sweep["settings"]["out"], sweep["processes"], sweep["commands"]
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


def test_a_stopped_cell_loses_nothing(model, swept, tmp_path, counted, monkeypatch):
    run = argv(model, tmp_path / "s")
    with monkeypatch.context() as patch:
        patch.setattr(scorer, "colour_error", stop)
        assert main(run) == 130
    assert list(tmp_path.glob("s/cells/unguided-*.parts/*/*.safetensors"))
    assert counted == [(0, 8)] * 4
    counted.clear()
    assert main(run) == 0
    assert counted == [(0, 8)] * 6 + 2 * [*of_cell(1.0), *of_cell(4.0)]
    assert same(tmp_path / "s", swept)


def test_a_stopped_cell_goes_on_with_no_map_of_another_reference(model, tmp_path, monkeypatch):
    for seed in (0, 1):
        (tmp_path / f"real{seed}").mkdir()
        generator = torch.Generator().manual_seed(seed)
        pixels = torch.randint(256, (40, 3, 16, 16), generator=generator, dtype=torch.uint8)
        for k, picture in enumerate(to_pil(pixels)):
            picture.save(tmp_path / f"real{seed}" / f"{k:02d}.png")

    def run(out: str, seed: int) -> int:
        more = ["--scales", "4", "--reference", str(tmp_path / f"real{seed}")]
        run = ["lacon-sweep", str(model), "--conditions", "edge", *FAST, *more]
        return main([*run, "--out", str(tmp_path / out)])

    draws = scorer.read_drawn

    def stopping(bench, config, plan, *more):
        return stop() if plan.facts.get("shift") else draws(bench, config, plan, *more)

    with monkeypatch.context() as patch:
        patch.setattr(scorer, "read_drawn", stopping)  # before the control of the guided cell
        assert run("s", 0) == 130
    assert list(tmp_path.glob("s/cells/edge-4-*.parts/images-*"))
    assert run("s", 1) == run("fresh", 1) == 0
    assert same(tmp_path / "s", tmp_path / "fresh")


def test_processes_share_the_cells_of_the_script(model, swept, tmp_path):
    _, *given = argv(model, tmp_path / "s")
    run = Running("eval/lacon.py", *given, folder=tmp_path, world=2)
    assert run.codes == [0, 0], run.said
    assert cell(tmp_path / "s", "edge-4")["processes"] == 2
    assert same(tmp_path / "s", swept)
