"""The pairs of trainings that ``memorization`` asks for, before torch is loaded."""

from pathlib import Path

import pytest

from diffgen.config.command_line import parse
from diffgen.config.memorization import MemorizationConfig
from diffgen.config.train import TrainConfig
from diffgen.errors import UserError

ROOT = Path(__file__).parents[2]


def test_both_trainings_are_the_recipe_on_disjoint_images_with_seeds_of_their_own():
    config = MemorizationConfig(out="there", seed=7, model={"depth": 2}, train={"images": 640})
    first, second = config.training("a", 16, 0), config.training("b", 16, 500)
    assert type(first) is TrainConfig
    assert (first.data.subset, second.data.subset) == ("0:16", "500:516")
    assert (first.out, second.out) == (Path("there/runs/16-a"), Path("there/runs/16-b"))
    assert (first.seed, second.seed) == (7, 7 + 2**31) == config.seeds()
    shared = {"out", "seed", "data"}
    assert first.model_dump(exclude=shared) == second.model_dump(exclude=shared)
    assert (first.model.depth, first.model.num_classes, first.train.images) == (2, 0, 640)


def test_a_folder_is_shuffled_once_for_both_models(tmp_path):
    data = {"kind": "folder", "path": tmp_path, "flip": False}
    config = MemorizationConfig(seed=7, data=data)
    parts = [config.training(which, 2, start).data for which, start in (("a", 0), ("b", 5))]
    assert [part.subset for part in parts] == ["0:2", "5:7"]
    assert [part.subset_seed for part in parts] == [7, 7]


def test_figures_are_told_apart_by_what_decides_them():
    config = MemorizationConfig()
    same = config.model_copy(update={"counts": [1, 2], "out": Path("x"), "device": "cpu"})
    assert same.settings() == config.settings()
    for argv in (["--train.log-images", "9"], ["--report.sizes", "16x16"]):
        assert parse(MemorizationConfig, argv, "memorization").settings() == config.settings()
    for changes in ({"seed": 1}, {"num_images": 9}, {"sigmas": [1.0]}):
        assert config.model_copy(update=changes).settings() != config.settings()


def test_a_recipe_of_a_training_is_one_of_it():
    argv = ["--config", str(ROOT / "configs/debug.yaml"), "--counts", "8,4", "--sigmas", "2,0.5"]
    config = parse(MemorizationConfig, argv, "memorization")
    assert (config.columns(), config.levels()) == ([4, 8], [0.5, 2.0])
    assert config.training("a", 4, 0).model.hidden_size == 32


def test_the_recipe_that_is_shipped_reads():
    argv = ["--config", str(ROOT / "configs/memorization.yaml")]
    config = parse(MemorizationConfig, argv, "memorization")
    assert config.columns() == [4, 16, 64, 256, 1024, 4096, 16_384]


def test_classes_of_a_folder_are_refused_before_a_small_set_lacks_one(tmp_path):
    (tmp_path / "cat").mkdir()
    argv = ["--data.kind", "folder", "--data.path", str(tmp_path), "--data.classes", "cat"]
    with pytest.raises(UserError, match=r"data\.classes: cat, but the models know no classes"):
        parse(MemorizationConfig, argv, "memorization")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--counts", "4,0"], "counts: input should be greater than or equal to 1"),
        (["--counts", "4,16,4"], "counts: [4, 16, 4] names one twice"),
        (["--counts", "[]"], "counts: give at least one"),
        (["--sigmas", "1,1"], "sigmas: [1.0, 1.0] names one twice"),
        (["--sigmas", "0"], "sigmas: input should be greater than 0"),
        (["--num-noisy", "2"], "jacobians: 4 is more than num_noisy 2"),
        (["--num-images", "8"], "pictures: 12 is more than num_images 8"),
        (["--probes", "1"], "probes: input should be greater than or equal to 2"),
        (["--data.kind", "hub"], "data.kind: 'hub' is not one of"),
        (["--data.subset", ":9"], "data.subset: 0:9 is chosen by counts"),
        (["--data.kind", "digits", "--data.subset-seed", "3"], "3 is chosen by seed; leave it out"),
        (["--data.crop", "random"], "data.crop: random would blur"),
        (["--data.size", "18x16"], "data.size: 18x16 is not divisible by the patch size 4"),
        (["--data.kind", "folder", "--data.path", "."], "data.flip: mirrored images would blur"),
        (["--model.num-classes", "8"], "model.num_classes: 8, but the models know no classes"),
        (["--process.kind", "ddpm"], "process.kind: input should be 'flow'"),
        (["--init", "runs/demo"], "init: the models must have seen nothing"),
        (["--vae.path", "vae"], "vae: models of latents are not measured"),
        (["--sampling.guidance.kind", "apg"], "nothing to guide towards"),
    ],
)
def test_mistakes_are_told_in_one_message(argv, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as told:
        parse(MemorizationConfig, argv, "memorization")
    assert said in str(told.value)
    assert not list(tmp_path.iterdir())
