"""As test_refusals.py, about sizes, guidance and late constraints."""

import pytest
from PIL import Image

from tests.e2e.refused import check_refused, pipeline_folder, write_json


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return pipeline_folder(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def sized(tmp_path_factory):
    """Folders with the JSON of models that are particular about sizes: rpe2d, DDPM."""
    folder = tmp_path_factory.mktemp("sized")
    model = {"patch_size": 4, "in_channels": 3, "num_classes": 2, "sample_size": [32, 32]}
    solver = {
        "_class_name": "DDIMScheduler",
        "beta_schedule": "linear",
        "num_train_timesteps": 1000,
    }
    for name, settings, scheduler in (
        ("rpe2d", {"position": {"kind": "rpe2d", "range_columns": 9}}, {}),
        ("ddpm", {"prediction": "eps"}, {**solver, "beta_start": 1e-4, "beta_end": 0.02}),
    ):
        write_json(folder / name / "model_index.json", {})
        write_json(folder / name / "transformer/config.json", {**model, **settings})
        write_json(folder / name / "scheduler/scheduler_config.json", scheduler)
    return folder


def size_cases(sized, pipeline):
    """As ``cases``, about sizes other than trained."""
    rpe2d, ddpm = str(sized / "rpe2d"), str(sized / "ddpm")
    position = ["--model.position.kind", "rpe2d"]
    beyond = "over the range of the rpe2d encoding, which ends at"
    return [
        ("sample", [rpe2d, "--size", "64x40"], f"size: 64x40 is {beyond} 64x36"),
        ("eval", [rpe2d, "--size", "68x32"], f"size: 68x32 is {beyond} 64x36"),
        ("resolutions", [rpe2d, pipeline, "--sizes", "32x40"], f"rpe2d: size: 32x40 is {beyond}"),
        ("train", [*position, "--report.sizes", "68x32"], f"report.sizes: 68x32 is {beyond} 64x64"),
        (
            "train",
            [*position, "--model.position.range-rows", "7"],
            f"data.size: 32x32 is {beyond} 28x64",
        ),
        ("train", [*position, "--model.position.scaling", "ntk"], "does not belong to the kind"),
        ("train", [*position, "--model.position.plain-share", "2"], "plain_share"),
        ("sample", [rpe2d, "--scaling", "ntk"], "scaling: ntk needs a rotary encoding"),
        ("sample", [pipeline, "--inference", "arange"], "inference: arange needs an rpe2d"),
        ("sample", [ddpm, "--scheduler", "ddim", "--time-shift", "sqrt"], "this is a ddpm model"),
        ("train", ["--train.token-budget", "63"], "63 is less than one image, data.size 32x32 has"),
        ("train", ["--model.micro-dropout", "0.5"], "no effect with model.micro none"),
        ("train", ["--data.crop", "some"], "data.crop"),
        ("train", ["--data.crop-share", "0.5"], "no effect with data.crop center"),
        ("train", ["--train.mixed", "padded"], "no effect where all images have one size"),
        (
            "train",
            ["--data.crop", "none", "--data.size", "8x16"],
            "8x16 is too small for data.crop",
        ),
        ("train", ["--model.position.trained-grid", "16"], "must be HEIGHTxWIDTH"),
        (
            "train",
            ["--model.position.temperature", "sqrt_log", "--model.position.trained-grid", "1x1"],
            "needs training images of more than one token",
        ),
        ("train", ["--data.crop-scale", "0.5"], "crop_scale: 0.5 has no effect"),
        (
            "train",
            ["--model.position.kind", "none", "--model.crop-coords"],
            "crop_coords: it has no effect with model.position none",
        ),
        ("train", ["--train.trainable", "*.bias"], "the other parameters would stay random"),
        ("resolutions", [], "runs: give at least one model"),
        ("resolutions", ["nowhere"], "nowhere does not exist"),
        ("resolutions", ["nowhere", "--sizes", "16"], "must be HEIGHTxWIDTH"),
        ("train", ["--data.size", "16"], "must be HEIGHTxWIDTH"),
    ]


def guidance_cases(sized, pipeline, tmp_path):
    """As ``cases``, about guidance."""
    auto = ["--guidance.kind", "autoguidance"]
    apg = ["--guidance.kind", "apg"]
    rules = tmp_path / "file.yaml"
    rules.write_text("rules: [{guidance: {kind: autoguidance}}]")
    return [
        ("sample", [pipeline, "--guidance-scale", "4"], "did you mean guidance.scale?"),
        ("sample", [pipeline, "--guidance.scale", "-1"], "guidance.scale: input should be greater"),
        ("sample", [pipeline, "--guidance.kind", "cgf"], "guidance.kind: 'cgf' is not one of"),
        ("sample", [pipeline, *apg, "--guidance.threshold", "-1"], "guidance.threshold: input"),
        ("sample", [pipeline, *apg, "--guidance.threshold", "15"], "an rms of 15 never shortens"),
        ("sample", [pipeline, *apg, "--guidance.momentum", "-1"], "guidance.momentum: input"),
        ("eval", [pipeline, *apg, "--guidance.momentum", "1"], "guidance.momentum: input"),
        ("sample", [pipeline, "--guidance.eta", "0.5"], "eta: does not belong to the kind chosen"),
        (
            "sample",
            [pipeline, "--guidance.interval-low", "2", "--guidance.interval-high", "2"],
            "guidance.interval_low: 2 leaves no noise level up to guidance.interval_high 2",
        ),
        ("sample", [pipeline, "--guidance.rescale", "2"], "guidance.rescale: input"),
        ("sample", [pipeline, "--guidance.channels", "4"], "channels: 4, but the model has 3"),
        ("sample", [pipeline, *auto], "guidance.guide: autoguidance needs a guide"),
        ("eval", [pipeline, *auto], "guidance.guide: autoguidance needs a guide"),
        ("sample", [pipeline, *auto, "--guidance.guide", "gone"], "guidance.guide: gone does not"),
        (
            "sample",
            [pipeline, *auto, "--guidance.guide", str(sized / "ddpm")],
            "guidance.guide: its noising process: ",
        ),
        ("sample", [pipeline, *auto, "--guidance.guide-ema", "0.1"], "holds no snapshots/"),
        ("sample", [pipeline, *auto, "--guidance.guide-ema", "0.3"], "guidance.guide_ema: input"),
        (
            "train",
            ["--sampling.guidance.kind", "autoguidance"],
            "sampling.guidance.kind: autoguidance is for trained models",
        ),
        ("train", ["--sampling.guidance.interval-high", "0"], "sampling.guidance.interval_high"),
        ("train", ["--sampling.guidance.channels", "4"], "channels: 4, but the model has 3"),
        ("train", ["--model.guidance-channels", "4"], "channels: 4, but the model has 3"),
        (
            "sample",
            [pipeline, "--guidance.kind", "cfg_zero_star", "--steps", "1"],
            "with one step, cfg_zero_star would leave the noise",
        ),
        ("guidance-sweep", [], "SOURCE"),
        ("guidance-sweep", ["nowhere"], "nowhere does not exist"),
        ("guidance-sweep", [pipeline, "--scales", "0.5,-2"], "scales: input should be greater"),
        ("guidance-sweep", [pipeline, "--seeds", "x"], "seeds: input should be a valid integer"),
        ("guidance-sweep", [pipeline, "--scales", "nan"], "a list is written a,b,c"),
        ("sample", [pipeline, "--classes", "[star"], "a list is written a,b,c"),
        (
            "train",
            ["--model.num-classes", "0", "--sampling.guidance.kind", "apg"],
            "a model without classes has nothing to guide towards",
        ),
        ("guidance-sweep", [pipeline, "--seeds", "1,1"], "seeds: [1, 1] names one twice"),
        ("guidance-sweep", [pipeline, "--kinds", "apg,apg"], "two are called 'apg'"),
        ("guidance-sweep", [pipeline, "--kinds", "pag"], "kinds: input should be"),
        ("guidance-sweep", [pipeline, "--size", "30x32"], "not divisible by the patch size 4"),
        (
            "guidance-sweep",
            [pipeline, "--config", str(rules)],
            "rules: autoguidance: guidance.guide: autoguidance needs a guide",
        ),
    ]


@pytest.fixture(scope="module")
def conditions(tmp_path_factory):
    """Condition files, the JSON of an aligner for edges, and a pipeline in the hub's cache."""
    folder = tmp_path_factory.mktemp("conditions")
    for name, size in (("square", (64, 64)), ("wide", (64, 32)), ("thin", (400, 4))):
        Image.new("L", size).save(folder / f"{name}.png")
    Image.new("1", (10_000, 10_000)).save(folder / "huge.png")
    (folder / "text.png").write_text("no picture")
    (folder / "empty").mkdir()
    write_json(folder / "aligners/edge/aligner/config.json", {})
    hub = folder / "hub/models--some--model"
    pipeline_folder(hub / "snapshots/0")
    (hub / "refs").mkdir()
    (hub / "refs/main").write_text("0")
    return folder


def constraint_cases(conditions, pipeline):
    """As ``cases``, about late constraints."""
    base = [pipeline, "--aligners", str(conditions / "aligners")]
    square = f"{conditions}/square.png"
    edge, low = f"edge={square}", f"low_resolution={square}"

    def constrained(*asked):
        return [*base, *(word for one in asked for word in ("--constraint", one))]

    wide = f"edge={conditions}/wide.png"
    cases = [
        (constrained("sketch.png"), "must be NAME=PATH, for example edge=sketch.png"),
        (constrained("edge=a,b.png"), "several, and a path with a comma is quoted twice: '\"edge="),
        (constrained('"edge=a,b.png"'), "constraint: edge=a,b.png does not exist"),
        (constrained(f"egde={square}"), "'egde' is unknown; known are edge, mask, stroke"),
        (constrained(f"egde={square}"), "did you mean edge?"),
        (constrained("edge=gone.png"), "constraint: edge=gone.png does not exist"),
        (constrained(f"edge={conditions}/empty"), "empty holds no images (.bmp"),
        (constrained(f"edge={conditions}/text.png"), "text.png is not a readable image"),
        (constrained(f"edge={conditions}/huge.png"), "is 10000x10000, more than 89,478,485 pixels"),
        (constrained(f"mask={square}"), f"no aligner for mask in {conditions}/aligners; train one"),
        (
            [pipeline, "--constraint", edge],
            f"python train/lacon.py {pipeline} --condition edge, or name the folder they are in",
        ),
        (["some/model", "--constraint", edge], "aligners: some/model is a model of the hub; name"),
        (
            constrained(wide),
            f"constraint: {wide} is 32x64, which would be stretched to 32x32; crop it to that "
            "shape, or ask for --size 16x32",
        ),
        ([*constrained(edge), "--size", "32x32,48x32"], "or ask for --size 48x48"),
        (constrained(f"edge={conditions}/thin.png"), "stretched to 32x32; crop it to that shape\n"),
        ([*constrained(edge), "--constraint-scale", "-1"], "constraint_scale: input should be"),
        ([*constrained(edge), "--constraint-until", "1"], "constraint_until: input should be less"),
        (
            [*constrained(edge, edge, low), "--constraint-scale", "1,2"],
            "constraint_scale: 2 are given for 3 constraints; give one for all, or one each",
        ),
        (
            [*constrained(edge, low), "--constraint-scale", "3"],
            "constraint_scale: 3 leads away from what low_resolution asks for",
        ),
        ([*constrained(edge), "--constraint-form", "l2"], "constraint_form: input should be 'rms'"),
        ([*constrained(edge), "--constraint-recurrence", "0"], "constraint_recurrence: input"),
        (
            [*constrained(edge, low), "--constraint-scale", "0", "--constraint-recurrence", "2"],
            "constraint_recurrence: 2 has no effect at constraint_scale 0",
        ),
        ([*constrained(edge), "--constraint-where", "gone.png"], "constraint_where: gone.png does"),
        (
            [*constrained(edge), "--constraint-where", f"{conditions}/wide.png"],
            "wide.png is 32x64, which would be stretched",
        ),
        (
            [*constrained(low), "--constraint-form", "norm"],
            "constraint_form: norm has no effect without a constraint by an aligner",
        ),
    ]
    without = {"scale": "2", "until": "0.5", "form": "sign", "from": "picture", "where": square}
    for name, value in {**without, "recurrence": "2"}.items():
        said = f"constraint_{name}: {f'{float(value)}' if name == 'scale' else value} has no effect"
        cases.append(([pipeline, f"--constraint-{name}", value], f"{said} without a constraint"))
    cases += [
        ([pipeline, "--constraint-checkpointing"], "constraint_checkpointing: True has no effect"),
        ([pipeline, "--aligners", str(conditions)], f"aligners: {conditions} has no effect"),
    ]
    return [("sample", argv, said) for argv, said in cases]


def test_each_refusal_is_one_message_with_code_2_and_without_torch(
    pipeline, sized, conditions, tmp_path
):
    wanted = size_cases(sized, pipeline) + guidance_cases(sized, pipeline, tmp_path)
    wanted += constraint_cases(conditions, pipeline)
    check_refused(wanted, tmp_path, HF_HUB_CACHE=str(conditions / "hub"))
