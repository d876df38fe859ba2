"""Bad input as a user meets it: exit code 2, one message, no traceback, and torch never loaded."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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


def cases(pipeline, tmp_path):
    """(verb, arguments, what the message must say)."""
    empty = tmp_path / "empty"
    empty.mkdir()
    file = tmp_path / "file"
    file.write_text("")
    return [
        ("train", ["--model.depht", "3"], "did you mean model.depth?"),
        ("train", ["--train.images", "lots"], "train.images"),
        ("train", ["--data.kind", "tapes"], "data.kind: 'tapes'"),
        ("train", ["--config", "no.yaml"], "no.yaml does not exist"),
        ("train", ["--data.size", "33x32"], "not divisible by the patch size 4"),
        ("train", ["--data.kind", "folder", "--data.path", str(empty)], "holds no images"),
        ("train", ["--train.precision", "bf16", "--device", "cpu"], "bf16 needs a GPU"),
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
        ("eval", [pipeline, "--k", "0"], "k: input should be greater than or equal to 1"),
    ]


def test_each_refusal_is_one_message_with_code_2_and_without_torch(pipeline, tmp_path):
    wanted = cases(pipeline, tmp_path)
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
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file"]


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
