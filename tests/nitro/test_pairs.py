"""The teacher's images: noise that is known, files that are drawn once, each alone if need be."""

import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from diffgen.data.loader import load_batches
from diffgen.data.order import BatchNumbers, TrainingData
from diffgen.errors import UserError
from diffgen.metrics.shards import Shards
from diffgen.nitro.pairs import PairData, Pairs, make_pairs, pair_seed
from tests.tiny import NAMES, build

COUNT, SIZE, SEED = 10, 4, pair_seed(0)


@pytest.fixture(scope="module")
def pipe():
    return build(prediction="x0")


@pytest.fixture
def drawn(pipe):
    """Draws with the teacher in three guided steps; ``drawn.asked`` are the numbers of images."""

    def draw(numbers: list[int], labels: torch.Tensor) -> torch.Tensor:
        draw.asked += numbers
        options = {"num_inference_steps": 3, "output_type": "latent", "guidance_scale": 1.5}
        return pipe(labels, seed=SEED, image_numbers=numbers, **options).images

    draw.asked = []
    return draw


def empty(folder) -> Pairs:
    return Pairs(Shards(folder, COUNT, SIZE), tuple(NAMES), 3, SEED)


@pytest.fixture
def pairs(tmp_path, drawn) -> Pairs:
    made = empty(tmp_path)
    for numbers in made.shards.missing():
        make_pairs(made, numbers, drawn, batch_size=2 * SIZE)
    return made


def again(pipe, pairs: Pairs, numbers: list[int]) -> torch.Tensor:
    """The teacher's images from the noise that the pairs tell."""
    noise = torch.stack([pairs.noise(k, pairs[k][0].shape) for k in numbers])
    labels = [pairs.label(k) for k in numbers]
    options = {"num_inference_steps": 3, "output_type": "latent", "guidance_scale": 1.5}
    return pipe(labels, latents=noise, **options).images


def test_the_noise_of_a_pair_is_what_its_image_was_drawn_from(pipe, pairs):
    """Bit for bit at the batch it was drawn in, alone up to rounding."""
    for numbers in ([0, 1, 2, 3], [4, 5, 6, 7], [8, 9]):
        stored = torch.stack([pairs[k][0] for k in numbers])
        assert torch.equal(again(pipe, pairs, numbers), stored)
    for k in (1, 9):
        assert (again(pipe, pairs, [k])[0] - pairs[k][0]).abs().max() < 1e-4
    other = again(pipe, pairs, [2, 1, 0, 3])
    assert (other[0] - pairs[0][0]).abs().max() > 1e-2


def test_the_classes_come_in_turn_and_a_model_without_any_has_the_null_class(pairs):
    assert [pairs[k][1] for k in range(COUNT)] == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    plain = Pairs(pairs.shards, (), 0, SEED)
    assert [plain.label(k) for k in range(3)] == [0, 0, 0]


def test_a_missing_or_damaged_file_alone_is_drawn_again(pairs, drawn):
    files = [pairs.shards.file(rows) for rows in pairs.shards.ranges]
    assert drawn.asked == list(range(COUNT))
    before = [(load_file(file), file.stat().st_mtime_ns) for file in files]
    for damage in (files[1].unlink, lambda: files[1].write_bytes(files[1].read_bytes()[:200])):
        damage()
        drawn.asked.clear()
        fresh = empty(pairs.shards.folder)
        assert fresh.shards.missing() == [range(4, 8)]
        make_pairs(fresh, range(4, 8), drawn, SIZE)
        assert drawn.asked == [4, 5, 6, 7]
        for file, (tensors, time) in zip(files, before, strict=True):
            assert all(torch.equal(v, tensors[name]) for name, v in load_file(file).items())
            assert file == files[1] or file.stat().st_mtime_ns == time


def test_files_hold_x0_labels_and_a_checksum(pairs):
    stored = load_file(pairs.shards.file(range(8, 10)))
    assert {name: tuple(v.shape) for name, v in stored.items()} == {
        **{"x0": (2, 3, 8, 8), "labels": (2,), "checksum": ()}
    }
    assert stored["x0"].dtype == torch.float32
    assert stored["labels"].tolist() == [2, 0]


def test_the_first_pairs_are_stacked_and_no_more_than_there_are(pairs):
    x0, labels = pairs.first(5)
    assert torch.equal(x0[4], pairs[4][0])
    assert labels.tolist() == [0, 1, 2, 0, 1]
    assert len(pairs.first(99)[0]) == len(pairs) == COUNT


def test_pairs_can_be_sent_to_another_process(pairs):
    first = pairs[0][0]
    assert torch.equal(pickle.loads(pickle.dumps(pairs))[0][0], first)


def test_no_image_that_is_drawn_with_a_seed_of_its_own_has_a_pairs_noise():
    seeds = {pair_seed(seed) for seed in range(100)}
    assert len(seeds) == 100
    assert min(seeds) >= 2**32  # those of commands are below


class TestPairData:
    def test_samples_are_those_of_any_training_with_their_noise(self, pairs):
        data, plain = PairData(pairs, seed=3), TrainingData(pairs, 3)
        for number in (0, 7, 25):
            sample, expected = data[number], plain[number]
            index = data.order.index(number)
            assert torch.equal(sample["image"], expected["image"])
            assert torch.equal(sample["image"], pairs[index][0])
            assert torch.equal(sample["noise"], pairs.noise(index, sample["image"].shape))
            assert sample["label"] == index % 3

    @pytest.mark.parametrize("workers", [0, 2])
    def test_batches_hold_every_pair_once_an_epoch(self, pairs, workers):
        batches = load_batches(PairData(pairs, 3), BatchNumbers(0, COUNT, 5), workers, False)
        found = torch.cat([batch["image"] for batch in batches])
        expected = torch.stack([pairs[k][0] for k in range(COUNT)])
        assert {x.sum().item() for x in found} == {x.sum().item() for x in expected}


def test_pairs_that_were_changed_on_the_disk_are_refused(tmp_path):
    pairs = Pairs(Shards(tmp_path, 8, 4), (), 2, seed=0)
    for numbers in pairs.shards.ranges:
        make_pairs(pairs, numbers, lambda chosen, y: torch.randn(len(chosen), 3, 4, 4), 4)
    file = pairs.shards.file(pairs.shards.ranges[1])
    stored = load_file(file)
    stored["x0"][2, 1] += 1
    save_file(stored, file)
    pairs[3]
    with pytest.raises(UserError, match=r"damaged; remove it"):
        pairs[4]
