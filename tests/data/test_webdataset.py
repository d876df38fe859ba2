"""WebDataset tars as the ``datasets`` library reads them: columns, classes, streams."""

import io
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from diffgen.config.hub import HubConfig
from diffgen.config.latents import LatentsConfig
from diffgen.data.hub import HubStream
from diffgen.data.images import StoredImages
from diffgen.data.latents import Latents
from diffgen.data.order import TrainingData
from diffgen.data.source import build_images
from diffgen.errors import UserError
from tests.prepared import made

datasets = pytest.importorskip("datasets")


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


def write(path: Path, shades: range, kind: str = "png", labelled: bool = True, size=(8, 8)) -> Path:
    """A tar of plain images, of class shade // 10 mod 3; ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:

        def add(name: str, content: bytes) -> None:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))

        for shade in shades:
            buffer = io.BytesIO()
            format = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP"}[kind]
            Image.new("RGB", size, (shade, shade, shade)).save(buffer, format)
            add(f"{shade:05d}.{kind}", buffer.getvalue())
            if labelled:
                add(f"{shade:05d}.cls", str(4 + shade // 10 % 3).encode())
            add(f"{shade:05d}.json", b'{"width": 8}')
    return path


@pytest.fixture
def tars(tmp_path):
    for part, shades in enumerate([range(0, 60, 10), range(60, 100, 10)]):
        write(tmp_path / f"tars/part-{part}.tar", shades)
    return tmp_path / "tars"


def read(name: Path, **options) -> StoredImages:
    images = build_images(HubConfig(name=str(name), size="8x8", flip=False, **options))
    assert isinstance(images, StoredImages)
    return images


def shade(images, index: int) -> int:
    return round((images[index][0].mean().item() + 1) * 127.5)


def test_a_folder_of_tars_is_read_in_the_order_of_their_names(tars):
    images = read(tars)
    assert [shade(images, i) for i in range(len(images))] == list(range(0, 100, 10))
    assert images.class_names == ("4", "5", "6")
    assert [images[i][1] for i in range(10)] == [i % 3 for i in range(10)]
    assert images.size(0) == (8, 8)


@pytest.mark.parametrize("kind", ["jpg", "jpeg", "png", "webp"])
def test_the_column_of_images_is_the_one_there_is(tmp_path, kind):
    images = read(write(tmp_path / "one.tar", range(0, 50, 10), kind))
    assert [shade(images, i) for i in range(5)] == pytest.approx(list(range(0, 50, 10)), abs=2)
    assert images.labels == [0, 1, 2, 0, 1]


def test_without_classes_there_is_one(tmp_path):
    images = read(write(tmp_path / "birds.tar", range(5), labelled=False))
    assert images.class_names == ("birds",)
    assert images.labels == [0] * 5


def test_columns_that_are_named_go_first(tars):
    images = read(tars / "part-0.tar", label_column="__key__", image_column="png")
    assert images.class_names == tuple(f"{s:05d}" for s in range(0, 60, 10))
    with pytest.raises(UserError, match=r"data\.label_column: .* has no column 'kind'; it has png"):
        read(tars, label_column="kind")


def test_a_stream_of_tars_without_classes_is_trained_on(tmp_path):
    path = write(tmp_path / "part.tar", range(0, 80, 10), labelled=False)
    config = HubConfig(name=str(path), size="8x8", flip=False, streaming=True, shuffle_buffer=4)
    images = build_images(config)
    assert isinstance(images, HubStream)
    data = TrainingData(images, seed=0)
    seen = [round((data[n]["image"].mean().item() + 1) * 127.5) for n in range(8)]
    assert sorted(seen) == list(range(0, 80, 10))
    labelled = write(tmp_path / "labelled.tar", range(5))
    with pytest.raises(UserError, match="leave out data"):
        build_images(config.model_copy(update={"name": str(labelled)}))


def test_what_is_no_tar_and_one_that_is_not_there_are_refused(tmp_path):
    (tmp_path / "bad.tar").write_bytes(b"not a tar")
    cut = write(tmp_path / "cut.tar", range(0, 100, 10))
    cut.write_bytes(cut.read_bytes()[: 8 * 3 * 1024 + 512 + 10])  # within the ninth picture
    for name in ("bad.tar", "cut.tar"):
        with pytest.raises(UserError, match=rf"data\.name: .*{name} cannot be read: "):
            read(tmp_path / name)
    assert list(HubConfig(name="none.tar").problems()) == ["data.name: none.tar does not exist"]


def test_tars_are_prepared_of_one_size_and_of_mixed_ones(tars, vae_folder, tmp_path):
    write(tars / "part-2.tar", range(100, 130, 10), size=(12, 8))
    for crop, sizes in (("center", {(4, 4)}), ("none", {(4, 4), (4, 6)})):
        data = {"kind": "hub", "name": str(tars), "size": "8x12", "crop": crop, "flip": False}
        data |= {"size": "8x8"} if crop == "center" else {}
        found = Latents(LatentsConfig(path=made(tmp_path / crop, vae_folder, data)))
        assert {tuple(found[i][0].shape[1:]) for i in range(13)} == sizes
        assert [found[i][1] for i in range(13)] == [i % 3 for i in range(13)]
        assert found.class_names == ("4", "5", "6")
