"""The backbone: against released DiT, and the same numbers however a batch is laid out."""

import pytest
import torch

from diffgen.config.model import SIZES, DiTConfig
from diffgen.models.dit import DiT
from diffgen.models.tokens import grid_coords, patchify, unpatchify

GRIDS = [(2, 2), (3, 5), (5, 3), (1, 4), (4, 1), (2, 2)]  # rows x columns, two of them equal


def tiny(**options) -> DiT:
    """A small model whose every weight is drawn, so that nothing is hidden behind a zero gate."""
    settings = {"sample_size": (8, 8), "hidden_size": 32, "depth": 2, "num_heads": 2}
    model = DiT(**{**settings, "patch_size": 2, "num_classes": 5, **options})
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


def inputs(grids=GRIDS, channels=3, patch=2):
    """One image a grid, with times (in 0 to 1000) and labels."""
    generator = torch.Generator().manual_seed(0)
    images = [
        torch.randn(channels, rows * patch, columns * patch, generator=generator)
        for rows, columns in grids
    ]
    return images, torch.linspace(30, 990, len(grids)), torch.arange(len(grids)) % 6


@torch.no_grad()
def test_the_released_dit_is_reproduced(released_dit):
    model, golden = released_dit()
    out = model(golden["x"], golden["t"], golden["y"])
    assert golden["output"].abs().max() > 0.1
    torch.testing.assert_close(out, golden["output"], rtol=0, atol=1e-5)


def test_the_released_position_table_is_the_sincos_encoding(released_dit):
    model, golden = released_dit()
    coords = grid_coords(4, 4)
    table = model.encoding.embed(coords, torch.tensor([4.0, 4.0]))
    assert torch.equal(table, golden["weights.pos_embed"][0])


@torch.no_grad()
@pytest.mark.parametrize("kind", ["rope", "sincos", "none"])
def test_forward_is_forward_tokens_between_patchify_and_unpatchify(kind):
    model = tiny(position={"kind": kind}, out_channels=4)
    images, t, y = inputs([(3, 5)] * 2)
    x = torch.stack(images)
    coords = grid_coords(3, 5).expand(2, -1, -1)
    out = model.forward_tokens(patchify(x, 2), coords, t, y)
    assert torch.equal(model(x, t, y), unpatchify(out, 3, 5, 2))
    assert out.shape == (2, 15, 16)


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(2, 2), (2, 20), (14, 6), (8, 8)])
def test_any_size_the_patch_divides_is_taken(height, width):
    model = tiny(sample_size=(8, 8), out_channels=6)
    out = model(torch.ones(1, 3, height, width), torch.tensor([500.0]), torch.tensor([0]))
    assert out.shape == (1, 6, height, width)
    assert out.std() > 0.01


def laid_out(model: DiT, layout: str):
    """The outputs (one a grid) of the same batch padded, packed, or one image at a time."""
    images, t, y = inputs()
    tokens = [patchify(image[None], 2)[0].to(model.dtype) for image in images]
    coords = [grid_coords(*grid) for grid in GRIDS]
    lengths = torch.tensor([len(piece) for piece in tokens])
    if layout == "alone":
        return [
            model.forward_tokens(*(z[None] for z in (piece, place, t[i], y[i])))[0]
            for i, (piece, place) in enumerate(zip(tokens, coords, strict=True))
        ]
    if layout == "packed":
        out = model.forward_tokens(torch.cat(tokens), torch.cat(coords), t, y, lengths=lengths)
        return list(out.split(lengths.tolist()))
    width = int(lengths.max()) + 2  # padding in every row
    padded = torch.full((len(tokens), width, tokens[0].shape[1]), 9.0, dtype=model.dtype)
    places = torch.full((len(tokens), width, 2), 77.0)
    mask = torch.arange(width) < lengths[:, None]
    padded[mask], places[mask] = torch.cat(tokens), torch.cat(coords)
    out = model.forward_tokens(padded, places, t, y, mask=mask)
    assert not out[~mask].any()
    return list(out[mask].split(lengths.tolist()))


@pytest.mark.parametrize(
    "options",
    [
        {"position": {"kind": "rope", "additive": True}},
        {"position": {"kind": "sincos"}, "mlp": "mlp", "qk_norm": False},
    ],
)
@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_a_mixed_batch_gives_the_numbers_of_its_images_alone(options, layout):
    """Values, and the gradient of every parameter, whatever the layout; exactly, in fp64."""
    results, gradients = [], []
    for each in ("alone", layout):
        model = tiny(**options).double()
        out = torch.cat(laid_out(model, each))
        (out.sin().sum() / len(out)).backward()
        results.append(out.detach())
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=1e-9)
    for name, gradient in gradients[0].items():
        assert gradient.any(), name
        torch.testing.assert_close(gradients[1][name], gradient, rtol=0, atol=1e-9, msg=name)


@torch.no_grad()
def test_images_of_a_batch_do_not_see_each_other():
    model = tiny()
    images, t, y = inputs()
    before = laid_out(model, "packed")
    tokens = torch.cat([patchify(image[None], 2)[0] for image in images])
    coords = torch.cat([grid_coords(*grid) for grid in GRIDS])
    lengths = torch.tensor([rows * columns for rows, columns in GRIDS])
    tokens[: lengths[0]] += 1  # only the first image
    after = model.forward_tokens(tokens, coords, t, y, lengths=lengths).split(lengths.tolist())
    assert not torch.allclose(after[0], before[0], atol=1e-3)
    for changed, original in zip(after[1:], before[1:], strict=True):
        torch.testing.assert_close(changed, original, rtol=0, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("normed", [True, False])
def test_with_qk_norm_the_size_of_queries_and_keys_does_not_matter(normed):
    model, x = tiny(qk_norm=normed, depth=1), torch.randn(1, 3, 8, 8)
    t, y = torch.tensor([500.0]), torch.tensor([0])
    before = model(x, t, y)
    qkv = model.blocks[0].attn.qkv
    qkv.weight[:64] *= 5  # queries and keys, not values
    qkv.bias[:64] *= 5
    assert torch.allclose(model(x, t, y), before, atol=1e-4) == normed


@pytest.mark.parametrize(
    ("convention", "own", "noise"),
    [
        ({"direction": "noise", "scale": 1000}, [0.0, 250.0, 1000.0], [0.0, 0.25, 1.0]),
        ({"direction": "noise", "scale": 1}, [0.0, 0.25, 1.0], [0.0, 0.25, 1.0]),
        ({"direction": "data", "scale": 1000}, [0.0, 250.0, 1000.0], [1.0, 0.75, 0.0]),
        ({"direction": "data", "scale": 1}, [0.0, 0.25, 1.0], [1.0, 0.75, 0.0]),
    ],
)
def test_encodings_see_noise_time_whatever_the_models_convention(convention, own, noise):
    assert tiny(time=convention).noise_time(torch.tensor(own)).tolist() == noise


@torch.no_grad()
def test_time_label_and_null_class_matter():
    model = tiny()
    x = torch.ones(1, 3, 4, 4)
    reference = model(x, torch.tensor([500.0]), torch.tensor([0]))
    for t, y in ((100.0, 0), (500.0, 1), (500.0, 5)):
        other = model(x, torch.tensor([t]), torch.tensor([y]))
        assert (other - reference).abs().max() > 1e-2


def test_a_fresh_model_predicts_exactly_nothing_and_starts_as_adaln_zero():
    """Every gate, shift and scale, and the output, starts at 0: each block is the identity."""
    model = DiT(hidden_size=32, depth=2, num_heads=2)
    x = torch.randn(2, 3, 32, 16, generator=torch.Generator().manual_seed(0))
    assert not model(x, torch.tensor([1.0, 999.0]), torch.tensor([0, 8])).any()
    zero = {name for name, p in model.named_parameters() if not p.any()}
    modulations = {
        f"{layer}.adaLN_modulation.1.{kind}"
        for layer in ("blocks.0", "blocks.1", "final_layer")
        for kind in ("weight", "bias")
    }
    weights = {name for name in zero if name.endswith("weight")}
    assert modulations <= zero
    assert weights == {n for n in modulations if n.endswith("weight")} | {
        "final_layer.linear.weight"
    }
    table = model.y_embedder.embedding_table.weight
    assert table.std().item() == pytest.approx(0.02, rel=0.15)
    xavier = (6 / (48 + 32)) ** 0.5
    assert 0.95 * xavier < model.x_embedder.proj.weight.abs().max() <= xavier


@torch.no_grad()
def test_saved_and_loaded_it_gives_the_same_bits(tmp_path):
    model = tiny(
        sample_size=(4, 12),
        out_channels=6,
        mlp="mlp",
        qk_norm=False,
        position={"kind": "rope", "theta": 100.0},
        time={"direction": "data", "scale": 1},
    )
    model.save_pretrained(tmp_path)
    assert {p.suffix for p in tmp_path.iterdir()} == {".json", ".safetensors"}
    again = DiT.from_pretrained(tmp_path)
    x = torch.randn(2, 3, 4, 12, generator=torch.Generator().manual_seed(3))
    t, y = torch.tensor([0.2, 0.9]), torch.tensor([1, 5])
    assert torch.equal(again(x, t, y), model(x, t, y))
    assert again.convention == model.convention
    assert tuple(again.config.sample_size) == (4, 12)


@pytest.mark.parametrize(("name", "millions"), [("S", 33), ("B", 130), ("L", 458), ("XL", 675)])
def test_named_sizes_have_the_published_parameter_counts(name, millions):
    """Peebles and Xie 2023, table 4, for patch 2 on 4 channels with GELU MLPs."""
    config = DiTConfig(size=name, patch_size=2, mlp="mlp")
    assert (config.depth, config.hidden_size, config.num_heads) == SIZES[name]
    with torch.device("meta"):
        model = DiT.build(config, num_classes=1000, in_channels=4, sample_size=(32, 32))
    count = sum(p.numel() for p in model.parameters())
    assert count / 1e6 == pytest.approx(millions, rel=0.01)


def test_the_demo_model_is_about_a_million_parameters():
    model = DiT.build(DiTConfig(), num_classes=8, in_channels=3, sample_size=(32, 32))
    assert 0.8e6 < sum(p.numel() for p in model.parameters()) < 1.6e6


def test_swiglu_costs_what_the_mlp_costs():
    counts = [
        sum(p.numel() for p in tiny(mlp=mlp, hidden_size=96).blocks[0].mlp.parameters())
        for mlp in ("mlp", "swiglu")
    ]
    assert counts[1] == pytest.approx(counts[0], rel=0.01)


class TestMistakes:
    def test_a_side_the_patch_does_not_divide(self):
        with pytest.raises(ValueError, match="5x4 is not divisible by the patch size 2"):
            tiny()(torch.zeros(1, 3, 5, 4), torch.zeros(1), torch.zeros(1, dtype=torch.long))

    def test_mask_and_lengths_together(self):
        mask, lengths = torch.ones(1, 4, dtype=torch.bool), torch.tensor([4])
        with pytest.raises(ValueError, match=r"mask .* or lengths"):
            tiny().forward_tokens(
                torch.zeros(4, 12),
                torch.zeros(4, 2),
                torch.zeros(1),
                torch.zeros(1, dtype=torch.long),
                mask=mask,
                lengths=lengths,
            )

    @pytest.mark.parametrize(
        ("shape", "lengths"), [((5, 12), [2, 2]), ((2, 2, 12), [2, 2]), ((3, 12), [2, 2])]
    )
    def test_lengths_that_do_not_fit_the_tokens(self, shape, lengths):
        with pytest.raises(ValueError, match="lengths sum to 4"):
            tiny().forward_tokens(
                torch.zeros(shape),
                torch.zeros(*shape[:-1], 2),
                torch.zeros(2),
                torch.zeros(2, dtype=torch.long),
                lengths=torch.tensor(lengths),
            )

    @pytest.mark.parametrize(
        "options",
        [
            {"position": {"kind": "spiral"}},
            {"position": {"kind": "rope", "thta": 10.0}},
            {"time": {"direction": "sideways"}},
            {"time": {"scale": 100}},
        ],
    )
    def test_an_encoding_or_time_that_does_not_exist(self, options):
        (key,) = next(iter(options.values())).keys() - {"kind"} or {"kind"}
        with pytest.raises(ValueError, match=key if key != "kind" else "spiral"):
            DiT(hidden_size=32, depth=1, num_heads=2, **options)

    @pytest.mark.parametrize(
        ("options", "named"),
        [
            ({"mlp": "swigle"}, "mlp"),
            ({"hidden_size": 30, "num_heads": 4}, "num_heads"),
            ({"hidden_size": 36, "num_heads": 6}, "rope"),
        ],
    )
    def test_options_that_do_not_fit_are_refused_when_the_model_is_built(self, options, named):
        with pytest.raises(ValueError, match=named):
            tiny(**options)
