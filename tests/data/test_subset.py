"""``data.subset`` of drawn data: which images are kept, of the training split alone."""

import numpy as np
import pytest
import torch

from diffgen.config.data import DigitsConfig, ShapesConfig
from diffgen.config.train import TrainConfig
from diffgen.data.digits import load
from diffgen.data.source import build_images
from diffgen.data.subset import kept
from diffgen.errors import UserError
from diffgen.training.run_folder import differences

KINDS = [ShapesConfig, DigitsConfig]


def same(first, second) -> bool:
    """Equal images and labels, in their order."""
    pairs = [(first[k], second[k]) for k in range(min(len(first), len(second)))]
    return bool(pairs) and all(torch.equal(a[0], b[0]) and a[1] == b[1] for a, b in pairs)


@pytest.mark.parametrize("kind", KINDS)
def test_it_keeps_start_to_stop_in_their_order(kind):
    every = build_images(kind(size="16x16"))
    few = build_images(kind(size="16x16", subset="10:13"))
    assert len(few) == 3
    assert same(few, [every[k] for k in (10, 11, 12)])
    assert few.class_names == every.class_names


@pytest.mark.parametrize(("kind", "count"), [(ShapesConfig, 1_000_000), (DigitsConfig, 1501)])
def test_either_end_may_be_left_out(kind, count):
    assert len(build_images(kind(subset=f"{count - 4}:"))) == 4
    assert len(build_images(kind(subset=":5"))) == 5
    assert kind(subset=" 3 :").subset == "3:"


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_held_out_is_always_all_there(kind):
    whole = build_images(kind(size="16x16"), "held_out")
    beside = build_images(kind(size="16x16", subset="1000:1002"), "held_out")
    assert len(beside) == len(whole)
    assert same(beside, [whole[k] for k in range(3)])


@pytest.mark.parametrize(
    ("kind", "subset", "count"),
    [(ShapesConfig, "0:1000001", "1,000,000"), (DigitsConfig, "1501:", "1,501")],
)
def test_beyond_the_split_is_refused(kind, subset, count):
    with pytest.raises(UserError, match=f"data.subset: {subset} reaches beyond the {count} images"):
        build_images(kind(subset=subset))


def test_augmented_pieces_are_those_of_the_subsets_scenes():
    few = build_images(ShapesConfig(size="16x16", crop="random", subset="7:9"))
    every = build_images(ShapesConfig(size="16x16", crop="random"))
    for place in (0, 1):
        found, wanted = (
            images.augmented(number, torch.Generator().manual_seed(5))
            for images, number in ((few, place), (every, 7 + place))
        )
        assert torch.equal(found[0], wanted[0])
        assert found[1:] == wanted[1:]


def test_the_slice_of_a_range():
    assert kept(9, None) == slice(0, 9)
    assert kept(9, "2:") == slice(2, 9)
    assert kept(9, ":9") == slice(0, 9)
    with pytest.raises(UserError, match="reaches beyond the 9 images"):
        kept(9, "0:10")


def test_a_run_of_before_there_were_subsets_goes_on_and_one_of_another_does_not():
    stored = TrainConfig().model_dump(mode="json")
    del stored["data"]["subset"]
    earlier = TrainConfig.model_validate(stored)
    assert list(differences(earlier, TrainConfig())) == []
    now = TrainConfig(data={"subset": "0:64"})
    assert list(differences(earlier, now)) == ["data.subset: None there, 0:64 here"]


def apart(first, second) -> float:
    """Squared distance between the mean images of two sets of digits."""
    images = load()[0].astype(float)
    return float(((images[first].mean(0) - images[second].mean(0)) ** 2).sum())


def test_shuffled_halves_of_digits_differ_as_random_halves_do_and_those_of_the_file_more():
    """The file is in the order of its writers: a half of it has hands that the other lacks."""
    halves = ["0:750", "750:1500"]
    every, rng = build_images(DigitsConfig()).indices, np.random.default_rng(0)
    random = sorted(apart(*rng.permutation(every)[:1500].reshape(2, 750)) for _ in range(400))
    as_they_lie = [build_images(DigitsConfig(subset=half)).indices for half in halves]
    assert apart(*as_they_lie) > 1.5 * random[-1]
    for seed in range(5):
        chosen = [build_images(DigitsConfig(subset=h, subset_seed=seed)).indices for h in halves]
        assert len({*chosen[0], *chosen[1]}) == 1500
        assert apart(*chosen) < random[int(0.99 * len(random))]


def test_digits_are_shuffled_by_the_seed_and_a_seed_alone_is_refused():
    first, same, other = (
        build_images(DigitsConfig(subset=":50", subset_seed=seed)).indices.tolist()
        for seed in (1, 1, 2)
    )
    assert first == same == sorted(first)
    assert first != other
    assert list(DigitsConfig(subset_seed=1).problems()) == [
        "data.subset_seed: changes nothing without data.subset, for example :1000"
    ]
