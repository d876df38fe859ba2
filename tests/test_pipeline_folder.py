"""Pipelines in folders: saved, loaded every way, damaged, of another architecture."""

import json
import shutil

import diffusers
import pytest
import torch

from diffgen import DiffGenPipeline
from diffgen.commands.guide import load_together
from diffgen.commands.load import load_pipeline
from diffgen.config.sample import SampleConfig
from diffgen.errors import SharedError, UserError
from diffgen.files import weights_digest, write_folder
from diffgen.group import ALONE, Group
from tests.tiny import NAMES, build, draw

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    target = tmp_path_factory.mktemp("run") / "pipeline"
    build("dpmpp").save_pretrained(target)
    return target


def test_the_folder_is_a_diffusers_pipeline_without_pickles(folder):
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {
        "model_index.json",
        "transformer/config.json",
        "transformer/diffusion_pytorch_model.safetensors",
        "scheduler/scheduler_config.json",
    }
    index = json.loads((folder / "model_index.json").read_text())
    assert index["_class_name"] == "DiffGenPipeline"
    assert index["transformer"] == ["diffgen.models.dit", "DiT"]
    assert index["class_names"] == NAMES


@pytest.mark.parametrize("load", ["diffusers", "diffgen", "run folder", "path"])
def test_every_way_of_loading_gives_the_same_bits(folder, load):
    match load:
        case "diffusers":
            pipe = diffusers.DiffusionPipeline.from_pretrained(str(folder))
        case "diffgen":
            pipe = DiffGenPipeline.from_pretrained(str(folder))
        case "run folder":
            pipe = DiffGenPipeline.from_pretrained(str(folder.parent))
        case "path":
            pipe = load_pipeline(folder.parent).pipe
    pipe.set_progress_bar_config(disable=True)
    assert type(pipe) is DiffGenPipeline
    expected = draw(build("dpmpp"), ["cat", "newt"], height=6, width=10)
    assert torch.equal(draw(pipe, ["cat", "newt"], height=6, width=10), expected)


def test_the_folder_one_stands_in_is_a_source(folder, monkeypatch):
    for place in (folder, folder.parent):
        monkeypatch.chdir(place)
        assert isinstance(DiffGenPipeline.from_pretrained("."), DiffGenPipeline)


def test_weights_that_change_while_they_are_read_are_refused(folder, tmp_path, monkeypatch):
    """A training that goes on replaces them at every checkpoint."""
    shutil.copytree(folder, tmp_path / "pipeline")
    load = DiffGenPipeline.from_pretrained

    def replaced_meanwhile(source, **options):
        pipe = load(source, **options)
        write_folder(tmp_path / "pipeline", build("dpmpp").save_pretrained)
        return pipe

    monkeypatch.setattr(DiffGenPipeline, "from_pretrained", replaced_meanwhile)
    with pytest.raises(UserError, match="is being written; try again"):
        load_pipeline(tmp_path, "cpu")


def test_processes_that_found_different_weights_are_refused(folder, monkeypatch):
    config = SampleConfig(source=str(folder), device="cpu")
    assert load_together(ALONE, config).weights == weights_digest(folder)
    monkeypatch.setattr(Group, "everyones", lambda group, mine: [mine, "another's"])
    with pytest.raises(SharedError, match="is being written; try again"):
        load_together(ALONE, config)


def test_what_holds_no_pipeline_is_named(tmp_path):
    with pytest.raises(UserError, match="holds no pipeline"):
        DiffGenPipeline.from_pretrained(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        DiffGenPipeline.from_pretrained(tmp_path / "nowhere")


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_what_a_cpu_cannot_do_is_said(folder):
    with pytest.raises(UserError, match=r"device: cuda"):
        load_pipeline(folder, device="cuda")
    with pytest.raises(UserError, match=r"dtype: bf16"):
        load_pipeline(folder, dtype="bf16")


def test_options_for_the_hub_reach_the_download(monkeypatch, tmp_path):
    """No network here: what would be asked of the hub is looked at instead."""
    import huggingface_hub

    asked = {}

    def download(repo, **options):
        asked.update(options, repo=repo)
        raise OSError("offline")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(UserError, match="the hub did not give it: offline"):
        DiffGenPipeline.from_pretrained("owner/name", revision="v1", token="secret")
    assert (asked["repo"], asked["revision"], asked["token"]) == ("owner/name", "v1", "secret")


def test_damaged_weights_are_a_message(folder, tmp_path):
    broken = tmp_path / "pipeline"
    shutil.copytree(folder, broken)
    weights = broken / "transformer/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="transformer cannot be loaded"):
        DiffGenPipeline.from_pretrained(broken)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hidden_size": 64}, r"its weights are not those .* has the shape"),
        ({"depth": 3}, r"its weights are not those .* blocks.2.* is missing"),
        ({"depth": 1}, r"its weights are not those .* blocks.1.* has no place in the model"),
        ({"num_heads": 7}, "num_heads 7 does not divide hidden_size"),
        ({"num_classes": -5}, "cannot be loaded"),
        ({"num_heads": 0}, "cannot be loaded"),
    ],
)
def test_weights_of_another_architecture_are_a_message(folder, tmp_path, change, said):
    shutil.copytree(folder, tmp_path / "pipeline")
    config = tmp_path / "pipeline/transformer/config.json"
    there = json.loads(config.read_text())
    assert there["depth"] == 2
    config.write_text(json.dumps({**there, **change}))
    with pytest.raises(UserError, match=said) as caught:
        DiffGenPipeline.from_pretrained(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("model_index.json", {"_class_name": None}, "cannot be loaded"),
        ("model_index.json", {"transformer": None}, "cannot be loaded"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": "many"}, "cannot be loaded"),
        ("transformer/config.json", {"position": {"kind": "nope"}}, "'none', 'sincos', 'rope'"),
    ],
)
def test_damaged_settings_are_one_line_of_the_commands(folder, tmp_path, file, change, said):
    shutil.copytree(folder, tmp_path / "pipeline")
    there = json.loads((tmp_path / "pipeline" / file).read_text())
    changed = {name: v for name, v in {**there, **change}.items() if v is not None}
    (tmp_path / "pipeline" / file).write_text(json.dumps(changed))
    with pytest.raises(UserError, match=said) as caught:
        load_pipeline(tmp_path, "cpu")
    assert len(str(caught.value).splitlines()) == 1


def test_a_save_that_was_killed_half_way_leaves_the_old_one_to_use(folder, tmp_path):
    shutil.copytree(folder, tmp_path / ".pipeline.old")
    for source in (tmp_path, tmp_path / "pipeline"):
        pipe = DiffGenPipeline.from_pretrained(source)
    pipe.set_progress_bar_config(disable=True)
    assert torch.equal(draw(pipe), draw(build("dpmpp")))


def test_a_pipeline_saved_before_there_were_vaes_still_loads(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "old")
    index = json.loads((tmp_path / "old/model_index.json").read_text())
    for name in ("vae", "latent_format"):
        del index[name]
    (tmp_path / "old/model_index.json").write_text(json.dumps(index))
    pipe = DiffGenPipeline.from_pretrained(tmp_path / "old")
    pipe.set_progress_bar_config(disable=True)
    assert torch.equal(draw(pipe), draw(build("dpmpp")))
