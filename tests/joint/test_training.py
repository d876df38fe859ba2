"""Adapters trained on tiny random models by the real command: learning, resuming, telling."""

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file

import diffgen.commands.train_joint as command
from diffgen.commands.joint_report import training_seconds
from diffgen.commands.train_joint import train_joint, training_process
from diffgen.config.process import DDPMConfig, UniformTimes
from diffgen.data.pixels import to_pil, to_uint8
from diffgen.data.shapes import Shapes
from diffgen.errors import UserError
from diffgen.files import weights_digest
from diffgen.joint.channels import load_channels
from diffgen.joint.load import load_adapter
from diffgen.lacon.conditions import COLOUR_ERROR, Condition
from diffgen.pipeline import DiffGenPipeline
from diffgen.processes.gaussian import min_snr_weight
from tests.joint_runs import settings, tensors
from tests.lacon_runs import tiny_run
from tests.late import RANDOM
from tests.logs import curve
from tests.trainings import assert_same_tensors

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module", autouse=True)
def few_drawn():
    """Figures of 16 pictures in 2 steps, for speed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("diffgen.commands.joint_report.MEASURED", 16)
        patch.setattr("diffgen.commands.joint_drawers.Drawer.steps", 2)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run folder of a model of shapes."""
    return tiny_run(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="module", params=["joint", "channels"])
def uninterrupted(request, run, tmp_path_factory) -> Path:
    """Depth by either method, trained at one go."""
    out = tmp_path_factory.mktemp("trained") / request.param
    train_joint(settings(run, out=out, method=request.param))
    return out


def told(out: Path) -> dict[str, Any]:
    """report.json without what a clock measured."""
    report = json.loads((out / "report.json").read_text())
    assert report.pop("seconds") > 0
    return report


def assert_same(one: Path, other: Path) -> None:
    assert curve(one) == curve(other)
    assert_same_tensors(tensors(one), tensors(other), more_than=40)
    assert told(one) == told(other)
    assert (one / "origin.json").read_bytes() == (other / "origin.json").read_bytes()


class Killed(BaseException):
    """As sudden as a signal."""


def test_the_losses_of_both_branches_fall_and_the_model_stays_as_it_is(run, capsys):
    """By default beside the model; its adapter is small, and knows what it belongs to."""
    before = weights_digest(run / "pipeline")
    often = {"images": 960, "batch_size": 32, "log_images": 320, "sample_images": 640}
    train_joint(settings(run, pair="palette", train=often, optimizer={"muon_lr": 0.1}))
    out = run / "joint" / "palette"
    assert {path.name for path in out.iterdir()} >= {
        *("config.yaml", "metrics.jsonl", "samples", "checkpoints", "adapter", "report.json"),
    }
    assert sorted(path.name for path in (out / "samples").iterdir()) == [
        "images-000000640.png",
        "images-000000960.png",
    ]
    first, *_, last = (line["losses"] for line in curve(out))
    assert len(first) == 8
    for part, loss in first.items():
        assert last[part] < 0.95 * loss
    assert weights_digest(run / "pipeline") == before
    model = DiffGenPipeline.from_pretrained(run).transformer
    adapter, condition = load_adapter(out, model)
    assert (adapter.config.condition, condition.name) == ("palette", "palette")
    share = adapter.num_parameters() / sum(p.numel() for p in model.parameters())
    assert share <= 0.15
    average = load_file(sorted((out / "checkpoints").iterdir())[-1] / "ema-constant.safetensors")
    exported = adapter.state_dict()
    assert all(torch.equal(exported[name], weight) for name, weight in average.items())
    report = json.loads((out / "report.json").read_text())
    assert (report["pictures"], report["num_images"]) == ("held-out", 16)
    assert (report["parameters"], report["images_seen"]) == (adapter.num_parameters(), 960)
    assert report["share_of_model"] == share
    said = capsys.readouterr().out
    assert f"adapter of palette: {adapter.num_parameters():,} parameters, {share:.1%} of" in said
    assert f"palette drawn from 16 held-out pictures: colour_error {report['own']:.3f}, "
    given = "--given palette=PICTURE.png --given-from picture"
    assert f"next\n  python sample/joint.py {run} {given}" in said


def test_a_killed_training_goes_on_as_if_nothing_had_happened(
    run, uninterrupted, tmp_path, monkeypatch
):
    """Killed at image 72: past a checkpoint (64), in the middle of a line of the log (48, 72)."""
    config = settings(
        run, out=tmp_path / "run", method=uninterrupted.name, train={"sample_images": 24}
    )
    draw_sheet = command.draw_sheet

    def kill(*given):
        draw_sheet(*given)
        if "72" in given[-1].name:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(command, "draw_sheet", kill)
        with pytest.raises(Killed):
            train_joint(config)
    assert not (config.out / "report.json").exists()
    train_joint(config)
    assert_same(config.out, uninterrupted)


def test_the_same_command_on_a_finished_training_changes_nothing(run, uninterrupted, tmp_path):
    again, method = tmp_path / "again", uninterrupted.name
    shutil.copytree(uninterrupted, again)
    (again / "report.json").unlink()  # as if killed before it was written
    train_joint(settings(run, out=again, method=method))
    assert_same(again, uninterrupted)
    train_joint(settings(run, out=tmp_path / "seed", method=method, seed=1))
    assert curve(tmp_path / "seed") != curve(uninterrupted)


def test_channels_lie_beside_the_adapter_and_begin_with_the_models_weights(run, capsys):
    still = {"optimizer": {"lr": 1e-30, "muon_lr": 1e-30}}
    train_joint(settings(run, pair="mask", method="channels", **still))
    out = run / "joint/mask-channels"
    model = DiffGenPipeline.from_pretrained(run).transformer
    wide = load_channels(out, model).state_dict()
    for name, weight in model.state_dict().items():
        taken = wide[name][:, :12] if name == "x_embedder.proj.weight" else wide[name]
        assert torch.equal(taken, weight), name
    said = capsys.readouterr().out
    assert "mask found in images drawn from that of 16 held-out pictures: iou " in said
    assert said.endswith(f"\n  python eval/joint.py {run} --conditions mask\n")
    assert told(out)["parameters"] == sum(weight.numel() for weight in wide.values())
    assert all("losses" not in line for line in curve(out))


def test_what_cannot_be_found_in_images_is_drawn_but_not_measured(
    run, uninterrupted, tmp_path, capsys
):
    joint = uninterrupted.name == "joint"
    again = shutil.copytree(uninterrupted, tmp_path / "again")
    (again / "report.json").unlink()  # else nothing is measured again
    train_joint(settings(run, out=again, method=uninterrupted.name))
    said = capsys.readouterr()
    assert ("measure" in told(again)) == ("measuring" in said.err) == joint
    assert ("not measured here: " in said.out) == (not joint)
    assert len(list((again / "samples").iterdir())) == 1


def test_the_seconds_of_a_training_are_those_of_all_its_lines():
    log = [(80, 40.0), (160, 20.0), (170, 10.0)]
    assert training_seconds({"images": n, "images_per_second": v} for n, v in log) == 2 + 4 + 1


def test_ones_own_colours_are_given_as_maps_as_drawing_cannot_find_them(run, monkeypatch, capsys):
    module = ModuleType("mine")
    module.HUES = Condition("hues", 3, False, torch.Tensor.neg, COLOUR_ERROR)
    monkeypatch.setitem(sys.modules, "mine", module)
    train_joint(settings(run, pair="mine:HUES"))
    assert capsys.readouterr().out.endswith("--given hues=MAP.png\n")


def test_black_edges_on_white_are_refused(run, tmp_path):
    """Edges are white on black; a sketch of this kind is a picture, and of pair folder."""
    shapes = Shapes(16, 16, "train")
    pictures = torch.stack([shapes[i][0] for i in range(4)])
    lines = torch.stack([1 - 2 * shapes.maps(i)["edge"] for i in range(4)])
    for place, tensor in (("pictures", pictures), ("lines", lines)):
        (tmp_path / place).mkdir()
        for i, picture in enumerate(to_pil(to_uint8(tensor))):
            picture.save(tmp_path / place / f"{i}.png")
    data = {"kind": "folder", "path": str(tmp_path / "pictures"), "size": "16x16"}
    config = settings(
        run, out=tmp_path / "out", data=data, pair="edge", pair_path=str(tmp_path / "lines")
    )
    with pytest.raises(UserError, match="pair_path: the maps of edge are mostly white, but edges"):
        train_joint(config)
    assert not config.out.exists()


def test_a_model_of_latents_learns_pairs_of_latents(vae_folder, tmp_path):
    vae = AutoencoderKL.from_pretrained(vae_folder)
    run = tiny_run(tmp_path / "run", vae=vae)
    for method in ("joint", "channels"):
        train_joint(settings(run, pair="edge", method=method))
        name = "edge" if method == "joint" else "edge-channels"
        assert (run / "joint" / name / "report.json").exists()


@pytest.mark.parametrize("method", ["joint", "channels"])
def test_a_chain_with_learned_variance_and_drawn_positions_is_trained(tmp_path, method):
    chain = DDPMConfig(learned_variance=True, num_train_timesteps=25)
    options = {"prediction": "v", "out_channels": 6, "position": RANDOM}
    run = tiny_run(tmp_path, chain=chain, **options)
    train_joint(settings(run, pair="mask", method=method, times={"kind": "correlated"}))
    (place,) = (run / "joint").iterdir()
    assert json.loads((place / "report.json").read_text())["measure"] == "iou"


def test_a_chains_losses_are_weighted_and_a_flows_times_are_those_of_its_own_run(tmp_path):
    chain = tiny_run(tmp_path / "chain", chain=DDPMConfig(), prediction="eps")
    process = training_process(
        settings(chain, min_snr_gamma=2.0).settled("depth"), DiffGenPipeline.from_pretrained(chain)
    )
    model = DiffGenPipeline.from_pretrained(chain).transformer.requires_grad_(False)
    t = torch.linspace(0.1, 1, 10)
    x0, eps = torch.randn(2, 10, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    y = torch.zeros(10, dtype=torch.int64)
    plain = process.loss_terms(model, x0, eps, t, y)[0]
    weight = min_snr_weight("eps", *process.levels(t), 2.0)
    torch.testing.assert_close(process.loss(model, x0, eps, t, y), plain * weight)
    assert float(weight.min()) < 0.5 * float(weight.max())
    flow = tiny_run(tmp_path / "flow")
    stated = (flow / "config.yaml").read_text().replace("kind: logit_normal", "kind: uniform")
    stated = stated.replace("    mean: 0.8\n    std: 1.0\n", "")
    (flow / "config.yaml").write_text(stated)
    process = training_process(
        settings(flow).settled("depth"), DiffGenPipeline.from_pretrained(flow)
    )
    assert process.times == UniformTimes()
