"""The weights a DiT starts from."""

from typing import Any

from torch import nn


def initialise(model: Any) -> None:
    """Xavier for linears, N(0, 0.02) for time, label and crop, zero for gates and output (DiT)."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    nn.init.normal_(model.y_embedder.embedding_table.weight, std=0.02)
    for embedder in (model.t_embedder, model.crop_embedder):
        for parameter in embedder.parameters() if embedder else ():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)
    heads = [m[-1] for n, m in model.named_modules() if n.endswith("adaLN_modulation")]
    for head in [*heads, model.final_layer.linear]:
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
