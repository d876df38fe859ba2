import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from diffgen.data.shapes import (
    CLASS_NAMES,
    HELD_OUT,
    TRAIN,
    Shapes,
    draw,
    draw_image,
    scene,
)
from diffgen.data.shapes_geometry import AREAS, DISTANCES, MAX_TILT, closest_approach, lens_area
from diffgen.data.shapes_scene import MAX_COVER

SIZES = [(32, 32), (32, 64), (64, 32), (24, 72)]


def alone(drawn):
    """The scene with its back object painted as the front one."""
    return replace(drawn, front=drawn.back)


def test_a_scene_is_a_pure_function_of_its_index():
    first = [scene(i) for i in range(50)]
    np.random.seed(1)
    assert [scene(i) for i in reversed(range(50))] == first[::-1]
    assert len({s.front.colour for s in first}) == 50


def test_scene_zero_is_what_it_always_was():
    drawn = scene(0)
    assert (CLASS_NAMES[drawn.front.kind], CLASS_NAMES[drawn.back.kind]) == ("ring", "cross")
    assert drawn.front.depth == pytest.approx(1.9985, abs=1e-4)
    assert draw_image(drawn, 32, 32).mean() == pytest.approx(-0.04805, abs=1e-4)


def test_splits_share_no_index():
    assert not set(TRAIN) & set(HELD_OUT)
    train, held_out = Shapes(16, 16), Shapes(16, 16, "held_out", num_images=10)
    assert (len(train), len(held_out)) == (1_000_000, 10)
    assert not torch.equal(train[0][0], held_out[0][0])
    assert torch.equal(held_out[3][0], torch.from_numpy(draw_image(scene(1_000_003), 16, 16)))


@pytest.mark.parametrize("indices", [TRAIN, HELD_OUT])
def test_labels_are_uniform_and_the_back_object_is_independent(indices):
    scenes = [scene(i) for i in indices[:4000]]
    pairs = np.zeros((8, 8))
    for s in scenes:
        pairs[s.label, s.back.kind] += 1
    expected = len(scenes) / 64
    # Chi-square with 63 degrees of freedom; 113 is exceeded once in 10,000 draws.
    assert ((pairs - expected) ** 2 / expected).sum() < 113


@pytest.mark.parametrize("kind", range(8), ids=CLASS_NAMES)
def test_each_shape_fits_its_bounding_disc_and_has_its_stated_area(kind):
    side = (np.arange(1200) + 0.5) / 500 - 1.2
    x, y = np.meshgrid(side, side)
    inside = DISTANCES[kind](x, y) < 0
    assert inside.sum() / 500**2 == pytest.approx(AREAS[kind], rel=0.005)
    assert np.hypot(x, y)[inside].max() < 1.001


@pytest.mark.parametrize("kind", range(8), ids=CLASS_NAMES)
def test_distances_have_unit_slope_so_that_edges_are_one_pixel_soft(kind):
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-1, 1, (2, 4000))
    distance, step = DISTANCES[kind], 1e-5
    slope = np.hypot(
        distance(x + step, y) - distance(x - step, y), distance(x, y + step) - distance(x, y - step)
    )
    assert np.mean(np.abs(slope / (2 * step) - 1) < 1e-3) > 0.99


def test_tilt_never_turns_a_shape_past_half_its_symmetry():
    symmetry = {"square": 90, "triangle": 120, "star": 72, "cross": 90}
    for name, degrees in symmetry.items():
        assert 0 < MAX_TILT[CLASS_NAMES.index(name)] <= degrees / 2


@pytest.mark.parametrize(
    ("height", "width"), [(96, 96), (96, 144), (96, 192), (192, 96), (80, 240)]
)
def test_at_most_forty_percent_of_the_back_object_is_hidden(height, width):
    shares = []
    for i in range(150):
        drawn = scene(i)
        front, back = draw(drawn, height, width).mask, draw(alone(drawn), height, width).mask
        shares.append((front * back).sum() / back.sum())
    assert max(shares) <= MAX_COVER + 0.01
    if height == width:
        assert np.mean(np.array(shares) > 0.02) > 0.2  # occlusion is there to be seen


def test_the_closest_approach_holds_at_every_aspect():
    rng = np.random.default_rng(0)
    for _ in range(300):
        front, back = tuple(rng.random(2)), tuple(rng.random(2))
        bound = closest_approach(front, back, 0.3, 0.2)
        for long in np.linspace(1, 6, 40):
            for canvas in ((1, long), (long, 1)):
                gaps = [
                    (0.3 + f * (side - 0.6)) - (0.2 + b * (side - 0.4))
                    for f, b, side in zip(front, back, canvas, strict=True)
                ]
                assert math.hypot(*gaps) >= bound - 1e-12


def test_lens_area_limits_and_half_way():
    assert lens_area(1, 0.5, 1.5) == 0
    assert lens_area(1, 0.5, 0.4) == pytest.approx(math.pi / 4)
    assert lens_area(1, 1, 1) == pytest.approx(2 * math.pi / 3 - math.sqrt(3) / 2)


@pytest.mark.parametrize(("height", "width"), [*SIZES, (8, 8), (9, 31)])
def test_ranges_shapes_and_types(height, width):
    for i in range(40):
        drawing = draw(scene(i), height, width)
        assert drawing.image.shape == (3, height, width)
        assert drawing.image.max() <= 2 * 0.9 - 1 + 1e-6  # value at most 0.9
        assert drawing.image.min() >= 2 * 0.2 * (1 - 0.8) - 1 - 1e-6  # value 0.2, saturation 0.8
        for plane, low, high in (
            (drawing.mask, 0, 1),
            (drawing.edge, 0, 1),
            (drawing.depth, 1, 10),
        ):
            assert plane.shape == (1, height, width)
            assert low <= plane.min() < plane.max() <= high
        assert {p.dtype for p in vars(drawing).values()} == {np.dtype(np.float32)}
        assert np.array_equal(drawing.image, draw_image(scene(i), height, width))


def test_saturation_and_value_stay_in_range_where_nothing_is_antialiased():
    for i in range(200):
        drawn = scene(i)
        drawing, back = draw(drawn, 48, 48), draw(alone(drawn), 48, 48).mask
        flat = np.isin(drawing.mask[0], (0, 1)) & np.isin(back[0], (0, 1))
        rgb = (drawing.image[:, flat] + 1) / 2
        value = rgb.max(0)
        saturation = 1 - rgb.min(0) / value
        for plane, high in ((saturation, 0.8), (value, 0.9)):
            assert plane.min() >= 0.2 - 1e-4
            assert plane.max() <= high + 1e-4


def test_objects_stand_out_from_the_background_and_from_each_other():
    for i in range(500):
        drawn = scene(i)
        for end in drawn.background:
            assert math.dist(drawn.front.colour, end) >= 0.25
            assert math.dist(drawn.back.colour, end) >= 0.25
        assert math.dist(drawn.front.colour, drawn.back.colour) >= 0.25


def test_the_front_object_is_nearer_larger_and_stands_out_more():
    scenes = [scene(i) for i in range(500)]
    assert all(1 <= s.front.depth < s.back.depth <= 10 for s in scenes)
    assert all(s.front.radius > s.back.radius for s in scenes)

    def contrast(body, drawn):
        return math.dist(body.colour, np.mean(drawn.background, axis=0))

    bodies = [(b, s) for s in scenes for b in (s.front, s.back)]
    depth = [body.depth for body, _ in bodies]
    assert np.corrcoef(depth, [contrast(*b) for b in bodies])[0, 1] < -0.5


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_objects_lie_wholly_inside_and_reach_all_of_the_canvas(height, width):
    touched = np.zeros((height, width), bool)
    for i in range(300):
        drawn = scene(i)
        for mask, body in (
            (draw(drawn, height, width).mask, drawn.front),
            (draw(alone(drawn), height, width).mask, drawn.back),
        ):
            area = AREAS[body.kind] * (body.radius * min(height, width)) ** 2
            # Nothing is cut off and nothing is stretched.
            assert mask.sum() == pytest.approx(area, rel=0.08)
            touched |= mask[0] > 0.5
    # A round object leaves the very corners free, but nothing else.
    assert touched.any(0)[1:-1].all()
    assert touched.any(1)[1:-1].all()
    margin = min(height, width) // 6
    assert touched[margin:-margin, margin:-margin].all()


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_another_size_is_the_same_scene_redrawn(height, width):
    for i in range(60):
        small, large = draw(scene(i), height, width), draw(scene(i), 2 * height, 2 * width)
        for name, mean in (("image", 0.006), ("mask", 0.004)):
            plane = getattr(large, name)
            plane = plane.reshape(len(plane), height, 2, width, 2).mean((2, 4))
            difference = np.abs(plane - getattr(small, name))
            assert difference.mean() < mean
            assert difference.max() < 0.5


def test_a_wider_canvas_moves_objects_but_does_not_stretch_them():
    for i in range(60):
        for side in ((64, 64), (64, 128), (128, 64)):
            rows, columns = np.nonzero(draw(scene(i), *side).mask[0] > 0.5)
            extent = np.array([np.ptp(rows), np.ptp(columns)])
            if side == (64, 64):
                square = extent
            assert np.abs(extent - square).max() <= 1


def test_maps_agree_with_each_other():
    for i in range(60):
        drawn = scene(i)
        drawing, back = draw(drawn, 64, 64), draw(alone(drawn), 64, 64).mask
        front = drawing.mask >= 0.5
        depth = np.float32([drawn.front.depth, drawn.back.depth, 10])
        assert np.array_equal(drawing.depth == depth[0], front)
        assert np.array_equal(drawing.depth == depth[1], (back >= 0.5) & ~front)
        assert np.isin(drawing.depth, depth).all()
        # Half-covered pixels lie on the outline; the outline hidden by the front object is gone.
        on_outline = (drawing.mask > 0.4) & (drawing.mask < 0.6)
        assert (drawing.edge[on_outline] >= 0.9 - 1e-5).all()
        only_front = draw(replace(drawn, back=drawn.front), 64, 64).edge
        inside = drawing.mask == 1
        assert np.array_equal(drawing.edge[inside], only_front[inside])
        jumps = np.abs(np.diff(drawing.depth[0], axis=1)) > 0
        assert (np.maximum(drawing.edge[0, :, 1:], drawing.edge[0, :, :-1])[jumps] > 0.3).all()


def test_dataset_items_and_maps():
    data = Shapes(24, 40, num_images=20)
    image, label = data[5]
    assert (image.shape, image.dtype, type(label)) == ((3, 24, 40), torch.float32, int)
    assert label == scene(5).label
    maps = data.maps(5)
    assert sorted(maps) == ["depth", "edge", "mask"]
    assert torch.equal(maps["mask"], torch.from_numpy(draw(scene(5), 24, 40).mask))
    assert len(list(data)) == 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"height": 7, "width": 32}, "7 x 32"),
        ({"height": 32, "width": 32, "split": "test"}, "'test'; allowed: train, held_out"),
        ({"height": 32, "width": 32, "num_images": 0}, "num_images is 0"),
        ({"height": 32, "width": 32, "split": "held_out", "num_images": 200_001}, "1 to 200000"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Shapes(**arguments)


def test_wrong_indices_and_canvases_are_refused():
    with pytest.raises(ValueError, match="index is -1"):
        scene(-1)
    with pytest.raises(ValueError, match="width is 4"):
        draw(scene(0), 32, 4)
