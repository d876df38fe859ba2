"""``eval/memorization.py`` as a user runs it: trainings, figures, pictures, and going on."""

import json
import math
import shlex
import shutil
import signal
from pathlib import Path
from statistics import fmean, median

import pytest
import torch
from PIL import Image

import diffgen.commands.memorization.command as command
import diffgen.commands.memorization.images as division
from diffgen import DiffGenPipeline
from diffgen.cli import main
from diffgen.config.command_line import parse
from diffgen.config.memorization import MemorizationConfig
from diffgen.data.listing import names_digest
from diffgen.data.pixels import from_uint8, to_uint8
from diffgen.data.source import build_images
from diffgen.evidence import check_evidence
from diffgen.metrics.memorisation import correlation
from diffgen.training.run_folder import RunFolder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

RECIPE = [
    *("--data.size", "16x16", "--model.depth", "1", "--model.hidden-size", "32"),
    *("--model.num-heads", "2", "--train.images", "64", "--train.batch-size", "8"),
    *("--train.log-images", "16", "--sampling.steps", "2", "--device", "cpu"),
]
MEASURED = [
    *("--num-images", "6", "--num-noisy", "8", "--jacobians", "1", "--pictures", "3"),
    *("--probes", "4"),
]


def argv(out: Path, *more: str, counts: str = "4,8", sigmas: str = "0.5,1") -> list[str]:
    lists = ["--counts", counts, "--sigmas", sigmas]
    return ["memorization", *lists, *RECIPE, *MEASURED, "--out", str(out), *more]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished one, not to be changed."""
    out = tmp_path_factory.mktemp("memorization") / "done"
    assert main(argv(out)) == 0
    return out


@pytest.fixture
def copy(done, tmp_path):
    return Path(shutil.copytree(done, tmp_path / "copy"))


def figures(out: Path, count: int) -> dict:
    return json.loads((out / f"{count}.json").read_text())


def no_more(*arguments):
    pytest.fail("done already")


def test_figures_table_plot_and_grids(done):
    summary = json.loads((done / "memorization.json").read_text())
    assert [one["count"] for one in summary["counts"]] == [4, 8]
    for one in summary["counts"]:
        for name in ("agreement", "nearest_own", "control", "linear_agreement"):
            assert -1 <= one[name]["low"] <= one[name]["median"] <= one[name]["high"] <= 1
        assert [one["memorised"][which]["count"] for which in "ab"] == [6, 6]
        assert one["memorised_held_out"]["count"] == 8
        assert [level["sigma"] for level in one["levels"]] == [0.5, 1.0]
        assert [round(level["noisy"], 2) for level in one["levels"]] == [12.04, 6.02]
        for level in one["levels"]:
            assert level["linear_train"]["psnr"] > level["linear_held_out"]["psnr"]
            assert 0 < level["linear_dimension"] < one["count"]
        assert len(one["eigenvalues"]) == 8
        assert one["eigenvalues"] == sorted(one["eigenvalues"], reverse=True)
    text = (done / "table.md").read_text()
    agreement = summary["counts"][1]["agreement"]
    assert f"| 8 | {agreement['median']:.3f} [{agreement['low']:.3f}" in text
    with Image.open(done / "8-samples.png") as strip:
        assert strip.size == (3 * 64, 3 * 64)
    with Image.open(done / "8-eigenvectors.png") as strip:
        assert strip.size == (11 * 64, 64)
    for name in ("grid.png", "eigenvectors.png", "plot.png"):
        with Image.open(done / name) as picture:
            assert min(picture.size) > 64


def test_agreement_is_that_of_what_the_pipelines_draw(done):
    drawn = []
    for which in "ab":
        pipe = DiffGenPipeline.from_pretrained(done / f"runs/8-{which}")
        assert pipe.transformer.num_classes == 0
        x0 = pipe(num_images=6, seed=0, num_inference_steps=2, output_type="latent").images
        drawn.append(from_uint8(to_uint8(x0)))
    found = correlation(*drawn)
    stored = figures(done, 8)["agreement"]
    for name, share in (("low", 0.05), ("median", 0.5), ("high", 0.95)):
        assert stored[name] == pytest.approx(float(found.quantile(share)), abs=1e-3)


def test_pictures_show_the_samples_and_their_nearest_training_images(done):
    pipe = DiffGenPipeline.from_pretrained(done / "runs/4-a")
    first = pipe(num_images=1, seed=0, num_inference_steps=2, output_type="latent").images
    training = build_images(MemorizationConfig(data={"size": "16x16"}).part(0, 4))
    shown = [to_uint8(training[k][0][None])[0] for k in range(4)]
    with Image.open(done / "4-samples.png") as strip:
        small = strip.convert("RGB").resize((3 * 16, 3 * 16), Image.Resampling.NEAREST)
    pixels = torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8).reshape(48, 48, 3)
    tiles = pixels.permute(2, 0, 1).unfold(1, 16, 16).unfold(2, 16, 16).permute(1, 2, 0, 3, 4)
    assert (tiles[0, 0].int() - to_uint8(first)[0].int()).abs().max() <= 1  # another batch size
    for k in range(3):
        assert any(torch.equal(tiles[2, k], image) for image in shown)


def test_the_same_command_again_trains_and_measures_nothing(copy, monkeypatch, capsys):
    before = (copy / "memorization.json").read_text()
    (copy / "plot.png").unlink()
    for name in ("train_run", "measure"):
        monkeypatch.setattr(command, name, no_more)
    assert main(argv(copy)) == 0
    assert (copy / "table.md").read_text().strip() in capsys.readouterr().out
    after = json.loads((copy / "memorization.json").read_text())
    assert after["counts"] == json.loads(before)["counts"]
    assert (copy / "plot.png").exists()


def test_a_damaged_file_is_made_again_from_the_run_and_another_count_is_added(copy, done, capsys):
    picture = copy / "4-samples.png"
    picture.write_bytes(picture.read_bytes()[:-40])
    (copy / "8.json").write_text('{"schema"')
    assert main(argv(copy, counts="8,4,2")) == 0
    said = capsys.readouterr().err
    assert f"{copy}/4.json: 4-samples.png is missing, damaged or of other figures; mea" in said
    assert "settings" not in said
    assert [figures(copy, n) == figures(done, n) for n in (4, 8)] == [True, True]
    assert (copy / "4-samples.png").read_bytes() == (done / "4-samples.png").read_bytes()
    every = json.loads((copy / "memorization.json").read_text())["counts"]
    assert [one["count"] for one in every] == [2, 4, 8]
    assert figures(copy, 2)["memorised"]["a"]["count"] == 6


def test_a_signal_in_a_training_keeps_what_is_measured_and_it_goes_on(
    done, tmp_path, monkeypatch, capsys
):
    log, out = RunFolder.log, tmp_path / "stopped"

    def stop(folder, line):
        log(folder, line)
        if folder.path.name == "8-b" and line["images"] == 32:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "log", stop)
        assert main(argv(out)) == 143
    said = capsys.readouterr().err
    assert f"saved {out}/runs/8-b/checkpoints/images-" in said
    assert f"at 32 images, the same command goes on from it; 1 of 2 counts are in {out}" in said
    assert not (out / "8.json").exists()
    assert "| 4 |" in (out / "table.md").read_text()  # what there is, is told already
    kept = (out / "4.json").stat()
    assert main(argv(out)) == 0
    told = capsys.readouterr().out
    assert f"resuming {out}/runs/8-b at 32 images seen" in told
    assert "pictures  " not in told  # the closing words of a single training
    assert (out / "4.json").stat().st_mtime_ns == kept.st_mtime_ns
    assert [figures(out, n) == figures(done, n) for n in (4, 8)] == [True, True]


def test_a_signal_while_measuring_keeps_the_trainings(copy, done, monkeypatch, capsys):
    (copy / "8.json").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(command, "measure", lambda pair: signal.raise_signal(signal.SIGTERM))
        assert main(argv(copy)) == 143
    said = capsys.readouterr().err
    assert f"1 of 2 counts are in {copy}, the same command goes on" in said
    assert not (copy / "8.json").exists()
    lines = (copy / "runs/8-a/metrics.jsonl").read_text()
    assert main(argv(copy)) == 0
    assert (copy / "runs/8-a/metrics.jsonl").read_text() == lines
    assert figures(copy, 8) == figures(done, 8)


def test_other_measures_are_taken_from_the_same_runs_and_another_recipe_is_refused(
    copy, monkeypatch, capsys
):
    lines = [(copy / f"runs/4-{which}/metrics.jsonl").read_text() for which in "ab"]
    assert main(argv(copy, counts="4", sigmas="2")) == 0
    assert "4.json: figures of other settings; measured anew" in capsys.readouterr().err
    assert [level["sigma"] for level in figures(copy, 4)["levels"]] == [2.0]
    assert [(copy / f"runs/4-{which}/metrics.jsonl").read_text() for which in "ab"] == lines
    assert main(argv(copy, "--model.depth", "2")) == 2
    said = capsys.readouterr().err
    assert f"out: {copy}/runs/4-a holds a run with other settings" in said
    assert "model.depth: 1 there, 2 here" in said


def test_a_longer_or_shorter_training_in_the_same_folder_is_refused(copy, capsys):
    for images in ("128", "32"):
        assert main(argv(copy, "--train.images", images)) == 2
        said = capsys.readouterr().err
        assert f"train.images: {copy}/runs/4-a is a training of 64 images, not of {images}" in said
    assert len((copy / "runs/4-a/metrics.jsonl").read_text().splitlines()) == 4


def test_a_run_that_was_trained_on_elsewhere_is_refused(copy, capsys):
    run = copy / "runs/4-a"
    (run / "checkpoints/images-000000064").rename(run / "checkpoints/images-000000128")
    (copy / "4.json").unlink()
    assert main(argv(copy)) == 2
    said = capsys.readouterr().err
    assert f"train.images: {run} has seen 128 images, more than 64; choose another --out" in said


def test_figures_of_other_weights_or_beside_other_pictures_are_measured_anew(copy, done, capsys):
    shutil.copy(copy / "8-samples.png", copy / "4-samples.png")  # whole, but of another N
    assert main(argv(copy)) == 0
    assert "4-samples.png is missing, damaged or of other figures" in capsys.readouterr().err
    assert (copy / "4-samples.png").read_bytes() == (done / "4-samples.png").read_bytes()
    stated = figures(copy, 8)
    stated["weights"][1] = stated["weights"][0]
    (copy / "8.json").write_text(json.dumps(stated))
    assert main(argv(copy)) == 0
    assert f"8.json: figures of other weights than those of {copy}/runs/8-b" in (
        capsys.readouterr().err
    )
    assert figures(copy, 8) == figures(done, 8)


def test_figures_stand_without_the_runs_and_other_intervals_of_logging_change_none(
    copy, monkeypatch
):
    shutil.rmtree(copy / "runs")
    for name in ("train_run", "measure"):
        monkeypatch.setattr(command, name, no_more)
    assert main(argv(copy, "--train.log-images", "8", "--report.num-images", "0")) == 0


def test_figures_follow_from_what_is_kept_image_by_image(done):
    stated = figures(done, 8)
    values = stated["values"]
    assert [len(one) for one in values["nearest_own"]] == [6, 6]
    assert stated["agreement"]["median"] == pytest.approx(median(values["agreement"]))
    for which, flags in zip("ab", values["memorised"], strict=True):
        assert stated["memorised"][which]["hits"] == sum(flags)
    for level, errors in zip(stated["levels"], values["levels"], strict=True):
        for side in ("train", "held_out", "linear_train", "linear_held_out"):
            mean = fmean(fmean(one) for one in errors[side])
            assert level[side]["psnr"] == pytest.approx(10 * math.log10(4 / mean))
        assert level["gap"]["psnr"] == pytest.approx(
            level["train"]["psnr"] - level["held_out"]["psnr"]
        )
        assert level["dimension"]["exact"] == pytest.approx(fmean(errors["traces"]))


def test_the_claim_follows_and_its_command_asks_for_the_same(done):
    assert check_evidence(done / "evidence.json") == []
    stated = json.loads((done / "evidence.json").read_text())
    decisive = [one for one in stated["comparisons"] if one["role"] == "decisive"]
    assert [one["kind"] for one in decisive] == ["paired", "paired", "shares", "shares", "paired"]
    words = shlex.split(stated["commands"][0])
    assert words[:2] == ["python", "eval/memorization.py"]
    again = parse(MemorizationConfig, [*words[2:], "--device", "cpu"], "memorization")
    assert again.settings() == figures(done, 4)["settings"]
    assert again.columns() == [4, 8]


@pytest.fixture
def zoo(tmp_path):
    """A folder of 20 images, two classes one behind the other."""
    for k in range(20):
        file = tmp_path / "zoo" / ("cat" if k < 10 else "newt") / f"{k:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((16, 16), 20 + 5 * k).convert("RGB").save(file)
    return tmp_path / "zoo"


def test_of_a_folder_both_sets_and_what_is_held_out_share_no_image(zoo, tmp_path):
    data = {"kind": "folder", "path": zoo, "flip": False, "size": "16x16"}
    config = MemorizationConfig(data=data, counts=[6], num_noisy=4, jacobians=1, out=tmp_path)
    parts = division.divide(config)
    sets = [build_images(config.part(start, start + 6)) for start in (0, parts.half)]
    files = [set(images.files) for images in (*sets, parts.held_out)]
    assert [len(found) for found in files] == [6, 6, 4]
    assert len(set.union(*files)) == 16
    for images in sets:
        assert images.class_names == ("cat", "newt")
    told = [names_digest(images.files, zoo) for images in (*sets, parts.held_out)]
    assert list(parts.digests(config, 6)) == told


def test_what_is_held_out_does_not_move_the_training_sets(zoo):
    data = {"kind": "folder", "path": zoo, "flip": False}
    first, second = (
        division.divide(MemorizationConfig(data=data, counts=[2], num_noisy=noisy, jacobians=1))
        for noisy in (4, 7)
    )
    assert (first.half, second.half) == (10, 10)
    assert [len(parts.held_out) for parts in (first, second)] == [4, 7]


def test_a_folder_that_gains_an_image_is_not_measured_as_the_old_one(zoo, tmp_path, capsys):
    more = ["--data.kind", "folder", "--data.path", str(zoo), "--no-data.flip"]
    command_line = argv(tmp_path / "out", *more, counts="2", sigmas="1")
    assert main(command_line) == 0
    shutil.copy(zoo / "cat/00.png", zoo / "cat/00b.png")
    assert main(command_line) == 2
    said = capsys.readouterr().err
    assert "2.json: figures of other images: the names in the folder have changed" in said
    assert f"data: {tmp_path}/out/runs/2-a was trained on other images" in said
    assert main([*command_line, "--seed", "1"]) == 2  # the recipe is told before the names
    assert "data.subset_seed: 0 there, 1 here" in capsys.readouterr().err
    for which in "ab":  # as of before they were stored
        (tmp_path / f"out/runs/2-{which}/images.json").unlink()
    assert main(command_line) == 0
    assert main(command_line) == 0
    (zoo / "cat/00b.png").unlink()
    assert main(command_line) == 2


def test_a_folder_is_trained_and_measured(zoo, tmp_path):
    more = ["--data.kind", "folder", "--data.path", str(zoo), "--no-data.flip"]
    assert main(argv(tmp_path / "out", *more, counts="1")) == 0
    found = figures(tmp_path / "out", 1)
    assert found["memorised"] == {"a": None, "b": None}  # there is no second image
    level = found["levels"][0]
    assert level["linear_train"] is level["linear_gap"] is None  # nor any error
    assert level["dimension"]["exact_error"] is None  # nor a second Jacobian
    assert "| 1 |" in (tmp_path / "out/table.md").read_text()


def test_of_images_too_large_for_whole_jacobians_it_is_told_what_is_missing(tmp_path, capsys):
    out = tmp_path / "out"
    more = ["--data.size", "40x40", "--train.images", "8", "--jacobians", "2"]
    assert main(argv(out, *more, counts="2", sigmas="1")) == 0
    found = figures(out, 2)
    assert found["eigenvalues"] is found["linear_agreement"] is None
    dimension = found["levels"][0]["dimension"]
    assert dimension["exact"] is None
    assert dimension["estimated_error"] is not None
    said = "Images of more than 4,096 numbers: the dimension is an estimate alone, and there is no"
    assert said in capsys.readouterr().out
    assert said in (out / "table.md").read_text()
    assert not (out / "eigenvectors.png").exists()
    assert not (out / "evidence.json").exists()  # of one N


@pytest.mark.parametrize(
    ("counts", "more", "said"),
    [
        ("4,500001", [], "counts: sets of 500,001 images, one from the first and one from the"),
        ("751", ["--data.kind", "digits"], "middle of 1,501 on; 750 is the largest there is room"),
        ("4", ["--data.kind", "digits", "--num-noisy", "300"], "300, but only 296 images"),
    ],
)
def test_more_than_there_is_is_refused_before_anything_is_trained(
    counts, more, said, tmp_path, capsys
):
    out = tmp_path / "out"
    assert main(argv(out, *more, counts=counts)) == 2
    assert said in capsys.readouterr().err
    assert not (out / "runs").exists()


def test_of_a_folder_too_small_what_is_left_is_told(zoo, tmp_path, capsys):
    more = ["--data.kind", "folder", "--data.path", str(zoo), "--no-data.flip"]
    assert main(argv(tmp_path / "out", *more, counts="3")) == 2
    said = capsys.readouterr().err
    assert "of 20 on, the last 8 of which num_noisy holds out; 2 is the largest" in said
