"""``eval/guidance_sweep.py`` as a user runs it, and guidance from the command line."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

import diffgen.commands.guidance_sweep as command
from diffgen import DiffGenPipeline
from diffgen.cli import main
from diffgen.commands.guide import load_guide
from diffgen.commands.sweep_plot import Line, draw_plot
from diffgen.commands.train import train
from diffgen.config.guidance import AutoGuidanceConfig
from diffgen.config.train import TrainConfig
from tests.tiny import build

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

FAST = ["--num-images", "10", "--steps", "2", "--device", "cpu"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run with two snapshots, after 16 and 32 images."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    train(
        TrainConfig.model_validate(
            {
                "out": out,
                "device": "cpu",
                "data": {"kind": "shapes", "size": "16x16"},
                "model": {"depth": 1, "hidden_size": 32, "num_heads": 2},
                "schedule": {"warmup_images": 0},
                "ema": {"snapshots": 2},
                "train": {
                    "images": 32,
                    "batch_size": 8,
                    "sample_images": 0,
                    "checkpoint_images": 16,
                },
                "sampling": {"steps": 1},
                "report": {"sizes": ["16x16"], "num_images": 0},
            }
        )
    )
    assert [file.stem for file in sorted((out / "snapshots").iterdir())] == [
        "000000016",
        "000000032",
    ]
    return out


class TestSweep:
    def argv(self, run: Path, out: Path, *more: str) -> list[str]:
        scales = ["--scales", "4,1", "--seeds", "0,3", "--pictures", "3"]
        return ["guidance-sweep", str(run), *scales, *FAST, "--out", str(out), *more]

    @pytest.fixture
    def scored(self, monkeypatch):
        """Notes what is drawn: kind, scale, seed."""
        drawn, score = [], command.score_on

        def noting(bench, config, show):
            drawn.append((config.guidance.kind, config.guidance.scale, config.seed))
            return score(bench, config, show)

        monkeypatch.setattr(command, "score_on", noting)
        return drawn

    def test_table_plot_and_grid_and_nothing_drawn_twice(self, run, tmp_path, capsys, scored):
        argv = self.argv(run, tmp_path / "s", "--kinds", "cfg,apg,cfg_zero_star")
        assert main(argv) == 0
        kinds = ("cfg", "apg", "cfg_zero_star")
        unguided = [("cfg", 1.0, seed) for seed in (0, 3)]
        assert scored == unguided + [(kind, 4.0, seed) for kind in kinds for seed in (0, 3)]
        text = (tmp_path / "s/sweep.md").read_text()
        assert text.strip() in capsys.readouterr().out
        head, _, *rows = text.splitlines()
        assert head.startswith("| rule | scale | FID | precision | recall | class accuracy | satur")
        assert [row.split(" | ")[:2] for row in rows[:-1]] == [
            [f"| {kind}", scale] for kind in kinds for scale in ("1", "4")
        ]
        assert rows[-1].startswith("| real |")

        sweep = json.loads((tmp_path / "s/sweep.json").read_text())
        by_place = {(cell["rule"], cell["scale"]): cell for cell in sweep["cells"]}
        assert by_place["apg", 1.0]["figures"] == by_place["cfg", 1.0]["figures"]
        cell = by_place["apg", 4.0]
        fids = [one["fid"] for one in cell["seeds"]]
        stored = [
            json.loads((tmp_path / f"s/cells/apg-4-seed{seed}.json").read_text()) for seed in (0, 3)
        ]
        assert fids == [one["scores"]["fid"] for one in stored]
        assert cell["figures"]["fid"]["mean"] == pytest.approx(sum(fids) / 2)
        low, high = cell["figures"]["fid"]["interval"]
        assert high - low == pytest.approx(2 * 12.7062047 * abs(fids[0] - fids[1]) / 2)  # t of 1
        less = {(c["rule"], c["scale"]): c["figures"] for c in sweep["less_first"]}
        wanted = (
            cell["figures"]["recall"]["mean"] - by_place["cfg", 4.0]["figures"]["recall"]["mean"]
        )
        assert less["apg", 4.0]["recall"]["mean"] == pytest.approx(wanted)
        assert less["apg", 1.0]["fid"]["mean"] == 0
        for name in ("plot", "grid"):
            with Image.open(tmp_path / f"s/{name}.png") as picture:
                assert picture.width > 2 * 3 * 64
                assert len(picture.convert("RGB").getcolors(2**24)) > 50

        scored.clear()
        assert main(argv) == 0
        assert scored == []
        (tmp_path / "s/cells/cfg-4-seed3.json").unlink()
        (tmp_path / "s/cells/unguided-seed0.png").write_bytes(b"half")
        assert main(argv) == 0
        assert scored == [("cfg", 1.0, 0), ("cfg", 4.0, 3)]
        assert json.loads((tmp_path / "s/sweep.json").read_text()) == sweep

    def test_rules_of_a_file_and_a_guide_from_the_models_own_run(self, run, tmp_path, scored):
        rules = [
            {"guidance": {"kind": "apg", "momentum": -0.5}},
            {"name": "by itself", "guidance": {"kind": "autoguidance", "guide_images": 16}},
        ]
        file = tmp_path / "rules.yaml"
        file.write_text(yaml.safe_dump({"rules": rules}))
        argv = self.argv(run, tmp_path / "s", "--config", str(file))
        assert main(argv) == 0
        sweep = json.loads((tmp_path / "s/sweep.json").read_text())
        assert list(sweep["rules"]) == ["apg, momentum -0.5", "by itself"]
        cell = json.loads((tmp_path / "s/cells/by_itself-4-seed0.json").read_text())
        assert cell["guide_weights"] != cell["weights"]
        assert sweep["cells"][3]["figures"]["fid"] != sweep["cells"][1]["figures"]["fid"]
        scored.clear()
        assert main(argv) == 0
        assert scored == []

    def test_cells_of_another_guide_or_version_are_drawn_again(self, run, tmp_path, scored):
        copy = shutil.copytree(run, tmp_path / "run")
        file = tmp_path / "rules.yaml"
        rule = {"name": "auto", "guidance": {"kind": "autoguidance", "guide_images": 16}}
        file.write_text(yaml.safe_dump({"rules": [rule]}))
        argv = self.argv(copy, tmp_path / "s", "--config", str(file))
        assert main(argv) == 0
        for change in (self.earlier_snapshot, self.later_version):
            scored.clear()
            change(copy, tmp_path / "s/cells/auto-4-seed0.json")
            assert main(argv) == 0
            assert ("autoguidance", 4.0, 0) in scored
            assert ("cfg", 1.0, 0) not in scored

    def earlier_snapshot(self, run, cell):
        first = run / "snapshots/000000016.safetensors"
        save_file({name: 0.9 * weights for name, weights in load_file(first).items()}, first)

    def later_version(self, run, cell):
        content = json.loads(cell.read_text())
        content["settings"]["guidance"]["kind"] = "of tomorrow"
        cell.write_text(json.dumps(content))

    def test_a_vae_of_its_own_does_not_hinder_it(self, make_vae, tmp_path, scored):
        vae = str(make_vae())
        pipe = build(in_channels=4, sample_size=(8, 8))
        form = {"factor": 2, "mean": [0.0] * 4, "std": [1.0] * 4}
        DiffGenPipeline(
            pipe.transformer, pipe.scheduler, ["circle", "star", "ring"], latent_format=form
        ).save_pretrained(tmp_path / "model")
        argv = self.argv(tmp_path / "model", tmp_path / "s", "--vae", vae, "--kinds", "apg")
        assert main(argv) == 0
        scored.clear()
        assert main(argv) == 0
        assert scored == []

    def test_cells_are_what_evaluation_finds(self, run, tmp_path):
        assert main(self.argv(run, tmp_path / "s", "--kinds", "apg")) == 0
        out = tmp_path / "e.json"
        guided = ["--guidance.kind", "apg", "--guidance.scale", "4", "--seed", "3"]
        assert main(["eval", str(run), *FAST, *guided, "--out", str(out)]) == 0
        cell = json.loads((tmp_path / "s/cells/apg-4-seed3.json").read_text())
        found = json.loads(out.read_text())
        assert found["scores"] == cell["scores"]
        assert found["reference_colour"] == cell["reference_colour"]


class TestSample:
    def drawn(self, run: Path, out: Path, *more: str) -> dict[str, bytes]:
        argv = ["sample", str(run), "--num-images", "3", "--steps", "2", "--device", "cpu"]
        assert main([*argv, "--out", str(out), *more]) == 0
        return {file.name: file.read_bytes() for file in (out / "16x16").iterdir()}

    def test_a_rule_by_flags_a_file_and_both(self, run, tmp_path):
        plain = self.drawn(run, tmp_path / "a", "--guidance.scale", "5")
        by_flags = ["--guidance.kind", "apg", "--guidance.scale", "5", "--guidance.eta", "0.5"]
        flags = self.drawn(run, tmp_path / "b", *by_flags)
        file = tmp_path / "apg.yaml"
        file.write_text("guidance: {kind: apg, scale: 9, eta: 0.5}\n")
        both = self.drawn(run, tmp_path / "c", "--config", str(file), "--guidance.scale", "5")
        assert both == flags
        assert plain != flags
        settings = json.loads((tmp_path / "b/settings.json").read_text())["settings"]["guidance"]
        assert (settings["kind"], settings["scale"], settings["eta"]) == ("apg", 5.0, 0.5)

    def test_a_guide_is_drawn_with_and_told_apart(self, run, tmp_path, capsys):
        auto = ["--guidance.kind", "autoguidance", "--guidance.scale", "3"]
        early = self.drawn(run, tmp_path / "a", *auto, "--guidance.guide-images", "20")
        unguided = self.drawn(run, tmp_path / "c", "--guidance.scale", "1")
        assert early != unguided
        argv = ["sample", str(run), "--num-images", "3", "--steps", "2", "--device", "cpu", *auto]
        for itself in (["guide", str(run)], ["guide-images", "99"]):
            field, value = itself
            assert main([*argv, f"--guidance.{field}", value, "--out", str(tmp_path / "b")]) == 2
            assert "guidance.guide: it is the model itself" in capsys.readouterr().err
        more = ["--guidance.guide-images", "32", "--guidance.guide-ema", "0.05"]
        assert main([*argv, "--out", str(tmp_path / "a"), *more]) == 2
        named = "guide images 20 there, autoguidance 3, guide ema 0.05, guide images 32 here"
        assert named in capsys.readouterr().err


class TestGuide:
    def weights(self, run: Path, **settings) -> dict[str, torch.Tensor]:
        config = AutoGuidanceConfig(**settings)
        guide = load_guide(config, str(run), "cpu", "fp32")
        return dict(guide.transformer.named_parameters())

    @pytest.mark.parametrize(("images", "snapshot"), [(16, 16), (31, 16), (32, 32), (999, 32)])
    def test_an_early_guide_is_the_last_snapshot_before(self, run, images, snapshot):
        stored = load_file(run / f"snapshots/{snapshot:09d}.safetensors")
        found = self.weights(run, guide_images=images, guide_ema=0.05)
        for name, weight in found.items():
            torch.testing.assert_close(weight, stored[f"power-0.05/{name}"], rtol=1e-5, atol=1e-6)

    def test_a_width_that_is_exported_is_the_pipelines(self, run):
        exported = load_file(next((run / "pipeline/transformer").glob("*.safetensors")))
        for name, weight in self.weights(run, guide_ema=0.10).items():
            torch.testing.assert_close(weight, exported[name], rtol=1e-5, atol=1e-6)
        other = self.weights(run, guide_ema=0.05)
        assert any(not torch.equal(weight, exported[name]) for name, weight in other.items())

    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            (["--guidance.guide-images", "15"], "guide_images: the first snapshot of"),
            (["--guidance.guide-ema", "0.02"], "guide_ema: width 0.02 cannot be rebuilt from 2"),
        ],
    )
    def test_what_cannot_be_rebuilt_is_told(self, run, tmp_path, capsys, settings, said):
        argv = ["sample", str(run), "--device", "cpu", "--out", str(tmp_path / "s")]
        assert main([*argv, "--guidance.kind", "autoguidance", *settings]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1

    @pytest.mark.parametrize("damage", ["half", "foreign", "stray"])
    def test_damaged_snapshots_are_told(self, run, tmp_path, capsys, damage):
        copy = shutil.copytree(run, tmp_path / "run")
        early = copy / "snapshots/000000016.safetensors"
        match damage:
            case "half":
                early.write_bytes(early.read_bytes()[:999])
            case "foreign":
                save_file({k: w[..., :1].clone() for k, w in load_file(early).items()}, early)
            case "stray":
                (copy / "snapshots/backup.safetensors").write_bytes(b"")
        argv = [
            "sample",
            str(copy),
            "--device",
            "cpu",
            "--steps",
            "1",
            "--out",
            str(tmp_path / "s"),
        ]
        auto = ["--guidance.kind", "autoguidance", "--guidance.guide-images", "16"]
        code, said = main([*argv, *auto]), capsys.readouterr().err
        assert code == (0 if damage == "stray" else 2), said
        if code:
            assert "guidance.guide_images: " in said
            assert "Traceback" not in said


def test_names_of_rules_are_plotted_as_they_are(tmp_path):
    found = [{"mean": 0.5, "interval": (-3.0, 4.0)}, {"mean": 0.7, "interval": None}]
    names = ["price $x^$", "_hidden", *(f"rule {k} {'long ' * 20}" for k in range(12))]
    line = Line([1.0, 4.0], dict.fromkeys(("fid", "precision", "recall", "saturation"), found))
    real = {"fid": None, "precision": 0.9, "recall": 0.9, "saturation": 0.4}
    draw_plot(dict.fromkeys(names, line), real)(tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.width == 990


def test_a_run_of_an_earlier_version_is_read(run, tmp_path):
    """Its config.yaml states sampling.guidance_scale."""
    settings = yaml.safe_load((run / "config.yaml").read_text())
    del settings["sampling"]["guidance"]
    settings["sampling"]["guidance_scale"] = 3.5
    config = TrainConfig.model_validate(settings)
    assert (config.sampling.guidance.kind, config.sampling.guidance.scale) == ("cfg", 3.5)
