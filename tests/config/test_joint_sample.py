"""What a joint drawing is given and draws, by its options, and what is refused without torch."""

import json
from pathlib import Path

import pytest
from PIL import Image

from diffgen.config.joint_sample import JointSampleConfig
from diffgen.config.source import resolve
from tests.e2e.refused import check_refused, pipeline_folder, write_json


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A folder with the JSON of a model and of adapters for depth, edge and sketches; pictures."""
    folder = tmp_path_factory.mktemp("work")
    pipeline_folder(folder / "run/pipeline")
    for name in ("depth", "edge", "sketches"):
        write_json(folder / "run/joint" / name / "adapter/config.json", {})
    for name, size in (("square", (64, 64)), ("wide", (64, 32)), ("mask", (32, 32))):
        Image.new("RGB", size).save(folder / f"{name}.png")
    for k in range(3):
        (folder / "many").mkdir(exist_ok=True)
        Image.new("L", (32, 32)).save(folder / f"many/{k}.png")
    for name, stems in (("few", "01"), ("others", "02"), ("again", "012")):
        (folder / name).mkdir()
        for stem in stems:
            Image.new("L", (32, 32)).save(folder / f"{name}/{stem}.bmp")
    (folder / "empty").mkdir()
    (folder / "text.png").write_text("no picture")
    chain = {"_class_name": "DDIMScheduler", "beta_schedule": "linear", "num_train_timesteps": 100}
    chain |= {"beta_start": 1e-3, "beta_end": 0.2}
    pipeline_folder(folder / "ddpm/pipeline")
    write_json(folder / "ddpm/pipeline/scheduler/scheduler_config.json", chain)
    write_json(folder / "ddpm/joint/depth/adapter/config.json", {})
    hub = folder / "hub/models--some--model"
    pipeline_folder(hub / "snapshots/0")
    (hub / "refs").mkdir()
    (hub / "refs/main").write_text("0")
    return folder


def config(**options) -> JointSampleConfig:
    return JointSampleConfig(source="run", **options)


def test_what_is_drawn_and_what_is_written():
    """Names of what is drawn, of what is written, and of the conditions."""

    def of(**options):
        found = config(**options)
        return found.drawn(), found.written(), found.conditions()

    both = ["image", "depth"]
    assert of(want=both) == (both, both, ["depth"])
    assert of(want=["depth", "image"]) == (both, both, ["depth"])
    assert of(given=["depth=a"]) == (["image"], both, ["depth"])
    assert of(given=["image=a"], want=["depth"]) == (["depth"], both, ["depth"])
    assert of(given=["depth=a"], coarse=[0.5]) == (both, both, ["depth"])
    assert of(given=["depth=a"], known=["depth=m"]) == (both, both, ["depth"])
    assert of(given=["image=a"], coarse=[0.6], want=["depth"]) == (both, both, ["depth"])
    assert of(given=["depth=a"], known=["depth=m"], want=["image"]) == (both, both, ["depth"])
    assert of(want=["depth"]) == (["depth"], ["depth"], ["depth"])
    given = {"given": ["edge=a", "image=b", "depth=c"], "coarse": [0, 0.5, 0]}
    assert of(**given) == (["image"], ["image", "edge", "depth"], ["edge", "depth"])
    assert of(given=["edge=a"], want=["depth"])[1] == ["edge", "depth"]


def test_levels_and_weights_are_one_for_all_or_one_each():
    def levels(**options):
        return [one.coarse for one in config(given=["image=a", "depth=b"], **options).requests()]

    assert levels() == [0, 0]
    assert levels(coarse=[0.7]) == [0.7, 0.7]
    assert levels(coarse=[0.2, 0.7]) == [0.2, 0.7]
    assert levels(known=["depth=m"]) == [0, 1]
    assert levels(known=["depth=m"], coarse=[0.5]) == [0.5, 0.5]
    named = {"given": ["edge=a"], "want": ["image", "depth"]}
    assert config(**named).weights() == [1, 1]
    assert config(**named, weight=[0.5]).weights() == [0.5, 0.5]
    assert config(**named, weight=[0.5, 2]).weights() == [0.5, 2]


def test_as_many_are_drawn_as_there_are_files(work, monkeypatch):
    monkeypatch.chdir(work)
    assert config(want=["image", "depth"]).count() == 16
    assert config(given=["depth=many"]).count() == 3
    assert config(given=["image=square.png", "depth=many"]).count() == 3
    assert config(given=["depth=square.png"]).count() == 1
    assert config(given=["depth=square.png"], known=["depth=few"]).count() == 2
    assert config(given=["depth=many"], num_images=5).count() == 5


def test_no_class_is_told_of_images_that_are_given_unless_one_is_named(work):
    source = resolve(str(work / "run"))
    assert config(given=["depth=a"]).labels_told(source) == []
    assert config(given=["image=a"], want=["depth"]).labels_told(source) == [2]
    assert config(given=["image=a"], classes=["star"]).labels_told(source) == [1]


def cases(work):
    """Arguments that must be refused, and what each message must say."""
    base = ["run"]
    depth = [*base, "--given", "depth=square.png"]
    both = [*depth, "--given", "image=square.png"]
    auto = ["--guidance.kind", "autoguidance", "--guidance.guide", "run"]
    return [
        (base, "want: name one condition or more, for example --want image,depth"),
        (
            [*base, "--want", "image,image"],
            "want: image alone needs no adapter (sample/generate.py draws it); name a condition, "
            "for example --want image,depth",
        ),
        (
            [*base, "--given", "image=square.png"],
            "given: image alone takes no adapter; name a condition, for example --want depth",
        ),
        ([*base, "--given", "map.png"], "given: must be NAME=PATH, for example depth=map.png"),
        ([*base, "--want", "dpeth"], "want: 'dpeth' is unknown; known are image and what has an "),
        ([*base, "--want", "dpeth"], "(depth, edge, sketches); did you mean depth?"),
        ([*base, "--given", "mine:X=a.png"], "given: mine:X=a.png does not exist"),
        (
            [*base, "--given", "mask=square.png"],
            "given: no adapter for mask in run/joint; train one with: python train/joint.py run "
            "--pair mask, or name the folder they are in with --adapters",
        ),
        ([*base, "--want", "outline"], "python train/joint.py run --pair outline"),
        (
            [*base, "--want", "depth", "--adapters", "empty"],
            "want: no adapter for depth in empty, but one in run/joint; leave out --adapters",
        ),
        ([*base, "--want", "mask", "--adapters", "empty"], "no adapter for mask in empty; train"),
        (
            [*base, "--want", "depth", "--adapters", "run/joint/depth"],
            "adapters: run/joint/depth is an adapter itself; give its parent folder, run/joint",
        ),
        (["some/model", "--want", "depth"], "adapters: some/model is a model of the hub; name the"),
        ([*depth, "--given", "depth=many"], "given: depth is given twice; for several pictures"),
        (
            [*base, "--want", "image,depth", "--known", "image=mask.png"],
            "known: image is not given",
        ),
        (
            [*depth, "--known", "depth=mask.png", "--known", "depth=mask.png"],
            "known: depth is given twice",
        ),
        ([*base, "--want", "image,depth", "--coarse", "0.7"], "coarse: 0.7 has no effect without"),
        ([*depth, "--coarse", "0.7,0.5"], "coarse: 2 are given for 1 of --given; give one for all"),
        ([*depth, "--coarse", "1.5"], "coarse: input should be less than or equal to 1"),
        (
            [*depth, "--coarse", "1"],
            "coarse: 1 draws depth from pure noise, square.png would not count; give less, or "
            "--want depth instead",
        ),
        (
            [*depth, "--coarse", "0", "--known", "depth=mask.png"],
            "coarse: 0 takes depth as it is, but --known depth leaves a part to be drawn",
        ),
        (both, "given: depth and image are given as they are, which leaves nothing to draw"),
        ([*depth, "--want", "image,depth"], "want: depth is given as it is; a --coarse above 0"),
        ([*both, "--want", "depth"], "want: depth is given as it is"),
        ([*depth, "--weight", "1,2"], "weight: 2 are given for 1 conditions; give one for all"),
        (
            [*base, "--want", "depth", "--given-from", "picture"],
            "given_from: picture has no effect without a given condition",
        ),
        ([*base, "--given", "depth=gone.png"], "given: depth=gone.png does not exist"),
        ([*base, "--given", "depth=empty"], "given: depth=empty holds no images (.bmp"),
        ([*base, "--given", "depth=text.png"], "depth=text.png is not a readable image"),
        (
            [*base, "--given", "depth=wide.png"],
            "given: depth=wide.png is 32x64, which would be stretched to 32x32; crop it to that "
            "shape, or ask for --size 16x32 (height x width)",
        ),
        ([*depth, "--size", "32x32", "--size", "32x64"], "or ask for --size 64x64"),
        (
            [*base, "--given", "depth=many", "--given", "edge=few"],
            "given: edge=few (2 images) does not go with depth=many (3 images): files are paired "
            "by name in their order, but number 3 is missing here and 2 there",
        ),
        (
            [*base, "--given", "depth=few", "--known", "depth=others"],
            "known: depth=others (2 images) does not go with depth=few (2 images): files are "
            "paired by name in their order, but number 2 is 2 here and 1 there",
        ),
        ([*depth, "--known", "depth=wide.png"], "to 32x32; make the mask the shape of the map\n"),
        (
            [*base, "--given", "depth=many", "--out", "many"],
            "out: many is the folder given as depth, many; choose another",
        ),
        (
            [*base, "--given", "depth=many", "--out", "many/new/er"],
            "out: many/new/er lies in the folder given as depth, many; choose another",
        ),
        (
            [*depth, "--known", "depth=few", "--out", "."],
            "out: . holds the folder known as depth, few; choose another",
        ),
        ([*depth, "--size", "30x30"], "size: 30x30 is not divisible by the patch size 4"),
        (
            [*depth, "--scheduler", "heun"],
            "scheduler: heun evaluates the model twice a step, which joint generation does not; "
            "use euler, dpmpp",
        ),
        (
            ["ddpm", "--want", "depth", "--scheduler", "heun"],
            "joint generation does not; use ddim, ddpm, dpmpp",
        ),
        (["ddpm", "--want", "depth", "--scheduler", "euler"], "euler cannot walk a ddpm model"),
        ([*depth, *auto], "guidance.kind: autoguidance is not for joint generation"),
        ([*depth, "--guidance.scale", "-1"], "guidance.scale: input should be greater"),
        ([*depth, "--condition-scale", "-1"], "condition_scale: input should be greater"),
        ([*depth, "--classes", "cat"], "classes: class 'cat' is unknown"),
        ([*depth, "--constraint", "edge=a.png"], "constraint: unknown option"),
        ([*depth, "--num-images", "0"], "num_images: input should be greater"),
    ]


def test_each_refusal_is_one_message_with_code_2_and_without_torch(work):
    wanted = [("joint-sample", argv, said) for argv, said in cases(work)]
    check_refused(wanted, work, HF_HUB_CACHE=str(work / "hub"))


def test_folders_of_equal_names_go_together_as_far_as_they_are_taken(work, monkeypatch):
    monkeypatch.chdir(work)
    both = ["depth=many", "edge=again"]
    assert list(config(given=both, coarse=[0.5], known=["edge=many"]).problems()) == []
    both = ["depth=many", "edge=few"]
    assert len(list(config(given=both).problems())) == 1
    assert list(config(given=both, num_images=2).problems()) == []


def test_settings_are_read_back(work, monkeypatch):
    monkeypatch.chdir(work)
    asked = config(given=["depth=many"], coarse=[0.5], known=["depth=mask.png"], weight=[0.5])
    assert JointSampleConfig(**json.loads(asked.model_dump_json())) == asked
    assert list(asked.problems()) == []
