"""Blocks that torch.compile computes: the same numbers, few graphs, and nothing else changes."""

import copy

import pytest
import torch
from torch._dynamo.backends.debugging import aot_eager

from diffgen.models.compiled import compile_blocks
from diffgen.models.route import draw_route
from diffgen.models.taps import tapped
from diffgen.models.tokens import pack, pad
from tests.tiny import build

# torch asks every tensor it traces for this, and hides the warning, which pytest raises
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")

OPTIONS = [
    {"position": {"kind": "sincos"}, "mlp": "mlp", "qk_norm": False},
    {"position": {"kind": "rope", "scaling": "yarn"}, "adaln_rank": 4},
    {"position": {"kind": "rpe2d"}},
]


@pytest.fixture
def graphs():
    """A backend without a code generator, and how many graphs it has been given."""
    torch._dynamo.reset()
    count = []

    def backend(graph, inputs):
        count.append(graph)
        return aot_eager(graph, inputs)

    yield backend, count
    torch._dynamo.reset()


def pair(backend, depth=4, **options):
    """A model and the same one compiled."""
    model, compiled = (build(depth=depth, **options).transformer for _ in range(2))
    compile_blocks(compiled, backend)
    return model, compiled


def inputs(count: int, height: int, width: int):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, 3, height, width, generator=generator)
    return x, torch.linspace(100, 900, count), torch.arange(count) % 4


def told(model, count: int) -> dict:
    generators = [torch.Generator().manual_seed(k) for k in range(count)]
    return {"generator": generators} if model.config.position["kind"] == "rpe2d" else {}


def gradients(model, *given, **options) -> list[torch.Tensor]:
    """The output, the tokens after the last block, and every gradient."""
    with tapped(model, [3]) as taps:
        out = model(*given, **options)
    wanted = [p for p in model.parameters() if p.requires_grad]
    loss = out.square().mean() + taps.features[3].sin().mean()
    return [out, taps.features[3], *torch.autograd.grad(loss, wanted)]


def agree(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def routed(count: int, height: int, width: int):
    return draw_route(0, range(count), height * width // 4, 0.5, 1, 3)


@pytest.mark.parametrize("options", OPTIONS)
def test_output_and_gradients_are_those_of_the_model(graphs, options):
    """In one graph for the blocks of all tokens, and one for those of a route."""
    backend, count = graphs
    model, compiled = pair(backend, **options)
    given, route = inputs(2, 8, 12), routed(2, 8, 12)
    agree(*(gradients(z, *given, route=route, **told(z, 2)) for z in (compiled, model)))
    assert len(count) == 2


@torch.no_grad()
def test_more_sizes_bring_no_more_than_two_more_graphs(graphs):
    backend, count = graphs
    _, compiled = pair(backend, position={"kind": "rope"})
    seen = []
    for size in ((2, 8, 8), (2, 8, 12), (3, 8, 12), (5, 12, 12), (4, 4, 16)):
        compiled(*inputs(*size))
        compiled(*inputs(*size), route=routed(*size))
        seen.append(len(count))
    assert seen[0] == 2
    assert seen[2:] == [seen[2]] * 3
    assert seen[2] <= 4


def test_under_autocast_and_with_gradient_checkpointing_too(graphs):
    backend, count = graphs
    model, compiled = pair(backend, position={"kind": "rope"})
    compiled.enable_gradient_checkpointing()
    given = inputs(2, 8, 8)
    route = routed(2, 8, 8)
    agree(gradients(compiled, *given, route=route), gradients(model, *given, route=route))
    assert len(count) == 2
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = compiled(*given), model(*given)
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)


def test_taps_come_and_go_without_a_graph(graphs):
    backend, count = graphs
    _, compiled = pair(backend)
    given = inputs(2, 8, 8)
    compiled(*given)
    kept = []
    for _ in range(12):  # more than the recompilations torch allows
        with tapped(compiled, [0, 3]) as taps:
            compiled(*given)
        kept.append(taps.features)
    compiled(*given)
    assert len(count) == 1
    assert all(torch.equal(one[3], kept[0][3]) for one in kept)
    assert not torch.equal(kept[0][0], kept[0][3])


def test_attention_within_a_compiled_block_cannot_be_tapped(graphs):
    _, compiled = pair(graphs[0])
    with (
        pytest.raises(ValueError, match="attention of block 2 cannot be read: it is compiled"),
        tapped(compiled, [], [2]),
    ):
        pass


def test_names_and_copies_are_those_of_the_model(graphs):
    backend, count = graphs
    model, compiled = pair(backend)
    assert list(compiled.state_dict()) == list(model.state_dict())
    twin = copy.deepcopy(compiled)
    assert torch.equal(twin(*inputs(2, 8, 8)), model(*inputs(2, 8, 8)))
    assert not count


@torch.no_grad()
def test_padded_batches_of_mixed_sizes_need_two_graphs(graphs):
    backend, count = graphs
    model, compiled = pair(backend, position={"kind": "rope"})
    generator = torch.Generator().manual_seed(0)
    for _ in range(8):
        sides = torch.randint(1, 6, (3, 2), generator=generator) * 2
        batch = pack([torch.randn(3, *side) for side in sides.tolist()], 2)
        tokens, mask = pad(batch.tokens, batch.lengths)
        coords, _ = pad(batch.coords, batch.lengths)
        given = tokens, *inputs(3, 2, 2)[1:], coords
        found, expected = (z(*given, sizes=batch.sizes, mask=mask) for z in (compiled, model))
        torch.testing.assert_close(found, expected)
    assert len(count) == 2


def test_packed_batches_of_mixed_sizes_are_refused(graphs):
    _, compiled = pair(graphs[0])
    lengths = torch.tensor([3, 5])
    with pytest.raises(ValueError, match="a compiled model takes no packed batches"):
        compiled(torch.randn(8, 12), *inputs(2, 2, 2)[1:], torch.rand(8, 2), lengths=lengths)


@pytest.mark.slow
def test_generated_code_gives_the_same_loss_and_gradients():
    """With torch's own backend, which writes and compiles C++ here."""
    torch._dynamo.reset()
    model, compiled = pair("inductor", depth=1, position={"kind": "rope"})
    given, results = inputs(2, 8, 8), []
    for one in (compiled, model):
        out = one(*given).square().mean()
        results.append([out, *torch.autograd.grad(out, list(one.parameters()))])
    agree(*results)
    torch._dynamo.reset()
