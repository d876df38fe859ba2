"""Under bf16 autocast: the linear maps and attention in bf16; norms, rotations and loss in fp32."""

from collections import defaultdict

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from diffgen.config.model import TimeConvention
from diffgen.config.process import DDPMConfig, FlowConfig
from diffgen.models.attention import Padded
from diffgen.models.blocks import adaptive_norm, layer_norm
from diffgen.models.route import draw_route
from diffgen.positions.rope import rotate
from diffgen.processes import build_process
from diffgen.training.step import Objective
from tests.tiny import build

X = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
T, Y = torch.tensor([300.0, 800.0]), torch.tensor([0, 2])
FLOATS = (torch.float64, torch.float32, torch.bfloat16)


def autocast():
    return torch.autocast("cpu", torch.bfloat16)


def halves(*shape, count=1, seed=1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator).bfloat16() for _ in range(count)]


class Seen(TorchDispatchMode):
    """The floating-point inputs of every operation that really runs, by its name."""

    def __init__(self):
        super().__init__()
        self.inputs = defaultdict(list)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = [z for z in args if isinstance(z, Tensor) and z.dtype in FLOATS]
        self.inputs[function.overloadpacket.__name__].append(given)
        return function(*args, **(kwargs or {}))

    def dtypes(self, *names: str) -> set[torch.dtype]:
        return {z.dtype for name in names for call in self.inputs[name] for z in call}


ATTENTION = "_scaled_dot_product_flash_attention_for_cpu"


@pytest.mark.parametrize("route", [None, draw_route(0, [0, 1], 24, 0.5, 0, 1)])
@pytest.mark.parametrize("position", ["sincos", "rope"])
def test_norms_and_rotations_compute_in_fp32_and_products_in_bf16(position, route):
    model = build(position={"kind": position}).transformer
    with autocast(), Seen() as seen:
        model(X, T, Y, route=route)
    assert seen.dtypes("native_layer_norm") == {torch.float32}
    assert len(seen.inputs["native_layer_norm"]) == 2 * 4 + 1  # two of tokens, q and k; the last
    assert seen.dtypes("addmm", "mm") == {torch.bfloat16}
    assert seen.dtypes(ATTENTION) == {torch.bfloat16}
    rotations = {torch.float32} if position == "rope" else set()
    assert seen.dtypes("view_as_complex", "complex") == rotations


def test_the_angles_are_fp32_and_so_are_their_cosines():
    model, given = build(position={"kind": "rope"}).transformer, []
    model.blocks[0].register_forward_pre_hook(lambda _, args: given.append(args))
    with autocast():
        model(X, T, Y)
    cos, sin = given[0][3]
    assert (cos.dtype, sin.dtype) == (torch.float32, torch.float32)
    model(X, T, Y)
    assert torch.equal(cos, given[1][3][0])


def test_a_norm_and_its_modulation_are_rounded_once():
    x, shift, scale = halves(3, 7, 32, count=3)
    found = adaptive_norm(x, shift, scale)
    assert found.dtype == torch.bfloat16
    exact = layer_norm(x.double()) * (1 + scale.double()) + shift.double()
    fp32 = adaptive_norm(x.float(), shift.float(), scale.float())
    torch.testing.assert_close(fp32.double(), exact, rtol=1e-5, atol=1e-5)
    assert torch.equal(found, fp32.bfloat16())


def test_queries_and_keys_are_rounded_once_after_norm_rotation_and_scale():
    attention = build(position={"kind": "rope"}).transformer.blocks[0].attn
    q, k, v = halves(2, 6, 32, count=3)
    angles = torch.rand(2, 6, 8) * 100
    rotation, scale = (angles.cos(), angles.sin()), torch.tensor([[1.1], [1.3]])
    with Seen() as seen:
        attention.heads(q, k, v, Padded(), rotation, scale)
    ((found_q, found_k, found_v),) = seen.inputs[ATTENTION]
    cos, sin = angles.cos()[..., None, :], angles.sin()[..., None, :]
    wide = [rotate(layer_norm(z.float().unflatten(-1, (2, 16))), cos, sin) for z in (q, k)]
    wide[0] = wide[0] * scale[..., None, None]
    for found, expected in zip((found_q, found_k), wide, strict=True):
        assert torch.equal(found.transpose(1, 2), expected.bfloat16())
    assert torch.equal(found_v.transpose(1, 2), v.unflatten(-1, (2, 16)))


@pytest.mark.parametrize(
    ("config", "prediction", "channels"),
    [
        (FlowConfig(), "x0", 3),
        (FlowConfig(), "velocity", 3),
        (DDPMConfig(), "v", 3),
        (DDPMConfig(learned_variance=True), "eps", 6),
    ],
)
def test_a_loss_is_that_of_the_same_prediction_in_fp32(config, prediction, channels):
    process = build_process(config, TimeConvention(), prediction)
    (out,) = halves(2, channels, 8, 12)
    eps, t = torch.randn(X.shape, generator=torch.Generator().manual_seed(2)), T / 1000
    with autocast():
        found = process.loss(lambda *_: out, X, eps, t, Y)
    assert found.dtype == torch.float32
    assert torch.equal(found, process.loss(lambda *_: out.float(), X, eps, t, Y))


def test_loss_and_gradients_of_a_step_are_fp32_and_near_those_without_autocast():
    model = build().transformer
    batch = {"number": torch.tensor([4, 9]), "image": X, "label": Y}
    process = build_process(FlowConfig(), TimeConvention(), "velocity")
    objective = Objective(process, 0, 3, 0.1, torch.device("cpu"), patch=2)
    expected = objective(model, batch)
    with autocast():
        loss = objective(model, batch)
    assert loss.dtype == torch.float32
    assert loss != expected
    torch.testing.assert_close(loss, expected, rtol=5e-3, atol=0)
    loss.backward()
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float32}
