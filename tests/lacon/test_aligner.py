"""The aligner: any size, any company, few parameters, saved and loaded."""

import pytest
import torch

from diffgen.config.model import SIZES, DiTConfig
from diffgen.guidance.late import Seen
from diffgen.lacon.aligner import Aligner, spread_blocks
from diffgen.models.blocks import layer_norm
from diffgen.models.dit import DiT


def tiny(fusion: str = "concat", **options) -> Aligner:
    """Two taps of 32 channels, patches of 2, every weight drawn."""
    aligner = Aligner("mask", 1, [0, 3], 32, 2, fusion=fusion, **options)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in aligner.parameters():
            p.copy_(0.3 * torch.randn(p.shape, generator=generator))
    return aligner


def seen(count: int = 2, grid: tuple[int, int] = (4, 6), dtype=torch.float32) -> Seen:
    generator = torch.Generator().manual_seed(0)
    tokens = grid[0] * grid[1]
    features = {k: torch.randn(count, tokens, 32, generator=generator, dtype=dtype) for k in (0, 3)}
    time = torch.randn(count, 32, generator=generator, dtype=dtype)
    return Seen(torch.zeros(count, 3, 2 * grid[0], 2 * grid[1]), features, time, grid)


class TestForward:
    @torch.no_grad()
    @pytest.mark.parametrize("fusion", ["concat", "mix"])
    @pytest.mark.parametrize("grid", [(4, 4), (4, 6), (1, 9), (16, 3)])
    def test_any_height_and_width(self, fusion, grid):
        found = tiny(fusion)(seen(grid=grid))
        assert found.shape == (2, 1, 2 * grid[0], 2 * grid[1])
        assert found.dtype == torch.float32
        assert found.std() > 0.01

    @torch.no_grad()
    @pytest.mark.parametrize("fusion", ["concat", "mix"])
    def test_a_token_is_read_where_it_lies(self, fusion):
        """Rows and columns are not mixed up: the map changes most around the token's patch."""
        aligner, before = tiny(fusion), seen(grid=(8, 12))
        for row, column in ((0, 11), (7, 0), (3, 5)):
            features = {k: x.clone() for k, x in before.features.items()}
            for x in features.values():
                x[:, row * 12 + column] += 3 * torch.linspace(-1, 1, 32)
            change = (aligner(before._replace(features=features)) - aligner(before)).abs()
            for each in change[:, 0]:
                y, x = divmod(int(each.argmax()), 24)
                assert abs(y - (2 * row + 0.5)) <= 3.5
                assert abs(x - (2 * column + 0.5)) <= 3.5

    @torch.no_grad()
    @pytest.mark.parametrize("fusion", ["concat", "mix"])
    @pytest.mark.parametrize("training", [False, True])
    def test_a_batch_is_its_samples_alone_also_in_training_mode(self, fusion, training):
        aligner, many = tiny(fusion).train(training), seen(4)
        together = aligner(many)
        for k in range(4):
            one = slice(k, k + 1)
            features = {block: x[one] for block, x in many.features.items()}
            alone = aligner(Seen(many.x0[one], features, many.time[one], many.grid))
            torch.testing.assert_close(alone, together[one], rtol=0, atol=1e-5)

    @torch.no_grad()
    def test_every_tap_and_the_time_matter_and_x0_does_not(self):
        aligner, before = tiny(), seen()
        first = aligner(before)
        for block in (0, 3):
            features = {**before.features, block: before.features[block].flip(0)}
            assert not torch.allclose(aligner(before._replace(features=features)), first, atol=0.01)
        assert not torch.allclose(aligner(before._replace(time=before.time + 1)), first, atol=0.01)
        assert torch.equal(aligner(before._replace(x0=before.x0 + 1)), first)

    @torch.no_grad()
    def test_the_size_of_a_tap_does_not_matter(self):
        """Features are normalised: late blocks do not drown the others."""
        aligner, before = tiny(), seen()
        features = {0: before.features[0], 3: 100 * before.features[3] + 7}
        torch.testing.assert_close(
            aligner(before._replace(features=features)), aligner(before), rtol=0, atol=1e-3
        )

    @torch.no_grad()
    def test_features_of_other_precisions_are_taken(self):
        aligner, half = tiny(), seen(dtype=torch.bfloat16)
        assert aligner(half).dtype == torch.float32
        assert tiny().double()(seen()).dtype == torch.float64

    def test_without_the_time_it_is_of_no_use(self):
        with pytest.raises(ValueError, match="needs the model's embedding of the time"):
            tiny()(seen()._replace(time=None))

    def test_every_weight_is_trained(self):
        for fusion in ("concat", "mix"):
            aligner = tiny(fusion)
            aligner(seen()).square().sum().backward()
            for name, p in aligner.named_parameters():
                assert p.grad is not None, name
                assert p.grad.any(), name


class TestFusion:
    @torch.no_grad()
    def test_concat_puts_taps_side_by_side(self):
        aligner = tiny()
        features = [layer_norm(x) for x in seen().features.values()]
        expected = [tap(x) for tap, x in zip(aligner.taps, features, strict=True)]
        assert torch.equal(aligner.fuse(features), torch.cat(expected, dim=-1))
        assert aligner.mixture is None

    @torch.no_grad()
    def test_mix_is_their_mean_at_first_then_weighted_by_a_softmax(self):
        aligner = tiny("mix")
        features = list(seen().features.values())
        parts = [tap(x) for tap, x in zip(aligner.taps, features, strict=True)]
        aligner.mixture.zero_()
        torch.testing.assert_close(aligner.fuse(features), (parts[0] + parts[1]) / 2)
        aligner.mixture.copy_(torch.tensor([3.0, 1.0]).log())
        expected = 0.75 * parts[0] + 0.25 * parts[1]
        torch.testing.assert_close(aligner.fuse(features), expected)
        fresh = Aligner("mask", 1, [0, 3], 32, 2, fusion="mix")
        assert not fresh.mixture.any()

    def test_another_is_refused(self):
        with pytest.raises(ValueError, match="fusion 'sum' is not one of concat, mix"):
            tiny("sum")

    def test_channels_that_do_not_make_groups_are_refused(self):
        with pytest.raises(ValueError, match="head_width must be a multiple of 4, not 6"):
            tiny(head_width=6)


class TestBlocks:
    @pytest.mark.parametrize(
        ("depth", "blocks"),
        [(1, [0]), (4, [0, 1, 2, 3]), (12, [1, 3, 5, 7, 9, 11]), (28, [4, 8, 13, 18, 22, 27])],
    )
    def test_they_are_spread_over_the_depth(self, depth, blocks):
        assert spread_blocks(depth) == blocks

    def test_none_comes_twice_and_the_last_is_among_them(self):
        for depth in range(1, 60):
            for count in range(1, 12):
                blocks = spread_blocks(depth, count)
                assert len(set(blocks)) == len(blocks) == min(depth, count)
                assert blocks == sorted(blocks)
                assert (blocks[0] >= 0, blocks[-1]) == (True, depth - 1)


def share(config: DiTConfig, in_channels: int, size: tuple[int, int], channels: int) -> float:
    """Of an aligner in its backbone's parameters."""
    with torch.device("meta"):
        model = DiT.build(config, num_classes=8, in_channels=in_channels, sample_size=size)
        aligner = Aligner.of(model, "any", channels)
    counts = [sum(p.numel() for p in m.parameters()) for m in (aligner, model)]
    return counts[0] / counts[1]


class TestSize:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_of_the_demo_model_it_is_a_twentieth_at_most(self, channels):
        assert 0.01 < share(DiTConfig(), 3, (32, 32), channels) <= 0.05

    @pytest.mark.parametrize("name", ["S", "B", "L", "XL"])
    @pytest.mark.parametrize("patch", [2, 4, 8])
    def test_of_a_named_size_too(self, name, patch):
        assert name in SIZES
        config = DiTConfig(size=name, patch_size=patch, mlp="mlp")
        assert 0.001 < share(config, 4, (32, 32), 3) <= 0.05

    def test_a_fresh_one_fits_its_model(self):
        model = DiT(sample_size=(8, 8), hidden_size=48, depth=3, num_heads=4, patch_size=2)
        aligner = Aligner.of(model, "palette", 3, until=0.4, blocks=[0, 2])
        assert aligner.blocks == (0, 2)
        assert Aligner.of(model, "palette", 3).blocks == (0, 1, 2)
        assert (aligner.config.hidden_size, aligner.config.patch_size) == (48, 2)
        assert (aligner.config.condition, aligner.config.until) == ("palette", 0.4)


@torch.no_grad()
@pytest.mark.parametrize("fusion", ["concat", "mix"])
def test_saved_and_loaded_it_gives_the_same_bits(tmp_path, fusion):
    facts = {"backbone": "abc", "image_std": 0.4, "until": 0.55, "r2": {"0.5": 0.25, "1": 0.0}}
    aligner = tiny(fusion, width=12, head_width=20, **facts)
    aligner.save_pretrained(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    again = Aligner.from_pretrained(tmp_path)
    assert torch.equal(again(seen()), aligner(seen()))
    assert {name: again.config[name] for name in facts} == facts
    assert again.blocks == (0, 3)
    assert (again.config.width, again.config.head_width) == (12, 20)
