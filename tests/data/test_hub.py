"""Datasets of the ``datasets`` library from local files: columns, classes, streams, refusals."""

import importlib.util
import io
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from diffgen.config.hub import HubConfig
from diffgen.data.hub import Hub, HubStream
from diffgen.data.loader import load_batches
from diffgen.data.order import BatchNumbers, TrainingData
from diffgen.data.source import build_images
from diffgen.errors import UserError

datasets = pytest.importorskip("datasets")

NAMES = ["cat", "dog", "newt"]


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory):
    """Quiet, offline, and without a trace outside the test's folder."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
        patch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
        datasets.disable_progress_bars()
        yield
        datasets.enable_progress_bars()


def png(shade: int) -> dict:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, shade, shade)).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def features(**more):
    return datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES), **more}
    )


def write(path, shades, features=features(), **columns):  # noqa: B008
    """A parquet file whose image i is plain, of shade ``shades[i]``; None: not readable."""
    images = [{"bytes": b"spoilt", "path": None} if s is None else png(s) for s in shades]
    rows = {"image": images, "label": [i % 3 for i in range(len(shades))], **columns}
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {name: rows[name] for name in features}
    datasets.Dataset.from_dict(kept, features=features).to_parquet(path)
    return path


@pytest.fixture(scope="module")
def parquet(tmp_path_factory):
    """23 rows in three files, of shades 0, 10, ... in their order."""
    folder = tmp_path_factory.mktemp("animals")
    for part, (start, stop) in enumerate([(0, 9), (9, 18), (18, 23)]):
        write(folder / f"part-{part}.parquet", [10 * i for i in range(start, stop)])
    return folder


def config(name, **options):
    return HubConfig(name=str(name), size="8x8", flip=False, **options)


def shade(image: torch.Tensor) -> int:
    levels = np.unique(((image + 1) * 127.5).round().numpy())
    assert len(levels) == 1
    return int(levels[0])


def shades_of(batches) -> list[int]:
    return [shade(image) for batch in batches for image in batch["image"]]


def batches(images, start=0, stop=48, workers=0, rank=0, world=1, seed=0):
    numbers = BatchNumbers(start, stop, 8, rank=rank, world=world)
    return list(load_batches(TrainingData(images, seed), numbers, workers, pin_memory=False))


class TestOnDisk:
    def test_a_folder_of_parquet_files(self, parquet):
        images = build_images(config(parquet))
        assert images.class_names == ("cat", "dog", "newt")
        assert [shade(images[i][0]) for i in range(len(images))] == list(range(0, 230, 10))
        # Classes in turn inside each file.
        expected = [i % 3 for length in (9, 9, 5) for i in range(length)]
        assert [images[i][1] for i in range(len(images))] == expected
        assert images[0][0].shape == (3, 8, 8)

    def test_a_parquet_file(self, parquet):
        images = Hub(config(parquet / "part-1.parquet"))
        assert [shade(images[i][0]) for i in range(len(images))] == list(range(90, 180, 10))

    def test_a_folder_of_images(self, tmp_path):
        for name, level in (("newt", 30), ("cat", 10)):
            (tmp_path / name).mkdir()
            Image.new("RGB", (8, 8), (level,) * 3).save(tmp_path / name / "a.png")
        images = Hub(config(tmp_path))
        assert images.class_names == ("cat", "newt")
        assert [(shade(image), label) for image, label in (images[0], images[1])] == [
            (10, 0),
            (30, 1),
        ]

    def test_a_slice_of_a_split(self, parquet):
        assert len(Hub(config(parquet, split="train[:5]"))) == 5

    def test_images_are_read_like_those_of_a_folder(self, tmp_path):
        """The hard cases are tested there; here, that the background is passed on."""
        buffer = io.BytesIO()
        Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(buffer, "PNG")
        rows = {"image": [{"bytes": buffer.getvalue(), "path": None}], "label": [0]}
        path = tmp_path / "a.parquet"
        datasets.Dataset.from_dict(rows, features=features()).to_parquet(path)
        images = Hub(config(path, background="#404040"))
        assert shade(images[0][0]) == 0x40

    def test_training_order_and_augmentation_are_functions_of_the_number(self, parquet):
        images = Hub(config(parquet))
        data = TrainingData(images, 3)
        assert sorted(shade(data[n]["image"]) for n in range(23)) == list(range(0, 230, 10))


class TestColumns:
    def test_plain_values_become_sorted_classes(self, tmp_path):
        more = {"animal": datasets.Value("string"), "year": datasets.Value("int64")}
        write(
            tmp_path / "a.parquet",
            [0, 10, 20],
            features(**more),
            animal=["newt", "cat", "newt"],
            year=[2001, 1999, 300],
        )
        images = Hub(config(tmp_path / "a.parquet", label_column="animal"))
        assert (images.class_names, images.labels) == (("cat", "newt"), [1, 0, 1])
        images = Hub(config(tmp_path / "a.parquet", label_column="year"))
        assert (images.class_names, images.labels) == (("300", "1999", "2001"), [2, 1, 0])

    def test_without_a_class_column_there_is_one_class(self, tmp_path):
        only = datasets.Features({"image": datasets.Image()})
        images = Hub(config(write(tmp_path / "birds.parquet", [0, 10], only)))
        assert (images.class_names, list(images.labels)) == (("birds",), [0, 0])

    def test_stored_content_without_the_image_type_must_be_named(self, tmp_path):
        """As other programs write parquet: a struct, or the bytes alone."""
        struct = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
        kinds = {"struct": struct, "raw": datasets.Value("binary")}
        rows = {"struct": [png(70)], "raw": [png(90)["bytes"]]}
        path = tmp_path / "a.parquet"
        datasets.Dataset.from_dict(rows, datasets.Features(kinds)).to_parquet(path)
        with pytest.raises(UserError, match=r"data\.image_column: name the column of images"):
            Hub(config(path))
        assert shade(Hub(config(path, image_column="struct"))[0][0]) == 70
        assert shade(Hub(config(path, image_column="raw"))[0][0]) == 90

    @pytest.mark.parametrize("streaming", [False, True])
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"image_column": "picture"}, "data.image_column: .* has no column 'picture'; it has "),
            ({"label_column": "kind"}, "data.label_column: .* has no column 'kind'; it has "),
            ({"image_column": "label"}, "data.image_column: label holds no images; there are "),
            ({"label_column": "weight"}, "data.label_column: weight holds no classes; there are "),
        ],
    )
    def test_a_column_that_is_missing_or_wrong_is_refused_with_those_there(
        self, tmp_path, options, said, streaming
    ):
        more = features(weight=datasets.Value("float32"))
        path = write(tmp_path / "a.parquet", [0, 10], more, weight=[0.5, 1.5])
        with pytest.raises(UserError, match=said) as caught:
            build_images(config(path, streaming=streaming, **options))
        assert "image (Image), label (ClassLabel), weight (float32)" in str(caught.value)

    def test_several_of_a_type_must_be_named(self, tmp_path):
        more = features(other=datasets.Image())
        path = write(tmp_path / "a.parquet", [0, 10], more, other=[png(50), png(60)])
        with pytest.raises(UserError, match=r"data\.image_column: name one of image, other"):
            Hub(config(path))
        assert shade(Hub(config(path, image_column="other"))[1][0]) == 60

    @pytest.mark.parametrize("value", [None, -1])
    def test_a_row_without_a_class_is_refused(self, tmp_path, value):
        path = write(tmp_path / "a.parquet", [0, 10, 20], label=[0, value, 1])
        with pytest.raises(UserError, match=f"row 1 has the label {value}, which is no class"):
            Hub(config(path))
        stream = build_images(config(path, streaming=True))
        with pytest.raises(UserError, match=f"row 1 has the label {value}, which is no class"):
            [stream[i] for i in range(3)]


class TestStream:
    def stream(self, parquet, **options):
        return HubStream(config(parquet, streaming=True, shuffle_buffer=10, **options))

    def test_it_has_the_classes_and_images_of_the_dataset(self, parquet):
        stream, whole = self.stream(parquet), Hub(config(parquet))
        assert stream.class_names == whole.class_names
        for i in (0, 5, 14, 22, 3):
            assert torch.equal(stream[i][0], whole[i][0])
            assert stream[i][1] == whole[i][1]

    def test_an_epoch_shows_every_image_once_in_shuffled_blocks(self, parquet):
        data = TrainingData(self.stream(parquet), 0)
        for epoch in range(2):
            shown = [shade(data[23 * epoch + n]["image"]) // 10 for n in range(23)]
            assert shown != sorted(shown)
            assert sorted(shown[:10]) == list(range(10))
            assert sorted(shown[10:20]) == list(range(10, 20))
            assert sorted(shown[20:]) == list(range(20, 23))

    def test_resuming_goes_on_exactly(self, parquet):
        whole = batches(self.stream(parquet))
        for start in (8, 16, 40):
            rest = batches(self.stream(parquet), start=start)
            assert shades_of(rest) == shades_of(whole)[start:]

    def test_workers_take_their_own_numbers(self, parquet):
        """Three files and two workers: torch's workers would be given files of their own."""
        alone, beside = batches(self.stream(parquet)), batches(self.stream(parquet), workers=2)
        assert shades_of(beside) == shades_of(alone)
        inherited = self.stream(parquet)
        inherited[0]  # the main process has it open
        assert shades_of(batches(inherited, workers=2)) == shades_of(alone)
        sent = pickle.loads(pickle.dumps(inherited))  # as to workers that are not forked
        assert shades_of(batches(sent)) == shades_of(alone)

    def test_processes_take_their_own_numbers(self, parquet):
        alone = batches(self.stream(parquet))
        ranks = [batches(self.stream(parquet), rank=rank, world=2) for rank in (0, 1)]
        for whole, first, second in zip(alone, *ranks, strict=True):
            assert torch.equal(whole["image"], torch.cat([first["image"], second["image"]]))
            assert torch.equal(whole["label"], torch.cat([first["label"], second["label"]]))

    def test_crops_are_functions_of_the_number(self, parquet, tmp_path):
        rng = np.random.default_rng(0)
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).save(buffer, "PNG")
        rows = {"image": [{"bytes": buffer.getvalue(), "path": None}] * 4, "label": [0] * 4}
        path = tmp_path / "a.parquet"
        datasets.Dataset.from_dict(rows, features=features()).to_parquet(path)
        options = {"name": str(path), "size": "8x8", "crop": "random", "streaming": True}
        first, again = (batches(HubStream(HubConfig(**options))) for _ in range(2))
        distinct = {image.numpy().tobytes() for batch in first for image in batch["image"]}
        assert len(distinct) == 48
        assert torch.equal(first[3]["image"], again[3]["image"])

    def test_classes_by_value_are_refused(self, tmp_path):
        more = features(animal=datasets.Value("string"))
        path = write(tmp_path / "a.parquet", [0, 10], more, animal=["b", "a"])
        with pytest.raises(UserError, match=r"leave out data\.streaming"):
            HubStream(config(path, streaming=True, label_column="animal"))


class TestDamage:
    @pytest.mark.parametrize("streaming", [False, True])
    def test_it_stops_the_run_or_another_stands_in(self, tmp_path, streaming, capfd):
        path = write(tmp_path / "a.parquet", [0, None, 20, 30])
        with pytest.raises(UserError, match=r"a\.parquet, row 1 is not a readable image: no known"):
            batches(build_images(config(path, streaming=streaming)))
        images = build_images(config(path, streaming=streaming, on_error="skip"))
        shown = [shade(TrainingData(images, 0)[n]["image"]) for n in range(4)]
        assert sorted(shown) == [0, 20, 20, 30]
        capfd.readouterr()
        batches(images, workers=1)
        lines = capfd.readouterr().err.splitlines()
        assert [line.split(" is not")[0].rsplit("/")[-1] for line in lines] == ["a.parquet, row 1"]


class TestRefused:
    def test_what_is_not_there(self, tmp_path):
        for name in (tmp_path / "none.parquet", "./nothing", "none.parquet"):
            said = list(HubConfig(name=str(name)).problems())
            assert said == [f"data.name: {name} does not exist"]
        with pytest.raises(UserError, match=r"data\.name: nobody/nothing cannot be read: "):
            Hub(config("nobody/nothing"))

    @pytest.mark.parametrize("streaming", [False, True])
    def test_unknown_splits_configurations_and_files(self, parquet, tmp_path, streaming):
        (tmp_path / "empty").mkdir()
        broken = tmp_path / "broken.parquet"
        broken.write_bytes(b"no parquet")
        for options, said in (
            ({"name": parquet, "split": "test"}, "split"),
            ({"name": parquet, "configuration": "small"}, "'small' not found"),
            ({"name": tmp_path / "empty"}, "doesn't contain any data files"),
            ({"name": broken}, "broken.parquet cannot be read"),
        ):
            with pytest.raises(UserError, match=r"data\.name") as caught:
                build_images(config(**options, streaming=streaming))
            assert said in str(caught.value)
            assert len(str(caught.value).splitlines()) == 1

    def test_no_rows(self, tmp_path):
        with pytest.raises(UserError, match="no data"):
            Hub(config(write(tmp_path / "a.parquet", [])))
        with pytest.raises(UserError, match="holds no rows"):
            batches(HubStream(config(tmp_path / "a.parquet", streaming=True)))

    def test_a_slice_of_a_stream(self):
        said = list(HubConfig(name="a/b", split="train[:5]", streaming=True).problems())
        assert said == ["data.split: train[:5] is a slice; a stream is read whole"]

    def test_without_the_library_the_extra_is_named(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "datasets", None)
        with pytest.raises(UserError, match=r"pip install 'diffgen\[hub\]'"):
            Hub(config("a/b"))
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        monkeypatch.setattr("diffgen.config.hub.find_spec", importlib.util.find_spec)
        assert "pip install 'diffgen[hub]'" in next(HubConfig(name="a/b").problems())
