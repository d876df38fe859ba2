"""Latents against diffusers called directly; slices, tiles, precision, and what is refused."""

import json
import shutil

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from diffgen.config.vae import LatentFormat, own_format
from diffgen.errors import UserError
from diffgen.models.vae import LatentSpace, load_vae
from diffgen.seeding import posterior_noise

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def space(vae_folder) -> LatentSpace:
    vae = load_vae(vae_folder)
    return LatentSpace(vae, own_format(dict(vae.config)))


def images(count: int = 3, height: int = 12, width: int = 20) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_encode_and_decode_are_diffusers_own(space, vae_folder):
    """(z - shift) scale there, z / scale + shift back; at a size that is not square."""
    vae, x = AutoencoderKL.from_pretrained(vae_folder), images()
    with torch.no_grad():
        posterior = vae.encode(x).latent_dist
        wanted = (posterior.mode() - 0.1) * 0.7
        decoded = vae.decode(wanted / 0.7 + 0.1).sample
    latents = space.encode(x)
    assert latents.shape == (3, *space.shape(12, 20)) == (3, 4, 6, 10)
    torch.testing.assert_close(latents, wanted, rtol=0, atol=1e-6)
    torch.testing.assert_close(space.decode(latents), decoded, rtol=0, atol=1e-5)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(2))
    sampled = posterior.sample(torch.Generator().manual_seed(2))
    torch.testing.assert_close(space.encode(x, noise), (sampled - 0.1) * 0.7, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "mean", "std"),
    [
        ({}, 0.0, 1.0),
        ({"scaling_factor": 0.5}, 0.0, 2.0),
        ({"scaling_factor": 0.5, "shift_factor": 0.25}, 0.25, 2.0),
        ({"scaling_factor": 0.5, "latents_mean": [3.0], "latents_std": [5.0]}, 3.0, 10.0),
        ({"scaling_factor": 1.0, "shift_factor": None, "latents_mean": None}, 0.0, 1.0),
    ],
)
def test_the_vaes_own_normalisation(settings, mean, std):
    config = {"latent_channels": 1, "block_out_channels": [8, 8, 8, 8], **settings}
    assert own_format(config) == LatentFormat(factor=8, mean=(mean,), std=(std,))


def test_a_scale_replaces_the_scaling_factor_and_keeps_the_shift(space):
    form = own_format(dict(space.vae.config), scale=0.25)
    assert (form.mean[0], form.std[0]) == (0.1, 4.0)


def test_normalisation_inverts_channel_by_channel(space):
    """Other statistics change the latents as said and the decoded image not at all."""
    form = LatentFormat(factor=2, mean=(1.0, 2.0, -3.0, 0.5), std=(0.5, 2.0, 1.5, 4.0))
    other, x = LatentSpace(space.vae, form), images()
    z, own = other.encode(x), space.encode(x)
    raw = own / 0.7 + 0.1
    torch.testing.assert_close(z[:, 2], (raw[:, 2] + 3) / 1.5, rtol=0, atol=1e-5)
    torch.testing.assert_close(other.decode(z), space.decode(own), rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_slices_equal_the_whole_and_are_no_larger_than_asked(space, batch_size):
    x = images(5)
    whole = space.encode(x, batch_size=5)
    sizes: list[int] = []
    hooks = [
        module.register_forward_hook(lambda _, args, __: sizes.append(len(args[0])))
        for module in (space.vae.encoder, space.vae.decoder)
    ]
    try:
        latents = space.encode(x, batch_size=batch_size)
        decoded = space.decode(latents, batch_size=batch_size)
    finally:
        for hook in hooks:
            hook.remove()
    assert max(sizes) == batch_size
    assert sum(sizes) == 10
    torch.testing.assert_close(latents, whole, rtol=0, atol=1e-5)
    torch.testing.assert_close(decoded, space.decode(whole, batch_size=5), rtol=0, atol=1e-5)


def test_tiles_are_diffusers_own_and_only_for_large_images(space, vae_folder):
    tiled = AutoencoderKL.from_pretrained(vae_folder)
    tiled.enable_tiling()
    z = space.encode(images(1, 40, 24))
    with torch.no_grad():
        wanted = tiled.decode(z / 0.7 + 0.1).sample
    torch.testing.assert_close(space.decode(z, tiled=True), wanted, rtol=0, atol=1e-5)
    assert not torch.allclose(space.decode(z), wanted, atol=1e-3)  # and the setting is put back
    small = space.encode(images(1, 16, 16))
    assert torch.equal(space.decode(small, tiled=True), space.decode(small))


def test_nothing_is_differentiated_and_autocast_does_not_reach_it(space):
    x = images(1).requires_grad_()
    plain = space.encode(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(space.encode(x), plain)
        assert space.decode(plain).dtype == torch.float32
    assert not plain.requires_grad
    assert not space.vae.training


def test_a_low_precision_vae_gives_fp32(vae_folder, space):
    """bf16 has 8 bits: what comes out agrees to about a hundredth, and is fp32 again."""
    low = LatentSpace(load_vae(vae_folder, dtype=torch.bfloat16), space.format)
    latents = low.encode(images())
    assert latents.dtype == low.decode(latents).dtype == torch.float32
    difference = (latents - space.encode(images())).abs().max()
    assert 0 < difference < 0.05


def test_posterior_noise_belongs_to_the_samples():
    together = posterior_noise(3, [5, 6, 7], (4, 2, 2))
    assert torch.equal(posterior_noise(3, [7, 5], (4, 2, 2)), together[[2, 0]])
    assert not torch.equal(posterior_noise(4, [5, 6, 7], (4, 2, 2)), together)


def test_the_vae_of_a_pipeline_folder_is_found(vae_folder, tmp_path):
    shutil.copytree(vae_folder, tmp_path / "vae")
    assert load_vae(tmp_path).config.latent_channels == 4


def test_attention_weights_by_their_old_names_are_read(vae_folder, tmp_path):
    """Published VAEs of 2022 call them query, key, value and proj_attn."""
    shutil.copytree(vae_folder, tmp_path / "old")
    tensors = load_file(vae_folder / WEIGHTS)
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old = {}
    for name, tensor in tensors.items():
        for new, former in names.items():
            name = name.replace(f".{new}.", f".{former}.")
        old[name] = tensor
    assert old.keys() != tensors.keys()
    save_file(old, tmp_path / "old" / WEIGHTS)
    loaded = load_vae(tmp_path / "old").state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


def test_what_cannot_be_loaded_is_named(vae_folder, tmp_path):
    def changed(name: str, **settings) -> str:
        folder = tmp_path / name
        shutil.copytree(vae_folder, folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **settings}))
        return str(folder)

    with pytest.raises(UserError, match=r"vae\.path: .*gone does not exist"):
        load_vae(str(tmp_path / "gone"), "vae.path")
    with pytest.raises(UserError, match="other cannot be loaded"):
        load_vae(changed("other", latent_channels=8))
    damaged = tmp_path / "other" / WEIGHTS
    damaged.write_bytes(damaged.read_bytes()[:500])
    with pytest.raises(UserError, match="other cannot be loaded"):
        load_vae(tmp_path / "other")
    lacking = changed("lacking")
    tensors = load_file(vae_folder / WEIGHTS)
    del tensors["encoder.conv_in.weight"]
    save_file(tensors, tmp_path / "lacking" / WEIGHTS)
    with pytest.raises(UserError, match=r"lacks weights, encoder\.conv_in\.weight"):
        load_vae(lacking)


def test_a_hub_id_is_asked_for_its_settings_first(monkeypatch, vae_folder, tmp_path):
    """No network here: the folder the hub would give is made instead, file by file."""
    import huggingface_hub

    asked = []

    def download(repo, allow_patterns, revision):
        asked.append((repo, revision, allow_patterns))
        (tmp_path / "snapshot/vae").mkdir(parents=True, exist_ok=True)
        for pattern in allow_patterns:
            if pattern.startswith("vae/"):
                shutil.copy(vae_folder / pattern.removeprefix("vae/"), tmp_path / "snapshot/vae")
        return str(tmp_path / "snapshot")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert load_vae("owner/name", revision="v2").config.scaling_factor == 0.7
    assert [(repo, revision) for repo, revision, _ in asked] == [("owner/name", "v2")] * 2
    assert asked[0][2] == ["config.json", "vae/config.json"]
    assert asked[1][2] == ["vae/config.json", f"vae/{WEIGHTS}"]
