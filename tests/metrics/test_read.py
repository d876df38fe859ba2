"""One pass over a set of images, in shards that a second pass takes as they are."""

import pytest
import torch
from safetensors.torch import load_file

from diffgen.data.pixels import to_uint8
from diffgen.data.shapes import CLASS_NAMES, Shapes
from diffgen.errors import UserError
from diffgen.metrics import load_extractor
from diffgen.metrics.colour import colour_measures
from diffgen.metrics.read import Reading, read
from diffgen.metrics.shards import MOST, Shards

COUNT, BATCH = 11, 2


@pytest.fixture(scope="module")
def items():
    shapes = Shapes(16, 16, "held_out")
    pictures, labels = zip(*(shapes[i] for i in range(COUNT)), strict=True)
    return to_uint8(torch.stack(pictures)), torch.tensor(labels)


@pytest.fixture(scope="module")
def reader():
    return load_extractor()


class Source:
    """Gives the batches asked for and counts them."""

    def __init__(self, items):
        self.pictures, self.labels = items
        self.drawn: list[range] = []

    def __call__(self, batches):
        for numbers in batches:
            self.drawn.append(numbers)
            rows = list(numbers)
            yield rows, self.pictures[rows], self.labels[rows]


def test_a_reading_has_every_layer_in_the_order_of_the_images(items, reader, tmp_path):
    pictures, labels = items
    shards = Shards(tmp_path, COUNT, 4)
    two = {"reader": reader, "again": reader}
    found = read(two, Source(items), shards, BATCH, class_names=CLASS_NAMES, keep=5)
    assert found.count == COUNT
    assert torch.equal(found.labels, labels)
    assert torch.equal(found.pictures, pictures[:5])
    torch.testing.assert_close(found.colour, colour_measures(pictures))
    seen = reader.outputs(pictures)
    for title in two:
        assert found.layers[title].keys() == {"features", "logits"}
        for layer, values in found.layers[title].items():
            torch.testing.assert_close(values, seen[layer], rtol=1e-5, atol=1e-5)
    right = (seen["logits"].argmax(1) == labels).sum()
    assert found.correct("reader", reader) == right >= COUNT - 3
    assert sum(found.label_counts().values()) == COUNT


def test_classes_of_one_name_are_counted_together():
    """As WordNet has two cranes, a bird and a machine."""
    labels = torch.tensor([2, 0, 1, 2, -1, 3, 0, 5])
    names = ("crane", "kite", "crane", "")
    reading = Reading({}, labels, names, torch.zeros(8, 4), torch.zeros(0, 3, 1, 1).byte())
    assert reading.label_counts() == {
        **{"unlabelled": 1, "crane": 4, "kite": 1},
        **{"label 3": 1, "label 5": 1},
    }


def test_shards_that_are_there_are_neither_drawn_nor_touched(items, reader, tmp_path):
    shards = Shards(tmp_path, COUNT, 4)
    first = read({"reader": reader}, Source(items), shards, BATCH)
    files = {rows: shards.file(rows) for rows in shards.ranges}
    assert [file.name for file in files.values()] == [
        "00000000-00000003.safetensors",
        "00000004-00000007.safetensors",
        "00000008-00000010.safetensors",
    ]
    middle = files[range(4, 8)]
    middle.write_bytes(middle.read_bytes()[:-99])  # as no kill leaves it, but a full disk may
    before = {rows: files[rows].stat().st_mtime_ns for rows in (range(4), range(8, 11))}
    again = Source(items)
    second = read({"reader": reader}, again, shards, BATCH)
    assert again.drawn == [range(4, 6), range(6, 8)]
    assert {rows: files[rows].stat().st_mtime_ns for rows in before} == before
    assert torch.equal(second.layers["reader"]["features"], first.layers["reader"]["features"])
    assert load_file(middle)["labels"].tolist() == items[1][4:8].tolist()


def test_an_image_left_out_or_given_twice_is_found(items, reader, tmp_path):
    source = Source(items)

    def short(batches):
        return source(batches[1:])

    def twice(batches):
        return source([*batches, batches[0]])

    for wrong in (short, twice):
        with pytest.raises(RuntimeError, match="were to be drawn"):
            read({"reader": reader}, wrong, Shards(tmp_path, COUNT, 4), BATCH)
    assert list(tmp_path.glob("*.safetensors")) == []


def test_a_shard_another_process_has_elsewhere_is_missed(tmp_path):
    with pytest.raises(UserError, match="several processes need a folder that all of them see"):
        Shards(tmp_path, 4, 4).load("labels")


SIZES = [(512, 64), (50_000, 64), (50_000, 1), (7, 8), (101, 1)]


@pytest.mark.parametrize(("count", "batch"), SIZES)
def test_shards_hold_whole_batches_and_are_not_too_many(tmp_path, count, batch):
    shards = Shards.of_batches(tmp_path, count, batch)
    assert len(shards.ranges) <= MOST
    assert shards.size % batch == 0
    assert sum(map(len, shards.ranges)) == count
