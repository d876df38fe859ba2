"""Bad input as a user meets it: exit code 2, one message, no traceback, and torch never loaded."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]

PROGRAM = """
import contextlib, io, json, sys
from diffgen.cli import launch
results = []
for verb, argv in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            code = launch(verb, argv, verb)
        except SystemExit as stop:
            code = stop.code
    results.append([code, said.getvalue(), "torch" in sys.modules])
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A folder with the JSON of a pipeline: enough to refuse what does not fit it."""
    folder = tmp_path_factory.mktemp("source")
    (folder / "transformer").mkdir()
    (folder / "model_index.json").write_text(json.dumps({"class_names": ["circle", "star"]}))
    config = {"patch_size": 4, "in_channels": 3, "num_classes": 2, "sample_size": [32, 32]}
    (folder / "transformer" / "config.json").write_text(json.dumps(config))
    return str(folder)


def write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def latents(tmp_path_factory):
    """Folders with the JSON of VAEs, good and bad, and of a model of latents without one."""
    folder = tmp_path_factory.mktemp("latents")
    vae = {
        "_class_name": "AutoencoderKL",
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "block_out_channels": [8, 8],
    }
    changes = {
        "vae": {},
        "vae8": {"latent_channels": 8},
        "grey": {"in_channels": 1},
        "tiny": {"_class_name": "AutoencoderTiny"},
        "broken": {"block_out_channels": None},
    }
    for name, change in changes.items():
        write_json(folder / name / "config.json", {**vae, **change})
        (folder / name / "diffusion_pytorch_model.safetensors").touch()
    write_json(folder / "bare/config.json", vae)
    form = {"factor": 2, "mean": [0] * 4, "std": [1] * 4}
    model = {"patch_size": 2, "in_channels": 4, "num_classes": 2, "sample_size": [16, 16]}
    for name, index in (("model", {"latent_format": form}), ("unstated", {})):
        write_json(folder / name / "model_index.json", index)
        write_json(folder / name / "transformer/config.json", model)
    return folder


def latent_cases(latents, pipeline, tmp_path):
    """As ``cases``, about models of latents."""
    vae, model = str(latents / "vae"), str(latents / "model")
    train = ["--vae.path", vae]
    return [
        ("train", ["--vae.path", str(tmp_path / "gone")], "gone does not exist"),
        ("train", ["--vae.path", str(tmp_path / "file")], "is a file"),
        ("train", ["--vae.path", str(tmp_path / "empty")], "vae.path: "),
        ("train", ["--vae.path", str(tmp_path / "empty")], "holds no VAE (no config.json)"),
        ("train", ["--vae.path", str(latents / "bare")], "has no weights"),
        ("train", ["--vae.path", str(latents / "tiny")], "AutoencoderTiny, not an AutoencoderKL"),
        ("train", ["--vae.path", str(latents / "grey")], "images with 1 channels (in_channels)"),
        ("train", ["--vae.path", str(latents / "broken")], "config.json is damaged"),
        ("train", ["--vae.scale", "2"], "vae.path: is needed"),
        ("train", [*train, "--vae.normalise", "per_channel", "--vae.scale", "2"], "vae.scale: 2"),
        ("train", [*train, "--vae.precision", "bf16", "--device", "cpu"], "vae.precision: bf16"),
        ("train", [*train, "--data.size", "36x32"], "8, the VAE's factor 2 times the patch size 4"),
        ("train", [*train, "--report.sizes", "36x32"], "report.sizes: 36x32"),
        ("train", [*train, "--init", pipeline], "is a model of 3 channels, but the latents of"),
        ("train", ["--init", model], "is a model of 4 channels, but pixels have 3"),
        (
            "train",
            ["--vae.path", str(latents / "vae8"), "--init", model],
            "is a model of 4 channels, but the latents of",
        ),
        ("sample", [model], "is a model of latents without a VAE; give one with --vae"),
        ("eval", [model], "is a model of latents without a VAE; give one with --vae"),
        ("sample", [model, "--vae", vae, "--size", "34x32"], "4, the VAE's factor 2 times the"),
        ("sample", [model, "--vae", str(latents / "vae8")], "has 8 latent channels at 1/2"),
        ("sample", [model, "--vae", str(tmp_path / "gone")], "gone does not exist"),
        ("sample", [pipeline, "--vae", vae], "is not needed"),
        ("sample", [str(latents / "unstated")], "is a model of 4 channels, not of images"),
    ]


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
    """Condition files, and the JSON of an aligner for edges."""
    folder = tmp_path_factory.mktemp("conditions")
    for name, size in (("square", (64, 64)), ("wide", (64, 32)), ("thin", (400, 4))):
        Image.new("L", size).save(folder / f"{name}.png")
    Image.new("1", (10_000, 10_000)).save(folder / "huge.png")
    (folder / "text.png").write_text("no picture")
    (folder / "empty").mkdir()
    write_json(folder / "aligners/edge/aligner/config.json", {})
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
        (constrained("edge="), "must be NAME=PATH"),
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
        (
            constrained(wide),
            f"constraint: {wide} is 32x64, which would be stretched to 32x32; crop it to that "
            "shape, or ask for --size 16x32",
        ),
        ([*constrained(edge), "--size", "32x32,48x32"], "or ask for --size 48x48"),
        (constrained(f"edge={conditions}/thin.png"), "stretched to 32x32; crop it to that shape\n"),
        ([*constrained(edge), "--constraint-scale", "-1"], "constraint_scale: input should be"),
        ([*constrained(edge), "--constraint-until", "2"], "constraint_until: input should be less"),
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


def cases(pipeline, tmp_path):
    """(verb, arguments, what the message must say)."""
    empty = tmp_path / "empty"
    empty.mkdir()
    file = tmp_path / "file"
    file.write_text("")
    folder = ["--data.kind", "folder", "--data.path", str(empty)]
    drawn = tmp_path / "drawn"
    (drawn / "8x8").mkdir(parents=True)
    for name in ("settings.json", "sheet-8x8.png"):
        (drawn / name).touch()
    return [
        ("train", ["--model.depht", "3"], "did you mean model.depth?"),
        ("train", ["--train.images", "lots"], "train.images"),
        ("train", ["--data.kind", "tapes"], "data.kind: 'tapes'"),
        ("train", ["--config", "no.yaml"], "no.yaml does not exist"),
        ("train", ["--data.size", "33x32"], "not divisible by the patch size 4"),
        ("train", ["--data.kind", "folder", "--data.path", str(empty)], "holds no images"),
        ("train", [*folder, "--data.background", "whitish"], "must be an opaque colour"),
        ("train", [*folder, "--data.max-pixels", "1e12"], "data.max_pixels"),
        ("train", [*folder, "--data.subset", "5:2"], "the stop must lie beyond the start"),
        ("train", [*folder, "--data.subset-seed", "1"], "changes nothing without data.subset"),
        ("train", [*folder, "--data.classes", "dog"], "'dog' is no folder"),
        ("train", [*folder, "--data.files", "none.txt"], "data.files: none.txt is not a file"),
        ("train", ["--data.kind", "hub"], "data.name: is needed"),
        ("train", ["--data.kind", "hub", "--data.name", "./none"], "./none does not exist"),
        (
            "train",
            ["--data.kind", "hub", "--data.name", str(file), "--data.configuration", "large"],
            "data.configuration: large means nothing to a file",
        ),
        ("train", ["--train.precision", "bf16", "--device", "cpu"], "bf16 needs a GPU"),
        ("train", ["--process.kind", "ddpm", "--model.prediction", "velocity"], "takes x0, v, eps"),
        ("train", ["--out", str(file / "run")], "cannot be made"),
        ("train", ["--out", "/proc/run"], "is not writable"),  # for root too
        ("sample", [str(tmp_path / "gone")], "does not exist"),
        ("sample", [str(empty)], "holds no pipeline"),
        ("sample", [pipeline, "--size", "30x32"], "not divisible by the patch size 4"),
        ("sample", [pipeline, "--size", "0x32"], "1 pixel or more"),
        ("sample", [pipeline, "--size", "-4x32"], "1 pixel or more"),
        ("sample", [pipeline, "--classes", "heart"], "class 'heart' is unknown"),
        ("sample", [pipeline, "--classes", "2"], "class 2 is out of range"),
        ("sample", [pipeline, "--scheduler", "lms"], "scheduler: input should be 'euler'"),
        ("sample", [pipeline, "--scheduler", "ddim"], "ddim cannot walk a flow model"),
        ("sample", [pipeline, "--dtype", "bf16", "--device", "cpu"], "bf16 needs a GPU"),
        ("sample", [pipeline, "--out", str(file / "x")], "cannot be made"),
        ("sample", [pipeline, "--num-images", "0"], "num_images"),
        ("sample", [], "SOURCE"),
        ("eval", [pipeline, "--reference", "nothing"], "neither shapes, digits nor a folder"),
        ("eval", [pipeline, "--reference", str(empty)], "holds no images"),
        ("eval", [str(tmp_path / "gone")], "does not exist"),
        ("eval", [str(tmp_path / "gone.npz")], "gone.npz does not exist or is no file"),
        ("eval", [str(file)], "is a file; give a model, a folder of images or an .npz"),
        ("eval", [pipeline, "--reference", f"{file}.npz"], "file.npz does not exist or is no file"),
        ("eval", [pipeline, "--out", str(empty)], "is a folder; name a JSON file"),
        ("eval", [pipeline, "--extractor", "inception", "--weights", "w.pth"], "w.pth does not"),
        ("eval", [pipeline, "--weights", str(file)], "the reader brings its own"),
        ("eval", [str(drawn)], f"with their sheets; give one of them: {drawn / '8x8'}"),
        ("eval", [pipeline, "--k", "0"], "k: input should be greater than or equal to 1"),
        ("memorization", ["--counts", "4,4"], "counts: [4, 4] names one twice"),
        ("memorization", ["--counts", "4,0"], "counts: input should be greater than or equal to 1"),
        ("memorization", ["--data.size", "18x16"], "not divisible by the patch size 4"),
        ("memorization", ["--data.crop", "random"], "data.crop: random would blur which images"),
    ]


def test_each_refusal_is_one_message_with_code_2_and_without_torch(
    pipeline, latents, sized, conditions, tmp_path
):
    wanted = cases(pipeline, tmp_path) + latent_cases(latents, pipeline, tmp_path)
    wanted += size_cases(sized, pipeline) + guidance_cases(sized, pipeline, tmp_path)
    wanted += constraint_cases(conditions, pipeline)
    argument = json.dumps([[verb, argv] for verb, argv, _ in wanted])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, argument],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    for (verb, argv, said), (code, message, torch_loaded) in zip(wanted, results, strict=True):
        assert code == 2, (verb, argv, message)
        assert said in message, (verb, argv)
        assert "Traceback" not in message
        assert not torch_loaded, (verb, argv)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "drawn",
        "empty",
        "file",
        "file.yaml",
    ]


def test_a_script_exits_with_2_and_help_with_0(tmp_path):
    def run(*argv):
        return subprocess.run([sys.executable, *argv], cwd=tmp_path, capture_output=True, text=True)

    refused = run(str(ROOT / "train/dit.py"), "--modle.depth", "3")
    assert refused.returncode == 2
    assert refused.stderr == (
        "train/dit.py: --modle.depth: unknown option; did you mean model.depth?\n"
    )
    for script in ("train/dit.py", "sample/generate.py", "eval/evaluate.py", "train/reader.py"):
        helped = run(str(ROOT / script), "--help")
        assert helped.returncode == 0, script
        assert "usage:" in helped.stdout
