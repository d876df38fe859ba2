"""The command line: YAML, overrides, help, and every mistake in one message."""

from pathlib import Path

import pytest
import yaml

from diffgen.config.command_line import load, merge, parse, to_yaml
from diffgen.config.fields import fields
from diffgen.config.train import TrainConfig
from diffgen.errors import UserError

ROOT = Path(__file__).parents[2]


def read(*argv):
    return parse(TrainConfig, list(argv), "prog")


def refusal(*argv):
    with pytest.raises(UserError) as error:
        read(*argv)
    return str(error.value)


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_no_arguments_are_the_demo_recipe():
    config = read()
    assert config == TrainConfig()
    assert config.data.kind == "shapes"


def test_flags_override_yaml_and_yaml_overrides_defaults(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("seed: 3\nmodel: {depth: 7, patch_size: 2}\n")
    config = read("--config", str(file), "--model.depth", "9")
    assert (config.seed, config.model.depth, config.model.patch_size) == (3, 9, 2)


def test_underscores_and_dashes_are_the_same():
    assert read("--train.batch_size", "32") == read("--train.batch-size=32") != read()


def test_resolved_yaml_reads_back_the_same(tmp_path):
    config = read("--model.size", "B", "--optimizer.kind", "adamw", "--report.sizes", "8x8,16x24")
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert load(TrainConfig, tmp_path / "config.yaml") == config
    assert read("--config", "config.yaml") == config
    assert config.report.sizes == ["8x8", "16x24"]


def test_named_size_sets_widths_and_single_ones_override_it():
    config = read("--model.size", "B", "--model.depth", "3")
    assert (config.model.depth, config.model.hidden_size, config.model.num_heads) == (3, 768, 12)


def test_named_size_by_flag_replaces_widths_of_a_file(tmp_path):
    (tmp_path / "config.yaml").write_text(to_yaml(TrainConfig()))
    assert read("--config", "config.yaml", "--model.size", "S").model.depth == 12


def test_new_kind_by_flag_drops_the_old_kinds_fields():
    old = {"data": {"kind": "folder", "path": "x", "flip": False}, "seed": 1}
    assert merge(old, {"data": {"kind": "shapes"}}) == {"data": {"kind": "shapes"}, "seed": 1}


def test_kind_may_be_left_out_for_the_default_one():
    assert read("--data.size", "16x24").data.size == "16x24"
    assert read("--process.times.std", "2").process.times.std == 2


def test_dry_run_prints_what_config_reads(capsys):
    with pytest.raises(SystemExit) as stop:
        read("--model.depth", "5", "--dry-run")
    assert stop.value.code == 0
    assert yaml.safe_load(capsys.readouterr().out)["model"]["depth"] == 5


def test_help_names_every_field_with_its_meaning(capsys):
    with pytest.raises(SystemExit):
        read("--help")
    text = " ".join(capsys.readouterr().out.split())
    for field in fields(TrainConfig):
        assert f"--{field.name.replace('_', '-')}" in text
        assert field.description, field.name
        assert " ".join(field.description.split()) in text.replace("- ", "-"), field.name


def test_help_shows_the_default_kind_and_each_kinds_default(capsys):
    with pytest.raises(SystemExit):
        read("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "Source of the images. (default: shapes)" in text
    assert "(default: 0.0005 for adamw, 0.005 for muon)" in text


def test_every_mistake_in_one_message():
    message = refusal(
        "--model.dept=3",
        "--train.batch-size=many",
        "--optimizer.kind=sgd",
        "--data.kind=folder",
        "--data.path=nowhere",
        "--report.sizes=30x",
    )
    assert message.startswith("prog: 5 mistakes")
    assert "--model.dept: unknown option; did you mean model.depth?" in message
    assert "train.batch_size: input should be a valid integer" in message
    assert "(got 'many')" in message
    assert "optimizer.kind: 'sgd' is not one of 'adamw', 'muon'" in message
    assert "data.path: nowhere does not exist" in message
    assert "report.sizes: must be HEIGHTxWIDTH" in message


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--config", "missing.yaml"], "config: missing.yaml does not exist"),
        (["--data.size", "30x32"], "30x32 is not divisible by the patch size 4"),
        (["--data.size", "0x32"], "data.size: height and width must be 1 pixel or more"),
        (["--data.size=-8x32"], "data.size: height and width must be 1 pixel or more"),
        (["--data.kind", "folder"], "data.path: is needed"),
        (["--data.kind", "voxels"], "data.kind: 'voxels' is not one of"),
        (["--data.path", "x"], "data.path: does not belong to the kind chosen"),
        (["--sampling.scheduler", "lms"], "sampling.scheduler: input should be 'euler'"),
        (["--train.precision", "bf16", "--device", "cpu"], "train.precision: bf16 needs a GPU"),
        (["--model.num-heads", "3"], "model.num_heads: 3 does not divide model.hidden_size 128"),
        (["--train.accumulation", "3"], "train.accumulation: 3 does not divide"),
        (["--init", "./nothing"], "init: ./nothing does not exist"),
        (["--lr", "1"], "--lr: unknown option; did you mean optimizer.lr?"),
    ],
)
def test_single_mistakes(argv, said):
    message = refusal(*argv)
    assert said in message
    assert len(message.splitlines()) == 1


def test_unknown_key_in_yaml_gets_the_nearest_name(tmp_path):
    (tmp_path / "a.yaml").write_text("model: {hiden_size: 8}\n")
    assert "model.hiden_size: unknown field; did you mean model.hidden_size?" in refusal(
        "--config", "a.yaml"
    )


@pytest.mark.parametrize("text", ["model: {depth: [", "- 1\n- 2\n", "\x00"])
def test_broken_yaml_is_one_message(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text)
    assert refusal("--config", "a.yaml").startswith("config: a.yaml")


def test_empty_folder_and_a_file_for_a_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    assert "holds no images" in refusal("--data.kind", "folder", "--data.path", "empty")
    assert "is not a folder" in refusal("--data.kind", "folder", "--data.path", "file")
    assert "cannot be made" in refusal("--out", "file/run")


def test_a_folder_is_described_by_flags(tmp_path):
    for name in ("cat", "newt"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").touch()
    argv = ["--data.kind", "folder", "--data.path", ".", "--data.classes", "newt,cat"]
    argv += ["--data.subset", ":1", "--data.subset-seed", "3", "--data.background", "#8080ff"]
    config = read(*argv)
    assert config.data.classes == ["newt", "cat"]
    assert (config.data.subset, config.data.subset_seed) == ("0:1", 3)
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert load(TrainConfig, tmp_path / "config.yaml") == config


def test_choices_between_numbers_and_pairs_are_read_from_text():
    config = read(
        "--model.patch-size", "2", "--model.time.scale", "1", "--optimizer.betas", "0.8,0.9"
    )
    assert (config.model.patch_size, config.model.time.scale) == (2, 1)
    assert config.optimizer.betas == (0.8, 0.9)
    assert "model.patch_size: input should be 1, 2, 4 or 8 (got 3)" in refusal(
        "--model.patch-size", "3"
    )


@pytest.mark.parametrize(
    ("argv", "stray"),
    [(["configs/demo.yaml"], "configs/demo.yaml"), (["model.depth=3"], "model.depth=3")],
)
def test_stray_arguments_are_refused(argv, stray):
    assert f"{stray}: unknown option" in refusal(*argv)


def test_a_flag_that_repeats_the_default_kind_keeps_the_files_fields(tmp_path):
    (tmp_path / "a.yaml").write_text("optimizer: {muon_lr: 0.5}\n")
    config = read("--config", "a.yaml", "--optimizer.kind", "muon")
    assert config.optimizer.muon_lr == 0.5


@pytest.mark.parametrize(
    "argv",
    [
        ["--optimizer.betas", "1.5,0.9"],
        ["--ema.widths", "0,0.1"],
        ["--model.mlp-ratio", "inf"],
        ["--schedule.decay-share", "1e-18"],
        ["--seed", "4294967296"],
        ["--sampling.guidance.scale", "nan"],
        ["--data.size", "4x4"],
        ["--report.num-images", "4"],
    ],
)
def test_numbers_out_of_range_are_refused(argv):
    assert argv[0][2:].replace("-", "_") in refusal(*argv)


@pytest.mark.parametrize("name", ["demo", "digits", "debug", "ddpm"])
def test_every_recipe_reads(name):
    config = read("--config", str(ROOT / f"configs/{name}.yaml"))
    assert (config == TrainConfig()) == (name == "demo")


def test_none_stands_for_nothing_where_it_is_no_value():
    read = parse(TrainConfig, ["--align", "none", "--train.token-budget", "none"], "train")
    assert (read.align, read.train.token_budget, read.train.sharding) == (None, None, "none")
    with pytest.raises(UserError, match=r"train.images: input should be a valid integer"):
        parse(TrainConfig, ["--train.images", "none"], "train")
