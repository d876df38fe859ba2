"""Micro-conditioning: what the model is told of the crop it sees."""

import pytest
import torch

from diffgen import DiT

T, Y = torch.tensor([300.0, 300.0]), torch.tensor([1, 1])


def tiny(micro: str = "pixels") -> DiT:
    model = DiT(sample_size=(8, 8), patch_size=2, hidden_size=32, depth=1, num_heads=2, micro=micro)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.2)
    return model


def noisy(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).expand(2, -1, -1, -1)


def told(*rows) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32)


@torch.no_grad()
@pytest.mark.parametrize("micro", ["pixels", "canvas"])
@pytest.mark.parametrize("shape", [(8, 8), (8, 12)])
def test_without_a_crop_it_is_the_whole_of_a_picture_of_its_own_size(micro, shape):
    model, x = tiny(micro), noisy(3, *shape)
    whole = told([*shape, 0, 0]).expand(2, -1)
    assert torch.equal(model(x, T, Y), model(x, T, Y, crop=whole))


@torch.no_grad()
def test_every_number_matters():
    model, x = tiny(), noisy(3, 8, 8)
    reference = model(x, T, Y, crop=told([16, 12, 4, 2], [16, 12, 4, 2]))[0]
    for other in ([12, 12, 4, 2], [16, 16, 4, 2], [16, 12, 2, 2], [16, 12, 4, 4]):
        changed = model(x, T, Y, crop=told(other, other))[0]
        assert (changed - reference).abs().max() > 1e-3


@torch.no_grad()
def test_an_image_that_is_not_told_gets_nothing_added():
    model, x = tiny(), noisy(3, 8, 8)
    crop = told([16, 16, 0, 0], [16, 16, 0, 0])
    silent = model(x, T, Y, crop=crop, told=torch.tensor([False, True]))
    without = DiT(sample_size=(8, 8), patch_size=2, hidden_size=32, depth=1, num_heads=2)
    without.load_state_dict(
        {n: w for n, w in model.state_dict().items() if not n.startswith("crop_embedder")}
    )
    torch.testing.assert_close(silent[0], without(x, T, Y)[0])
    assert (silent[1] - silent[0]).abs().max() > 1e-3


@torch.no_grad()
def test_on_the_canvas_a_whole_picture_is_told_alike_at_every_size():
    def embedded(micro: str, shape: tuple[int, int], crop=None) -> list[float]:
        model, seen = tiny(micro), []
        model.crop_embedder.register_forward_pre_hook(lambda _, args: seen.append(args[0][0]))
        model(noisy(3, *shape), T, Y, crop=crop)
        return seen[0].tolist()

    assert embedded("canvas", (8, 8)) == embedded("canvas", (16, 24)) == [8, 8, 0, 0]
    assert embedded("pixels", (16, 24)) == [16, 24, 0, 0]
    half = told([32, 24, 8, 12]).expand(2, -1)
    assert embedded("canvas", (16, 24), half) == [16, 8, 4, 4]


@torch.no_grad()
@pytest.mark.parametrize("kind", ["sincos", "rope", "rpe2d"])
def test_tokens_of_a_crop_may_keep_their_place_in_the_picture(kind):
    """A crop is encoded as those tokens of the whole are, by coordinates and grid."""
    options = {"sample_size": (8, 8), "patch_size": 2, "hidden_size": 32, "depth": 1}
    model = DiT(**options, num_heads=2, position={"kind": kind}, crop_coords=True)
    seen = []
    for hook in ("embed", "rotation"):
        call = getattr(model.encoding, hook)
        monkeyed = lambda *args, call=call: seen.append(call(*args)) or seen[-1]  # noqa: E731
        setattr(model.encoding, hook, monkeyed)
    whole, part = noisy(3, 12, 16), noisy(3, 8, 8)
    model(whole, T, Y)
    model(part, T, Y, crop=told([12, 16, 4, 6], [12, 16, 4, 6]))
    rows = (torch.arange(4)[:, None] + 2) * 8 + torch.arange(4) + 3
    for one, other in zip(seen[:2], seen[2:], strict=True):
        if one is None:
            assert other is None
            continue
        torch.testing.assert_close(other, one[:, rows.flatten()])
    alone = len(seen)
    model(part, T, Y)
    assert any(
        z is not None and not torch.equal(z, before)
        for z, before in zip(seen[alone:], seen[2:alone], strict=True)
    )


def test_a_crop_for_a_model_that_knows_none_is_refused():
    with pytest.raises(ValueError, match="crop is given to a model without micro-conditioning"):
        tiny("none")(noisy(3, 8, 8), T, Y, crop=told([8, 8, 0, 0], [8, 8, 0, 0]))
    with pytest.raises(ValueError, match="micro must be one of"):
        tiny("some")
