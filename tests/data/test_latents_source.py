"""Prepared latents as training images: what is read back is what the VAE gives."""

import os
import pickle

import numpy as np
import pytest
import torch

from diffgen.config.data import FolderConfig, ShapesConfig
from diffgen.config.latents import LatentsConfig, idle_options
from diffgen.config.vae import VAEConfig
from diffgen.data.fit import Limits
from diffgen.data.latents import Latents
from diffgen.data.loader import load_batches
from diffgen.data.order import BatchNumbers, TrainingData
from diffgen.data.source import Augmented, build_images
from diffgen.errors import UserError
from diffgen.models.vae import load_vae
from diffgen.seeding import stream_generator
from tests.prepared import MIXED_SIZES, made, pictures


@pytest.fixture(scope="module")
def vae(vae_folder):
    return load_vae(vae_folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return pictures(tmp_path_factory.mktemp("pictures"), MIXED_SIZES)


def moments_of(vae, images: torch.Tensor) -> torch.Tensor:
    """By diffusers called directly."""
    with torch.no_grad():
        found = vae.encode(images).latent_dist
    return torch.cat([found.mean, found.std], dim=1)


def latents(path, **options) -> Latents:
    return Latents(LatentsConfig(path=path, **options))


def augmented(images, index: int, seed: int = 0):
    return images.augmented(index, stream_generator(seed, "augment", index))


def test_a_posterior_read_back_is_bit_for_bit_what_the_vae_gave_its_batch(
    tmp_path, vae_folder, vae
):
    """20 images in files of 8, encoded 3 at once: 0-2, 3-5, 6-7, then 8-10 and so on."""
    found = latents(made(tmp_path, vae_folder))
    shapes = build_images(ShapesConfig(size="16x24"))
    assert len(found) == 20
    assert found.class_names == shapes.class_names
    for batch in (range(0, 3), range(6, 8), range(8, 11), range(16, 19), range(19, 20)):
        wanted = moments_of(vae, torch.stack([shapes[i][0] for i in batch]))
        for i, moments in zip(batch, wanted, strict=True):
            assert torch.equal(found[i][0], moments)
            assert found[i][1] == shapes[i][1]
            assert torch.equal(augmented(found, i)[0], moments)
    with pytest.raises(IndexError):
        found[20]


@pytest.mark.parametrize(("dtype", "bits"), [("float16", 11), ("bfloat16", 8)])
def test_shorter_numbers_are_the_long_ones_rounded(tmp_path, vae_folder, dtype, bits):
    exact, found = (
        latents(made(tmp_path / name, vae_folder, dtype=name)) for name in ("float32", dtype)
    )
    for i in range(20):
        long, short = exact[i][0], found[i][0]
        assert short.dtype == torch.float32
        assert ((short - long).abs() <= long.abs() * 2**-bits + 2**-25).all()
        assert not torch.equal(short, long)


def test_mirrored_images_are_drawn_as_from_the_pictures_themselves(
    tmp_path, vae_folder, vae, folder
):
    """Pictures, mirroring, labels and parts are those of a training on the folder."""
    data = {"kind": "folder", "path": folder, "size": "16x24"}
    found = latents(made(tmp_path, vae_folder, data))
    images = build_images(FolderConfig(path=folder, size="16x24"))
    assert isinstance(found, Augmented)
    mirrored = 0
    for seed in range(4):
        for i in range(len(MIXED_SIZES)):
            moments, label, part = augmented(found, i, seed)
            image, its_label, its_part = augmented(images, i, seed)
            torch.testing.assert_close(moments, moments_of(vae, image[None])[0], rtol=0, atol=2e-5)
            assert label == its_label
            assert part == pytest.approx([side / 2 for side in its_part], abs=1e-5)
            mirrored += not torch.equal(moments, found[i][0])
    assert 8 <= mirrored <= 24


def test_without_flips_nothing_is_mirrored(tmp_path, vae_folder, folder):
    path = made(tmp_path, vae_folder, {"kind": "folder", "path": folder, "size": "16x16"})
    still = latents(path, flip=False)
    for seed in range(4):
        assert torch.equal(augmented(still, 0, seed)[0], still[0][0])


def test_images_of_mixed_sizes_lie_in_a_folder_for_each_and_keep_their_order(
    tmp_path, vae_folder, vae, folder
):
    """Files of 2, so that one size needs two; a token is 2 x 2 latents, 4 x 4 pixels."""
    data = {"kind": "folder", "path": folder, "size": "24x24", "crop": "none", "flip": False}
    path = made(tmp_path, vae_folder, data, shard_images=2)
    config = FolderConfig(path=folder, size="24x24", crop="none", flip=False)
    images, found = build_images(config, limits=Limits(4)), latents(path)
    assert len(found) == len(MIXED_SIZES)
    sizes = []
    for i in range(len(images)):
        image, label, part = augmented(images, i)
        moments, its_label, its_part = augmented(found, i)
        torch.testing.assert_close(moments, moments_of(vae, image[None])[0], rtol=0, atol=2e-5)
        assert (label, list(part)) == (its_label, [2 * side for side in its_part])
        sizes.append("x".join(map(str, moments.shape[1:])))
    assert len(set(sizes)) > 3
    there = {shard.file.split("/")[0]: 0 for shard in found.index.shards}
    for shard in found.index.shards:
        there[shard.file.split("/")[0]] += shard.count
        assert shard.count <= 2
    assert there == {size: sizes.count(size) for size in sizes}
    assert LatentsConfig(path=path).mixed_sizes


@pytest.mark.parametrize("crop", ["none", "mixed"])
def test_drawn_scenes_have_sizes_of_their_own_too(tmp_path, vae_folder, crop):
    data = {"kind": "shapes", "size": "32x32", "crop": crop, "subset": ":12"}
    found = latents(made(tmp_path, vae_folder, data))
    shapes = build_images(ShapesConfig(size="32x32", crop="none"), limits=Limits(4))
    sizes = [(2 * h, 2 * w) for h, w in (found[i][0].shape[1:] for i in range(12))]
    whole = [tuple(augmented(shapes, i)[0].shape[1:]) for i in range(12)]
    assert len(set(whole)) > 4
    if crop == "none":
        assert sizes == whole
    else:
        assert {size for size, own in zip(sizes, whole, strict=True) if size != own} == {(32, 32)}
    assert [found[i][1] for i in range(12)] == [shapes[i][1] for i in range(12)]


def test_crop_mixed_is_drawn_once_for_each_image_by_the_seed(tmp_path, vae_folder):
    """Of pictures larger than 12x12 half are cropped to it; the others come to 6 x 24 pixels."""
    folder = pictures(tmp_path / "pictures", [(20, 80)] * 12)
    data = {"kind": "folder", "path": folder, "size": "12x12", "crop": "mixed", "flip": False}
    shapes = {}
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        found = latents(made(tmp_path / name, vae_folder, data, seed=seed, patch_size=1))
        shapes[name] = [tuple(found[i][0].shape) for i in range(12)]
        for seed in range(3):
            again = [tuple(augmented(found, i, seed)[0].shape) for i in range(12)]
            assert again == shapes[name]
    assert set(shapes["one"]) == {(8, 6, 6), (8, 3, 12)}
    assert shapes["one"] == shapes["same"] != shapes["other"]


def test_a_subset_is_of_the_images_in_their_order(tmp_path, vae_folder):
    path = made(tmp_path, vae_folder)
    whole, part = latents(path), latents(path, subset="3:9")
    assert len(part) == 6
    assert all(torch.equal(part[i][0], whole[3 + i][0]) for i in range(6))
    drawn, rest = (latents(path, subset=s, subset_seed=1) for s in (":5", "5:"))
    seen = [
        tuple(one[i][0].flatten()[:4].tolist()) for one in (drawn, rest) for i in range(len(one))
    ]
    assert len(set(seen)) == 20
    with pytest.raises(UserError, match=r"data\.subset: 0:21 reaches beyond the 20 images"):
        latents(path, subset=":21")


def test_workers_read_the_same_and_no_file_is_held_open(tmp_path, vae_folder):
    path = made(tmp_path, vae_folder)
    config = LatentsConfig(path=path)
    batches = []
    for workers in (0, 2):
        numbers = BatchNumbers(0, 40, 8)
        data = TrainingData(build_images(config), seed=1)
        batches.append(list(load_batches(data, numbers, workers, pin_memory=False)))
    for one, other in zip(*batches, strict=True):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["label"], other["label"])
        assert one["image"].shape == (8, 8, 8, 12)
    found = Latents(config)
    order = np.random.default_rng(0).permutation(20)
    drawn = {int(i): found[int(i)][0] for i in order}
    handles = [os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
    assert not [handle for handle in handles if handle.startswith(str(path))]
    copy = pickle.loads(pickle.dumps(found))
    assert all(torch.equal(copy[i][0], drawn[i]) for i in drawn)


def test_latents_that_a_models_tokens_or_positions_do_not_fit_are_refused(tmp_path, vae_folder):
    folder = pictures(tmp_path / "pictures", [(16, 20), (8, 40)])
    data = {"kind": "folder", "path": folder, "size": "16x20", "crop": "none"}
    config = LatentsConfig(path=made(tmp_path / "out", vae_folder, data))
    assert len(Latents(config, Limits(4, (16, 40)))) == 2
    with pytest.raises(UserError, match=r"of 8x40, beyond the 16x32 .* --longest 16x32"):
        Latents(config, Limits(4, (16, 32)))
    with pytest.raises(UserError, match=r"of 8x40, no multiple of a token of 16 pixels"):
        Latents(config, Limits(16))
    short = made(tmp_path / "short", vae_folder, data, longest="16x32")
    found = Latents(LatentsConfig(path=short), Limits(4, (16, 32)))
    assert found[1][0].shape == (8, 4, 16)


class TestRefused:
    @pytest.fixture
    def path(self, tmp_path, vae_folder):
        return made(tmp_path / "latents", vae_folder)

    @staticmethod
    def problems(path, **options) -> str:
        try:
            return "\n".join(LatentsConfig(path=path, **options).problems())
        except UserError as error:
            return str(error)

    def test_a_whole_folder_has_no_problem(self, path):
        assert self.problems(path) == ""
        config = LatentsConfig(path=path)
        assert (config.size, config.index.crop) == ("16x24", "center")

    def test_no_folder_no_index_or_an_unfinished_one(self, path, tmp_path):
        assert "is not a folder" in self.problems(tmp_path / "none")
        assert "holds no latents (no index.json)" in self.problems(tmp_path)
        (path / "index.json").unlink()
        said = self.problems(path)
        assert "are not finished; run the same diffgen prepare command again" in said

    def test_a_damaged_index(self, path):
        text = (path / "index.json").read_text()
        (path / "index.json").write_text(text[:-100])
        assert "index.json is damaged" in self.problems(path)
        (path / "index.json").write_bytes(text.encode().replace(b'"count"', b'"c\x80unt"'))
        assert "index.json is damaged" in self.problems(path)

    def test_a_truncated_and_a_missing_file(self, path):
        file = path / "8x12/shard-00001.safetensors"
        file.write_bytes(file.read_bytes()[:-1])
        said = self.problems(path)
        assert f"{file} is damaged (" in said
        assert "run the same diffgen prepare command again, it mends the folder" in said
        with pytest.raises(UserError, match=r"shard-00001.safetensors cannot be read"):
            latents(path)[9]
        file.unlink()
        assert f"{file} cannot be read (No such file or directory)" in self.problems(path)

    def test_options_of_the_vae_that_do_nothing_there(self):
        assert not list(idle_options(VAEConfig(path="p", scale=2, precision="bf16")))
        said = list(idle_options(VAEConfig(path="p", statistics_images=10, batch_size=2)))
        assert said == [
            "vae.statistics_images: 10 has no effect, prepared latents are encoded already",
            "vae.batch_size: 2 has no effect, prepared latents are encoded already",
        ]

    def test_mirroring_what_was_not_prepared_for_it(self, path):
        assert self.problems(path, flip=True).startswith("data.flip: ")
        assert self.problems(path, flip=False) == ""

    def test_a_shuffle_that_changes_nothing(self, path):
        assert "data.subset_seed" in self.problems(path, subset_seed=1)
