"""Which files are trained on: class lists, file lists, subsets, and what is left out aloud."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from diffgen.config.data import FolderConfig
from diffgen.data.listing import list_images
from diffgen.data.subset import subset_indices
from diffgen.errors import UserError


def fill(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)


def names_of(folder, **options):
    found = list_images(FolderConfig(path=folder, **options))
    return [path.relative_to(folder).as_posix() for path in found.files], found


@pytest.fixture
def zoo(tmp_path):
    fill(tmp_path, *(f"{animal}/{i}.png" for animal in ("cat", "dog", "newt") for i in range(3)))
    return tmp_path


class TestClasses:
    def test_those_named_are_kept_in_that_order(self, zoo):
        names, found = names_of(zoo, classes=["newt", "cat"])
        assert found.class_names == ("newt", "cat")
        assert names == [f"{animal}/{i}.png" for animal in ("cat", "newt") for i in range(3)]
        assert found.labels == [1, 1, 1, 0, 0, 0]

    def test_unknown_ones_are_refused_with_those_there(self, zoo):
        said = list(FolderConfig(path=zoo, classes=["cow", "cat"]).problems())
        assert said == [f"data.classes: 'cow' is no folder in {zoo}; it has cat, dog, newt"]

    def test_of_a_flat_folder_there_are_none(self, zoo):
        config = FolderConfig(path=zoo / "cat", classes=["cow"])
        assert "it has none" in next(config.problems())
        with pytest.raises(UserError, match="names no class folders"):
            list_images(config)

    def test_one_named_twice_is_refused(self, zoo):
        with pytest.raises(ValueError, match="every class once"):
            FolderConfig(path=zoo, classes=["cat", "cat"])

    def test_a_folder_without_images_is_told(self, zoo):
        (zoo / "owl").mkdir()
        _, found = names_of(zoo)
        assert found.class_names == ("cat", "dog", "newt")
        assert found.empty_classes == ("owl",)

    def test_one_whose_images_are_all_damaged_is_told(self, zoo):
        for path in (zoo / "dog").iterdir():
            path.write_bytes(b"")
        _, found = names_of(zoo, on_error="skip")
        assert found.class_names == ("cat", "newt")
        assert found.labels == [0, 0, 0, 1, 1, 1]
        assert found.empty_classes == ("dog",)
        assert len(found.skipped) == 3

    def test_one_that_was_named_must_not_be_empty(self, zoo):
        for path in (zoo / "dog").iterdir():
            path.write_bytes(b"")
        with pytest.raises(UserError, match=r"data\.classes: no image of dog is left"):
            names_of(zoo, on_error="skip", classes=["dog", "cat"])


class TestFiles:
    def test_the_list_gives_images_and_their_order(self, zoo):
        text = zoo.parent / "list.txt"
        text.write_text("newt/2.png\n\ncat/0.png\r\n  cat/2.png  \n")
        names, found = names_of(zoo, files=text)
        assert names == ["newt/2.png", "cat/0.png", "cat/2.png"]
        assert found.class_names == ("cat", "newt")
        assert found.labels == [1, 0, 0]
        assert found.empty_classes == ()

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ("cat/9.png\n", "9.png: no such file"),
            ("cat/1.png\ncat/1.png\n", r"list\.txt:2: cat/1\.png is in line 1 too"),
            ("/etc/passwd\n", r"list\.txt:1: /etc/passwd is no path below"),
            ("cat/1.png\n../x.png\n", r"list\.txt:2: \.\./x\.png is no path below"),
            ("\n\n", r"list\.txt holds no images"),
        ],
    )
    def test_a_bad_list_is_refused(self, zoo, content, said):
        text = zoo.parent / "list.txt"
        text.write_text(content)
        with pytest.raises(UserError, match=said):
            names_of(zoo, files=text)

    def test_one_that_is_no_text_is_refused(self, zoo):
        text = zoo.parent / "list.txt"
        text.write_bytes(b"\xff\xfe\x00")
        with pytest.raises(UserError, match=r"data\.files: .* cannot be read"):
            names_of(zoo, files=text)

    def test_one_that_is_missing_is_refused(self, zoo):
        said = list(FolderConfig(path=zoo, files=zoo / "none.txt").problems())
        assert said == [f"data.files: {zoo / 'none.txt'} is not a file"]


class TestSubset:
    def test_a_range_of_the_list(self, zoo):
        names, found = names_of(zoo, subset="2:5")
        assert names == ["cat/2.png", "dog/0.png", "dog/1.png"]
        assert found.class_names == ("cat", "dog")
        assert found.empty_classes == ("newt",)
        assert names_of(zoo, subset="7:")[0] == ["newt/1.png", "newt/2.png"]
        assert names_of(zoo, subset=":1")[0] == ["cat/0.png"]

    @settings(max_examples=40, deadline=None)
    @given(st.integers(2, 50), st.data(), st.integers(0, 99))
    def test_by_seed_the_two_sides_of_a_cut_share_out_the_list(self, count, data, seed):
        cut = data.draw(st.integers(1, count - 1))
        first = subset_indices(count, f":{cut}", seed)
        rest = subset_indices(count, f"{cut}:", seed)
        assert len(first) == cut
        assert first == sorted(first)
        assert sorted(first + rest) == list(range(count))

    def test_seeds_differ(self):
        assert len({tuple(subset_indices(100, ":10", seed)) for seed in range(5)}) == 5

    def test_only_its_own_files_are_looked_at(self, zoo):
        (zoo / "cat/0.png").write_bytes(b"")
        assert len(names_of(zoo, subset="1:")[0]) == 8
        with pytest.raises(UserError, match="1 of 4 images cannot be read"):
            names_of(zoo, subset=":4")

    @pytest.mark.parametrize("text", ["5", "a:b", "3:3", "5:2", "-1:4", "1:2:3", ""])
    def test_what_is_no_range_is_refused(self, zoo, text):
        with pytest.raises(ValueError, match=r"START:STOP|beyond the start"):
            FolderConfig(path=zoo, subset=text)

    @pytest.mark.parametrize("text", ["0:10", "9:", "100:200"])
    def test_beyond_the_end_is_refused(self, zoo, text):
        with pytest.raises(UserError, match=f"data.subset: {text} reaches beyond the 9 images"):
            names_of(zoo, subset=text)

    def test_a_seed_alone_is_refused(self, zoo):
        said = list(FolderConfig(path=zoo, subset_seed=1).problems())
        assert said == ["data.subset_seed: changes nothing without data.subset, for example :1000"]


def test_nothing_left_is_refused(zoo):
    for path in zoo.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"no image that can be read(.|\n)*cat/0\.png: no known"):
        names_of(zoo, on_error="skip")


def test_a_refusal_names_twenty_and_counts_the_rest(tmp_path):
    fill(tmp_path, *(f"{i:02}.png" for i in range(30)))
    for path in list(tmp_path.iterdir())[:25]:
        path.write_bytes(b"")
    with pytest.raises(UserError) as caught:
        names_of(tmp_path)
    lines = str(caught.value).splitlines()
    assert "25 of 30 images" in lines[0]
    assert len(lines) == 22
    assert lines[-1] == "  ... and 5 more"
