"""The released DiT implementation's numbers, and a model with its weights."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from diffgen.models.dit import DiT

GOLDEN = Path(__file__).parents[1] / "data/golden/dit.safetensors"


def _released_dit(prediction: str = "velocity") -> tuple[DiT, dict[str, torch.Tensor]]:
    """The golden model: its convolution flattened, its output channels brought to the front."""
    golden = load_file(GOLDEN)
    model = DiT(
        sample_size=(8, 8),
        in_channels=4,
        out_channels=8,
        patch_size=2,
        hidden_size=48,
        depth=2,
        num_heads=2,
        mlp="mlp",
        qk_norm=False,
        num_classes=10,
        position={"kind": "sincos"},
        time={"scale": 1000},
        prediction=prediction,
    )
    weights = {
        name.removeprefix("weights."): tensor
        for name, tensor in golden.items()
        if name.startswith("weights.") and name != "weights.pos_embed"
    }
    weights["x_embedder.proj.weight"] = weights["x_embedder.proj.weight"].flatten(1)
    for name in ("final_layer.linear.weight", "final_layer.linear.bias"):
        rows = weights[name].unflatten(0, (4, 8))  # (p1 p2, c)
        weights[name] = rows.transpose(0, 1).flatten(0, 1).contiguous()
    model.load_state_dict(weights)  # strict: nothing is left over on either side
    return model, golden


@pytest.fixture(scope="session")
def released_dit():
    """``released_dit(prediction)`` gives the model and every golden tensor by name."""
    return _released_dit
