"""Batches of a sampling run: who draws what, the saved size shift, and one run a folder."""

import json

import pytest
import torch

from diffgen import DiffGenPipeline, DiT
from diffgen.commands.sample import sample
from diffgen.config.guidance import APGConfig, CFGConfig
from diffgen.config.sample import SampleConfig
from diffgen.config.sampling import SamplingConfig
from diffgen.data.pixels import to_uint8
from diffgen.errors import UserError
from diffgen.sampling.batches import draw_batches
from diffgen.sampling.schedulers import build_scheduler

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def pipeline(scheduler: str, shift: float, seed: int = 0) -> DiffGenPipeline:
    model = DiT(sample_size=(8, 8), patch_size=4, hidden_size=32, depth=1, num_heads=2)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.2 * torch.randn(p.shape, generator=generator))
    pipe = DiffGenPipeline(model, build_scheduler(scheduler, shift))
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("saved", ["euler", "heun", "dpmpp"])
@pytest.mark.parametrize("asked", ["euler", "heun", "dpmpp"])
def test_the_size_shift_a_pipeline_was_saved_with_outlives_another_solver(tmp_path, saved, asked):
    pipeline(saved, 3.0).save_pretrained(tmp_path)
    config = SamplingConfig(scheduler=asked, steps=4, batch_size=3)
    drawn = {}
    for shift in (1.0, 3.0):
        pipe = pipeline(asked, shift)
        x0 = pipe([0, 1, 2], num_inference_steps=4, seed=5, output_type="latent").images
        drawn[shift] = to_uint8(x0)
    loaded = DiffGenPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    (batch,) = draw_batches(loaded, config, [0, 1, 2], height=8, width=8, seed=5)
    assert torch.equal(batch.images, drawn[3.0])
    assert not torch.equal(batch.images, drawn[1.0])


def test_some_batches_are_the_ones_of_the_whole(tmp_path):
    pipe = pipeline("euler", 1.0)
    config = SamplingConfig(scheduler="euler", steps=2, batch_size=2)
    options = {"height": 8, "width": 8, "seed": 0}
    whole = list(draw_batches(pipe, config, [0, 1, 2, 3, 4], **options))
    some = list(draw_batches(pipe, config, [0, 1, 2, 3, 4], **options, batches=[range(4, 5)]))
    assert [batch.numbers for batch in whole] == [[0, 1], [2, 3], [4]]
    assert [batch.numbers for batch in some] == [[4]]
    assert torch.equal(some[0].images, whole[2].images)


def test_images_that_are_not_finite_are_refused():
    pipe = pipeline("euler", 1.0)
    with torch.no_grad():
        next(iter(pipe.transformer.parameters())).fill_(float("nan"))
    drawn = draw_batches(pipe, SamplingConfig(scheduler="euler"), [0], height=8, width=8, seed=0)
    with pytest.raises(UserError, match="the drawn images are not finite"):
        next(drawn)


class TestAFolderHoldsOneRun:
    @pytest.fixture
    def config(self, tmp_path):
        pipeline("euler", 1.0).save_pretrained(tmp_path / "model")
        return SampleConfig(
            source=str(tmp_path / "model"),
            out=tmp_path / "out",
            num_images=3,
            steps=1,
            batch_size=2,
            device="cpu",
        )

    def state(self, out):
        return {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}

    def test_the_same_run_again_draws_only_what_is_missing(self, config):
        sample(config)
        before = self.state(config.out)
        gone = config.out / "8x8/class2-seed0-00002.png"
        bits = gone.read_bytes()
        gone.unlink()
        sample(config)
        after = self.state(config.out)
        assert after.keys() == before.keys()
        assert gone.read_bytes() == bits
        kept = [path for path in before if path.name.endswith(("00000.png", "00001.png"))]
        assert len(kept) == 2
        assert all(after[path] == before[path] for path in kept)

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"seed": 1}, "seed: 0 there, 1 here"),
            ({"steps": 2}, "steps: 1 there, 2 here"),
            ({"guidance": CFGConfig(scale=1)}, "guidance: cfg 2 there, cfg 1 here"),
            ({"guidance": APGConfig(eta=0.5)}, "guidance: cfg 2 there, apg 2, eta 0.5 here"),
            ({"num_images": 4}, "num_images: 3 there, 4 here"),
            ({"size": ["16x8"]}, "size: "),
        ],
    )
    def test_other_settings_are_refused_and_nothing_changes(self, config, change, named):
        sample(config)
        before = self.state(config.out)
        with pytest.raises(UserError, match="pictures drawn with other settings") as caught:
            sample(config.model_copy(update=change))
        assert named in str(caught.value)
        assert self.state(config.out) == before
        assert not (config.out / ".unfinished.json").exists()

    def test_settings_of_an_earlier_version_are_the_same_run(self, config):
        sample(config)
        file = config.out / "settings.json"
        content = json.loads(file.read_text())
        content["settings"]["guidance_scale"] = content["settings"].pop("guidance")["scale"]
        file.write_text(json.dumps(content))
        before = self.state(config.out / "8x8")
        sample(config)
        assert self.state(config.out / "8x8") == before

    def test_other_weights_under_the_same_name_are_noticed(self, config):
        sample(config)
        pipeline("euler", 1.0, seed=1).save_pretrained(config.source)
        with pytest.raises(UserError, match="weights: "):
            sample(config)

    def test_pictures_without_their_settings_are_left_alone(self, config):
        sample(config)
        (config.out / "settings.json").unlink()
        with pytest.raises(UserError, match=r"but no settings\.json"):
            sample(config)

    @pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({"settings": 3})])
    def test_a_foreign_settings_file_is_refused(self, config, content):
        config.out.mkdir()
        (config.out / "settings.json").write_text(content)
        with pytest.raises(UserError, match=r"is not of diffgen's samples"):
            sample(config)
        assert (config.out / "settings.json").read_text() == content

    def test_other_files_in_the_folder_do_not_matter(self, config):
        config.out.mkdir()
        (config.out / "notes.txt").write_text("mine")
        sample(config)
        assert (config.out / "settings.json").exists()
