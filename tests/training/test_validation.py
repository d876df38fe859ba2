"""The loss on held-out images by noise level."""

from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
import torch
from PIL import Image

from diffgen import DiT
from diffgen.commands.measures import open_held_out
from diffgen.commands.train import build_objective, size_limits
from diffgen.config.latents import LatentsConfig
from diffgen.config.positions import PositionOverrides
from diffgen.config.train import TrainConfig
from diffgen.config.vae import LatentFormat, VAEConfig
from diffgen.data.source import build_images
from diffgen.errors import UserError
from diffgen.group import ALONE
from diffgen.models.vae import LatentSpace, load_vae
from diffgen.seeding import stream_generator
from diffgen.training.latents import Encoder
from diffgen.training.trackers import tracked
from diffgen.training.validation import (
    Validation,
    allowed,
    curve,
    known_labels,
    open_validation,
    without_noise,
)
from tests.prepared import made, pictures

CPU = torch.device("cpu")
FLOW = {"model": {"prediction": "velocity"}}


def config(**sections) -> TrainConfig:
    """Of a tiny model on shapes, 16 held-out images in 4 bins."""
    base = {
        "out": Path("unused"),
        "device": "cpu",
        "seed": 5,
        "data": {"kind": "shapes", "size": "16x16"},
        "model": {"depth": 1, "hidden_size": 32, "num_heads": 2, "patch_size": 4},
        "validation": {"every_images": 8, "images": 16, "bins": 4},
        "sampling": {"batch_size": 4},
    }
    for section, fields in sections.items():
        base[section] = {**base.get(section, {}), **fields} if isinstance(fields, dict) else fields
    return TrainConfig.model_validate(base)


def drawn_weights(model: DiT) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {
        name: 0.1 * torch.randn(p.shape, generator=generator)
        for name, p in model.named_parameters()
    }


def opened(asked: TrainConfig, names: tuple[str, ...] | None = None) -> Validation:
    held_out = open_held_out(asked, size_limits(asked, asked.model.patch_size))
    names = held_out.class_names if names is None else names
    model = DiT.build(
        asked.model,
        num_classes=len(names),
        in_channels=3,
        sample_size=(16, 16),
        learned_variance=asked.process.learned_variance,
    )
    objective = build_objective(asked, len(names), CPU, None)
    return open_validation(asked, held_out, names, objective, model, ALONE)


def measured(validation: Validation) -> dict:
    return validation.measure(drawn_weights(validation.model), seen=8)


def test_it_is_the_loss_of_the_training_at_times_of_the_bins():
    validation = opened(config(**FLOW))
    losses = []
    line = measured(validation)
    for number in range(16):
        sample = validation.data[number]
        generator = stream_generator(5, "validation", number)
        t = (number % 4 + torch.rand((), generator=generator)) / 4
        torch.rand((), generator=generator)  # the training's label drop, of no effect here
        eps = torch.randn(3, 16, 16, generator=generator)
        noisy = (1 - t) * sample["image"] + t * eps
        with torch.no_grad():
            label = torch.tensor([sample["label"]])
            found = validation.model(noisy[None], 1000 * t[None], label)[0]
        losses.append((found - (eps - sample["image"])).square().mean().item())
    assert line["t"] == [0, 0.25, 0.5, 0.75, 1]
    assert line["images"] == 8
    assert line["loss"] == pytest.approx(fmean(losses), abs=1e-6)
    assert line["bins"] == pytest.approx([fmean(losses[b::4]) for b in range(4)], abs=1e-6)


def test_the_same_weights_measure_the_same_and_no_random_number_is_taken():
    validation = opened(config())
    before = torch.get_rng_state()
    first = measured(validation)
    assert measured(validation) == first
    assert torch.equal(torch.get_rng_state(), before)


def test_the_pictures_are_held_out_ones_of_all_kinds():
    validation = opened(config())
    held_out = build_images(config().data, "held_out")
    trained = build_images(config().data)
    first = validation.data[0]["image"]
    place = validation.data.order.index(0)
    assert torch.equal(first, held_out[place][0])
    assert not torch.equal(first, trained[place][0])
    assert len({validation.data[number]["label"] for number in range(16)}) > 3


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"data": {"crop": "none", "size": "24x24"}},
        {"data": {"crop": "none", "size": "24x24"}, "train": {"mixed": "padded"}},
        {
            "data": {"crop": "mixed", "size": "24x24"},
            "model": {"micro": "canvas", "position": {"kind": "rpe2d", "range_rows": 99}},
        },
        {"process": {"kind": "ddpm", "learned_variance": True}, "model": {"prediction": "eps"}},
    ],
)
def test_the_batch_size_changes_rounding_alone(sections):
    validation = opened(config(**sections))
    lines = [measured(replace(validation, batch_size=size)) for size in (1, 5)]
    assert lines[0]["loss"] > 0.01
    assert lines[0]["bins"] == pytest.approx(lines[1]["bins"], rel=1e-4)


def test_the_training_it_stands_beside_may_augment_and_crop():
    plain, busy = (
        measured(opened(config(data=data)))
        for data in ({}, {"crop": "random", "crop_scale": 0.3, "subset": ":100"})
    )
    assert plain == busy


def test_positions_a_preview_was_drawn_with_do_not_stay():
    validation = opened(config(model={"position": {"kind": "rope"}}, data={"size": "16x24"}))
    before = measured(validation)
    validation.model.use_position(PositionOverrides(scaling="yarn", temperature="log_ratio"))
    assert measured(validation) == before


def test_a_chain_has_its_own_times_alone():
    process = build_objective(config(process={"kind": "ddpm"}), 8, CPU, None).process
    t = allowed(process, torch.tensor([0.0, 0.0015, 0.4, 0.9995]))
    assert torch.allclose(t, torch.tensor([0.001, 0.002, 0.4, 1.0]))
    assert process.index(t).min() == 1  # 0 is the clean image


def test_latents_are_the_modes_of_the_posteriors(vae_folder):
    form = LatentFormat(factor=2, mean=(0.0,) * 4, std=(1.0,) * 4)
    space = LatentSpace(load_vae(vae_folder), form)
    encode = Encoder(space, VAEConfig(path=str(vae_folder)), seed=0)
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    mode = without_noise(encode)(images, [3, 4])
    assert torch.equal(mode, space.encode(images))
    assert not torch.equal(mode, encode(images, [3, 4]))


def test_means_are_over_the_bins_images():
    line = curve(40, [1.0, 2.0, 3.0, 4.0, 5.0], bins=2)
    assert line == {"images": 40, "loss": 3.0, "bins": [3.0, 3.0], "t": [0.0, 0.5, 1.0]}
    shown = tracked({**line, "fid": 7.5, "fid_images": 8, "extractor": "reader"})
    assert shown == {
        "validation/loss": 3.0,
        "validation/fid": 7.5,
        "validation/loss at t 0.00-0.50": 3.0,
        "validation/loss at t 0.50-1.00": 3.0,
    }


def folder_of(place: Path, **counts: int) -> Path:
    """Class folders with so many pictures."""
    for name, count in counts.items():
        (place / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (20, 16), (40 * number, 90, 10)).save(place / name / f"{number}.png")
    return place


def test_classes_of_another_folder_are_known_by_name(tmp_path):
    trained = folder_of(tmp_path / "train", cat=2, dog=2, newt=2)
    other = folder_of(tmp_path / "other", dog=3, newt=1)
    asked = config(
        data={"kind": "folder", "path": trained}, validation={"data": str(other), "bins": 2}
    )
    assert not list(asked.validation.misfits(asked.data))
    validation = opened(asked, names=("cat", "dog", "newt"))
    assert list(validation.labels) == [1, 2]
    assert validation.count == 4
    labels = [validation.labels[validation.data[n]["label"]] for n in range(4)]
    assert sorted(labels) == [1, 1, 1, 2]


def test_a_class_that_is_not_trained_on_is_refused(tmp_path):
    trained = folder_of(tmp_path / "train", cat=1, dog=1)
    other = folder_of(tmp_path / "other", cat=1, emu=1)
    asked = config(data={"kind": "folder", "path": trained}, validation={"data": str(other)})
    (problem,) = asked.validation.misfits(asked.data)
    assert problem.startswith("validation.data:")
    assert "'emu'" in problem
    assert "cat, dog" in problem
    with pytest.raises(UserError, match=r"validation\.data: .*'emu'"):
        known_labels(("cat", "emu"), ("cat", "dog"), null_label=2)
    assert known_labels(("cat", "emu"), ("cat", "dog"), null_label=0) == [0, 0]
    kept = config(
        data={"kind": "folder", "path": trained, "classes": ["cat"]},
        validation={"data": str(other)},
    )
    assert not list(kept.validation.misfits(kept.data))
    assert open_held_out(kept).class_names == ("cat",)


def test_flat_folders_are_one_class_whatever_their_names():
    assert known_labels(("photos-kept",), ("photos",), null_label=1) == [0]


def test_fewer_images_than_bins_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"validation\.bins: 11, .* 10 held-out images"):
        opened(
            config(
                data={"kind": "folder", "path": folder_of(tmp_path / "a", cat=1)},
                validation={"bins": 11, "data": str(folder_of(tmp_path / "b", cat=10))},
            )
        )


@pytest.mark.parametrize(
    ("data", "validation", "told"),
    [
        ({"kind": "folder", "path": "."}, {"every_images": 8}, "validation.data: folder holds"),
        ({"kind": "hub", "name": "a/b"}, {"every_images": 8}, "validation.data: hub holds"),
        ({"kind": "hub", "name": "a/b"}, {"data": "train"}, "validation.data: train is the split"),
        ({}, {"data": "elsewhere"}, "validation.data: elsewhere, but shapes"),
        ({"kind": "folder", "path": "."}, {"data": "gone"}, "validation.data: gone is no folder"),
        ({}, {"every_images": 8, "images": 4}, "validation.bins: 10, but validation.images 4"),
        (
            {"kind": "hub", "name": "a/b"},
            {"every_images": 0, "fid_every_images": 8},
            "validation.reference: hub holds",
        ),
        ({}, {"fid_every_images": 8, "reference": "gone"}, "validation.reference: gone is neither"),
        ({}, {"fid_every_images": 8, "reference": "gone.npz"}, "validation.reference: gone.npz"),
        (
            {},
            {"fid_every_images": 8, "fid_extractor": {"name": "reader", "resize": "pil_bicubic"}},
            "validation.fid_extractor.resize",
        ),
    ],
)
def test_mistakes_are_told_by_the_name_of_their_field(data, validation, told):
    sections = {"kind": "shapes", "size": "16x16", **data}
    asked = TrainConfig.model_validate({"data": sections, "validation": validation})
    problems = list(asked.validation.misfits(asked.data))
    assert len(problems) == 1
    assert problems[0].startswith(told)


def test_prepared_latents_measure_what_their_images_do(tmp_path, vae_folder):
    shown = pictures(tmp_path / "pictures", [(16, 16)] * 10)
    data = {"kind": "folder", "path": shown, "size": "16x16"}
    latents = made(tmp_path / "a", vae_folder, data=data, dtype="float32")
    model = {"patch_size": 2}
    form = LatentFormat(factor=2, mean=(0.1,) * 4, std=(0.9,) * 4)
    lines = []
    for section, place in ((data, shown), ({"kind": "latents", "path": latents}, latents)):
        asked = config(
            model=model,
            vae={"path": str(vae_folder)},
            validation={"data": str(place), "bins": 2},
        ).model_copy(update={"data": TrainConfig.model_validate({"data": section}).data})
        held_out = open_held_out(asked)
        dit = DiT.build(asked.model, num_classes=2, in_channels=4, sample_size=(8, 8))
        encode = Encoder(LatentSpace(load_vae(vae_folder), form), asked.vae, seed=0)
        objective = build_objective(asked, 2, CPU, encode)
        lines.append(
            measured(open_validation(asked, held_out, held_out.class_names, objective, dit, ALONE))
        )
    assert lines[0]["loss"] > 0.01
    assert lines[0]["bins"] == pytest.approx(lines[1]["bins"], rel=1e-5)


def test_latents_of_another_autoencoder_are_refused(tmp_path, vae_folder, make_vae):
    mine = made(tmp_path / "a", vae_folder)
    other = made(tmp_path / "b", make_vae(levels=3))
    asked = config(validation={"data": str(other)})
    problems = list(asked.validation.misfits(LatentsConfig(path=mine)))
    assert problems[0].startswith("validation.data:")
    assert "another VAE" in problems[0]
    for place, told in ((made(tmp_path / "c", vae_folder), []), (mine, ["is trained on"])):
        asked = config(validation={"data": str(place), "every_images": 8})
        problems = list(asked.validation.misfits(LatentsConfig(path=mine)))
        assert [any(word in problem for word in told) for problem in problems] == [True] * len(told)
    gone = list(
        config(validation={"data": str(tmp_path)}).validation.misfits(LatentsConfig(path=mine))
    )
    assert gone[0].startswith(f"validation.data: {tmp_path} holds no latents")


def test_another_split_of_a_dataset_is_read(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    kinds = datasets.ClassLabel(names=["cat", "dog"])
    columns = datasets.Features({"image": datasets.Image(), "label": kinds})
    for split, shade in (("train", 10), ("validation", 200)):
        plain = [Image.new("RGB", (16, 16), (shade, shade, shade))] * 6
        rows = {"image": plain, "label": [0, 1] * 3}
        place = tmp_path / "data" / f"{split}-00000.parquet"
        place.parent.mkdir(exist_ok=True)
        datasets.Dataset.from_dict(rows, features=columns).to_parquet(place)
    asked = config(
        data={"kind": "hub", "name": str(tmp_path / "data"), "streaming": True},
        validation={"data": "validation", "bins": 2},
    )
    assert not list(asked.validation.misfits(asked.data))
    validation = opened(asked, names=("cat", "dog"))
    assert validation.count == 6
    assert validation.data[0]["image"].mean() == pytest.approx(200 / 127.5 - 1)
