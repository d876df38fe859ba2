"""JointPipeline of every kind of model, in its precision, and from the disk."""

import copy

import pytest
import torch

from diffgen import DiffGenPipeline
from diffgen.config.process import DDPMConfig
from diffgen.errors import UserError
from diffgen.joint.pipeline import Given, JointPipeline
from diffgen.lacon.conditions import DEPTH, EDGE, MASK
from diffgen.models.vae import LatentSpace, load_vae
from diffgen.sampling.schedulers import build_scheduler
from tests.joint.adapters import drawn, joint_of, noise, random_adapter, save_adapter
from tests.tiny import build

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def joint() -> JointPipeline:
    return joint_of(build(), DEPTH)


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("solver", ["ddim", "ddpm", "dpmpp"])
def test_a_chain_of_ddpm_is_walked_too_alone_and_in_a_batch(solver, learned):
    pipe = build(prediction="v", out_channels=6 if learned else None)
    chain = DDPMConfig(learned_variance=learned)
    joint = joint_of(
        DiffGenPipeline(pipe.transformer, build_scheduler(solver, process=chain)), EDGE
    )
    picture, corner = noise(3, 3, 8, 8), torch.zeros(1, 1, 8, 8)
    corner[..., :3, :5] = 1
    given = {"image": Given(picture, known=corner)}
    found = drawn(joint, given=given)
    assert torch.equal(found.images[..., :3, :5], picture[..., :3, :5])
    assert found.images.isfinite().all()
    alone = drawn(joint, [2], given={"image": Given(picture[2:], known=corner)}, image_numbers=[2])
    assert torch.allclose(alone.images[0], found.images[2], atol=1e-4)
    assert torch.allclose(alone.conditions["edge"][0], found.conditions["edge"][2], atol=1e-4)
    maps = noise(1, 1, 8, 8).abs()
    found = drawn(joint, given={"edge": Given(maps)})
    assert torch.equal(found.conditions["edge"][2:], maps)


def test_positions_that_are_drawn_are_the_same_alone_and_in_a_batch():
    position = {"kind": "rpe2d", "inference": "random", "range_rows": 8, "range_columns": 8}
    joint = joint_of(build(position=position), DEPTH)
    together = drawn(joint, [0, 1])
    alone = drawn(joint, [1], image_numbers=[1])
    assert torch.allclose(alone.images[0], together.images[1], atol=1e-4)


def test_the_adapters_compute_in_the_models_precision():
    pipe = build()
    pipe.transformer.bfloat16()
    found = drawn(joint_of(pipe, DEPTH), [0])
    assert found.images.dtype == torch.float32
    assert torch.allclose(found.images, drawn(joint_of(build(), DEPTH), [0]).images, atol=0.3)


def test_the_adapters_that_came_stay_as_they_were():
    pipe = build()
    pipe.transformer.bfloat16()
    adapter = random_adapter(pipe.transformer, DEPTH).train()
    before = copy.deepcopy(adapter.state_dict())
    drawn(JointPipeline(pipe, [(adapter, DEPTH)]), [0])
    assert (adapter.dtype, adapter.training) == (torch.float32, True)
    assert all(torch.equal(x, before[name]) for name, x in adapter.state_dict().items())


def test_the_adapters_come_to_where_the_model_computes(monkeypatch):
    """As with CPU offload, where that is not where it lies; "meta" computes nothing."""
    joint, seen = joint_of(build(), DEPTH), []
    real = JointPipeline._denoiser

    def noting(self, *told):
        monkeypatch.setattr(DiffGenPipeline, "_execution_device", torch.device("meta"))
        seen.append(real(self, *told))
        monkeypatch.undo()
        return real(self, *told)

    monkeypatch.setattr(JointPipeline, "_denoiser", noting)
    drawn(joint, [0])
    assert {p.device.type for p in seen[0].adapters[0].parameters()} == {"meta"}
    assert joint.adapters[0].device.type == "cpu"


@pytest.fixture(scope="module")
def latent(vae_folder) -> JointPipeline:
    """Of latents of four channels, at 4 x 4 of them."""
    model = build(in_channels=4, sample_size=(4, 4)).transformer
    return joint_of(
        DiffGenPipeline(model, build_scheduler("euler"), vae=load_vae(vae_folder)), DEPTH
    )


class TestLatents:
    def test_pictures_and_maps_are_encoded_and_what_is_given_comes_back(self, latent):
        maps = noise(1, 1, 8, 8)
        given = {"depth": Given(maps)}
        found = drawn(latent, given=given)
        assert found.images.shape == (3, 3, 8, 8)
        assert torch.equal(found.conditions["depth"], maps.expand(3, -1, -1, -1))
        z = drawn(latent, given=given, latent=True)
        space = LatentSpace(latent.pipe.vae, latent.pipe.latent_format)
        wanted = space.encode(maps.expand(1, 3, -1, -1))
        assert torch.allclose(z.conditions["depth"], wanted.expand(3, -1, -1, -1))
        assert torch.allclose(space.decode(z.images), found.images, atol=1e-5)
        one_by_one = drawn(latent, given=given, decode_batch_size=1)
        assert torch.allclose(one_by_one.images, found.images, atol=1e-4)

    def test_a_latent_counts_as_known_where_all_pixels_behind_it_are(self, latent):
        picture = noise(1, 3, 8, 8)
        known = torch.zeros(1, 1, 8, 8)
        known[..., :5, :] = 1  # two and a half of four rows of latents
        given = {"image": Given(picture, known=known)}
        found = drawn(latent, given=given)
        assert torch.equal(found.images[:, :, :4], picture[:, :, :4].expand(3, -1, -1, -1))
        assert not torch.isclose(found.images[:, :, 4], picture[:, :, 4]).any()
        z = drawn(latent, given=given, latent=True).images
        space = LatentSpace(latent.pipe.vae, latent.pipe.latent_format)
        wanted = space.encode(picture).expand(3, -1, -1, -1)
        assert torch.equal(z[:, :, :2], wanted[:, :, :2])

    def test_without_a_vae_there_are_latents_alone(self, latent):
        format = latent.pipe.latent_format.model_dump()
        pipe = DiffGenPipeline(
            latent.pipe.transformer, build_scheduler("euler"), latent_format=format
        )
        bare = joint_of(pipe, DEPTH)
        z = drawn(bare, latent=True)
        assert torch.equal(z.images, drawn(latent, latent=True).images)
        for options in ({}, {"given": {"depth": Given(noise(1, 1, 8, 8))}, "latent": True}):
            with pytest.raises(ValueError, match=r"a model of latents .4 channels. without a VAE"):
                drawn(bare, **options)


def test_8_bit_pictures_and_maps(joint):
    found = drawn(joint, [0], given={"depth": Given(torch.tensor([[-1.0, 1.0]] * 2)[None, None])})
    (image,), (depth,) = found.pil(), found.pil("depth")
    assert (image.mode, depth.mode) == ("RGB", "L")
    assert list(depth.tobytes()) == [0, 255] * 2
    masks = joint_of(joint.pipe, MASK)
    half = Given(torch.full((1, 1, 2, 2), 0.25))
    (mask,) = drawn(masks, [0], given={"mask": half}).pil("mask")
    assert set(mask.tobytes()) == {64}


def test_it_is_loaded_with_the_adapters_of_the_run(tmp_path):
    pipe = build()
    pipe.save_pretrained(tmp_path / "run/pipeline")
    save_adapter(pipe.transformer, DEPTH, tmp_path / "run/joint", seed=0)
    save_adapter(pipe.transformer, DEPTH, tmp_path / "others", seed=1)
    found = JointPipeline.from_pretrained(tmp_path / "run", "depth", device="cpu")
    wanted = drawn(joint_of(pipe, DEPTH), [0])
    assert torch.equal(drawn(found, [0]).images, wanted.images)
    other = JointPipeline.from_pretrained(tmp_path / "run", ["depth"], tmp_path / "others")
    assert not torch.allclose(drawn(other, [0]).images, wanted.images, atol=0.01)
    with pytest.raises(UserError, match=r"conditions: .*edge holds no adapter"):
        JointPipeline.from_pretrained(tmp_path / "run", ["edge"])
