"""eval/evaluate.py --report: the page holds everything, needs nothing beside it, and is safe."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import pytest
import timm
import torch
import yaml
from PIL import Image

from diffgen import DiffGenPipeline, DiT
from diffgen.cli import launch
from diffgen.data.pixels import from_pil, to_pil, to_uint8
from diffgen.data.shapes import CLASS_NAMES, Shapes
from diffgen.metrics import load_extractor
from diffgen.metrics.shown import NAMES, shown
from diffgen.page.document import document
from diffgen.page.markdown import escaped, markdown
from diffgen.page.pictures import picture
from diffgen.page.words import flat, told
from diffgen.sampling.schedulers import build_scheduler

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

COUNT = 80  # above the reader's 64 features, so that there is an FID at infinity
WICKED = "<script>alert('x')&amp;|_a_"
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """What a page shows, and what it refers to."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.images: list[dict[str, str]] = []
        self.references: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        named = dict(attrs)
        self.references += [value for key, value in attrs if key.split(":")[-1] in REFERRING]
        for value in named.values():
            self.references += re.findall(r"url\(\s*['\"]?([^)'\"]*)", value or "")
        if tag == "img":
            self.images.append(named)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("th", "td"):
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self.open and self.open[-1] in ("th", "td"):
            self.tables[-1][-1][-1] += data
        if self.open and self.open[-1] == "style":
            self.references += re.findall(r"@import|url\([^)]*\)", data)

    @property
    def rows(self) -> list[list[str]]:
        return [row for table in self.tables for row in table]


REFERRING = ("src", "href", "srcset", "action", "data", "poster", "background")


def pixels(image: dict[str, str]) -> torch.Tensor:
    """(3, H, W) of a picture in a page."""
    kind, data = image["src"].split(",")
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as opened:
        return from_pil(opened)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """A tiny model scored through two networks: its folder, the JSON, the page's text."""
    folder = tmp_path_factory.mktemp("report")
    torch.manual_seed(0)
    model = DiT(
        sample_size=(16, 24), patch_size=4, hidden_size=32, depth=1, num_heads=2, num_classes=8
    )
    pipe = DiffGenPipeline(model, build_scheduler("euler"), list(CLASS_NAMES))
    pipe.save_pretrained(folder / WICKED)
    torch.save(timm.create_model("test_efficientnet").state_dict(), folder / "timm.pth")
    network = {"name": "test_efficientnet", "weights": str(folder / "timm.pth")}
    recipe = {"further": [network], "num_images": COUNT, "steps": 1, "device": "cpu"}
    recipe["save"] = str(folder / "drawn")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    argv = [str(folder / WICKED), "--config", str(folder / "recipe.yaml")]
    out = ["--out", str(folder / "e.json"), "--report", str(folder / "new/page.html")]
    assert launch("eval", [*argv, *out], "eval") == 0
    assert [path.name for path in (folder / "new").iterdir()] == ["page.html"]
    page = (folder / "new/page.html").read_text(encoding="utf-8")
    return folder, json.loads((folder / "e.json").read_text()), page


def test_every_figure_stands_beside_its_interval_and_the_floor(evaluated):
    _, content, text = evaluated
    page = Page(text)
    assert [one["extractor"]["name"] for one in content["further"]] == ["test_efficientnet"]
    for one, table in zip((content, *content["further"]), page.tables, strict=False):
        known = {name: one["scores"][name] for name in NAMES if one["scores"][name] is not None}
        assert len(known) >= 8
        floor = one["floor"]
        expected = [
            [
                NAMES[name],
                shown(name, value, one["intervals"][name]),
                "-"
                if floor["scores"][name] is None
                else shown(name, floor["scores"][name], floor["intervals"][name]),
            ]
            for name, value in known.items()
        ]
        assert table == [["figure", "images", "real against real"], *expected]
        for name, reason in one["not_available"].items():
            assert f"{NAMES[name]}: not available, {reason}" in page.text
        for note in one["notes"]:
            assert note in page.text
    assert content["further"][0]["notes"]  # 80 images are few for 256 features
    colour = {row[0]: row for row in page.tables[2]}
    for name, real in content["reference_colour"].items():
        value, interval = content["scores"][name], content["intervals"][name]
        assert colour[name] == [name, shown(name, value, interval), shown(name, real, None)]


def test_every_setting_and_fact_that_decides_a_figure_is_told(evaluated):
    _, content, text = evaluated
    rows = Page(text).rows
    parts = (content["settings"], content["conventions"], content["versions"])
    facts = [content["extractor"], content["further"][0]["extractor"]]
    wanted = [pair for part in (*parts, *facts) for pair in flat(part)]
    assert len(wanted) > 50
    for name, value in wanted:
        assert [name, told(value)] in rows
    for fact in (
        ["weights of the model", content["weights"]],
        ["source", content["places"]["source"]],
        ["profile", "none"],
        ["size (height x width)", "16x24"],
        ["images", "80"],
        ["real images for the floor", "80"],
        ["labels", "the classes in turn"],
        ["quantisation", content["quantisation"]],
        [
            "circle",
            "10",
            *(str(content["label_counts"][n]["circle"]) for n in ("reference", "floor")),
        ],
    ):
        assert fact in rows


def test_pictures_are_those_that_were_scored_each_with_words(evaluated):
    folder, _, text = evaluated
    images = Page(text).images
    assert len(images) == 64 + 64 + 2 * 16
    assert all(image["alt"] for image in images)
    assert images[9]["alt"] == "image 9, square"
    assert (images[0]["width"], images[0]["height"]) == ("144", "96")  # 24 x 16, six times
    for number in (0, 9, 63):
        (file,) = (folder / "drawn").rglob(f"{number:06d}.png")
        with Image.open(file) as saved:
            assert torch.equal(pixels(images[number]), from_pil(saved))
    real = Shapes(16, 24, "held_out")
    assert torch.equal(pixels(images[64]), to_uint8(real[0][0][None])[0])


def test_beside_an_image_stands_the_real_one_nearest_to_it(evaluated):
    _, _, text = evaluated
    page = Page(text)
    real = to_uint8(torch.stack([Shapes(16, 24, "held_out")[k][0] for k in range(COUNT)]))
    reader = load_extractor()
    known = reader(real).double()
    for number in (0, 15):
        image, beside = page.images[128 + 2 * number : 130 + 2 * number]
        assert torch.equal(pixels(image), pixels(page.images[number]))
        distances, rows = (reader(pixels(image)[None]).double() - known).norm(dim=1).sort()
        assert beside["alt"].startswith(f"real image {int(rows[0])}, ")
        assert torch.equal(pixels(beside), real[rows[0]])
        told_distances = rf"distance {distances[0]:.3g}\d*,\s*second nearest {distances[1]:.3g}"
        assert re.search(told_distances, page.text)


def test_the_page_refers_to_nothing_outside_and_runs_nothing(evaluated):
    _, _, text = evaluated
    page = Page(text)
    assert all(re.match(r"data:image/png;base64,|#", one) for one in page.references)
    assert not {"script", "link", "iframe", "object", "base"} & set(page.tags)
    assert page.tags.count("svg") == 1  # the second network has more features than images
    assert "color-scheme" in text
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_a_name_in_a_path_is_text_and_no_tag(evaluated):
    _, _, text = evaluated
    assert "<script" not in text.lower()
    page = Page(text)
    assert page.text.count(WICKED) >= 3  # title, heading, source


def test_the_plot_shows_the_distances_the_line_and_infinity(evaluated):
    _, content, text = evaluated
    line = content["fid_line"]
    svg = text[text.index("<svg") : text.index("</svg>")]
    for words in ("∞", f">{line['sizes'][-1]}<", f">{line['sizes'][0]}<", f"{line['r2']:.3f}"):
        assert words in svg
    assert svg.count("<use") >= len(line["sizes"])
    assert "#010203" not in svg
    assert "currentColor" in svg
    assert content["further"][0]["fid_line"] is None


def test_without_real_images_the_page_says_so(evaluated):
    _, content, _ = evaluated
    page = Page(document({**content, "fid_line": None, "floor": None}, [], None))
    assert page.images == []
    assert "svg" not in page.tags
    assert "the reference holds statistics, but no images" in page.text


def test_the_reference_file_and_what_distances_are_to_are_told_on_page_and_in_markdown(evaluated):
    _, content, _ = evaluated
    network = {"name": "reader", "preprocessing": "none", "weights_sha256": None}
    header = {
        "schema": "diffgen-reference/1",
        "source": "/data/train",
        "num_images": 1000,
        "kept_images": 80,
        "class_names": ["a", "b", "c"],
        "extractors": {"reader": network},
    }
    against = {"features": {"count": 1000, "sha256": "ab12"}}
    changed = {**content, "reference_file": header, "against": against, "fid_line": None}
    rows = Page(document(changed, [], None)).rows
    text = markdown(changed)
    for name, value in (
        ("source", "/data/train"),
        ("num_images", "1000"),
        ("kept_images", "80"),
        ("class_names", "3"),
        ("extractors.reader.name", "reader"),
        ("extractors.reader.weights_sha256", "none"),
        ("distance of features to", "statistics (sha256 ab12), of 1000 images"),
        ("distance of features to", "the real images, of 80 images"),  # the second network
    ):
        assert [name, value] in rows
        assert f"| {escaped(name)} | {escaped(value)} |" in text
    assert "The reference file" not in markdown(content)


def test_markdown_holds_the_tables_alone(evaluated, capsys):
    folder, content, _ = evaluated
    argv = [str(folder / WICKED), "--num-images", str(COUNT), "--steps", "1", "--device", "cpu"]
    out = ["--out", str(folder / "m.json"), "--report", str(folder / "m.md")]
    assert launch("eval", [*argv, *out], "eval") == 0
    assert f"report {folder / 'm.md'}" in capsys.readouterr().out
    text = (folder / "m.md").read_text(encoding="utf-8")
    again = json.loads((folder / "m.json").read_text())
    assert again["scores"]["fid"] == content["scores"]["fid"]
    fid = shown("fid", again["scores"]["fid"], again["intervals"]["fid"])
    assert f"| FID | {fid} |" in text
    assert f"| weights of the model | {content['weights']} |" in text
    assert "| steps | 1 |" in text
    assert re.search(r"(?<!\\)[<`]", text) is None  # nothing that a viewer takes for HTML or code
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1
    assert "data:" not in text


def test_large_pictures_are_reduced_and_small_ones_kept():
    gradient = torch.arange(256, dtype=torch.uint8).expand(3, 200, 256)
    large = picture(gradient, "words", 50)
    assert (large.width, large.height) == (64, 50)
    assert pixels({"src": large.uri}).shape == (3, 50, 64)
    small = picture(gradient[:, :20, :40], "words", 50)
    assert (small.width, small.height) == (80, 40)
    assert torch.equal(pixels({"src": small.uri}), gradient[:, :20, :40])


@pytest.mark.parametrize(
    ("report", "message"),
    [
        ("page.pdf", "page.pdf must end in .html (a page with pictures) or .md (tables)"),
        ("folder.html", "folder.html is a folder; name a file"),
        ("file/page.html", "is not a folder"),
        ("e.md", "is the file of out too"),
    ],
)
def test_a_report_that_cannot_be_written_is_told_first(tmp_path, capsys, report, message):
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "file").write_text("")
    to_pil(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))[0].save(tmp_path / "a.png")
    argv = [str(tmp_path), "--out", str(tmp_path / "e.md"), "--report", str(tmp_path / report)]
    assert launch("eval", argv, "eval") == 2
    said = capsys.readouterr().err
    assert said.startswith("eval: report: ")
    assert message in said
