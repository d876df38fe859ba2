"""What a diffusers DiTPipeline's folder tells of its model, read without torch."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffgen.config.stored import read_json
from diffgen.errors import UserError

CLASSES = ("DiTTransformer2DModel", "Transformer2DModel")
# Settings diffgen's DiT has one form of. Older configurations leave some out.
FIXED = {
    "norm_type": "ada_norm_zero",
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "norm_elementwise_affine": False,
    "cross_attention_dim": None,
    "num_vector_embeds": None,
    "only_cross_attention": False,
    "double_self_attention": False,
}
DEFAULTS = {"out_channels": None, "norm_eps": 1e-5, "num_embeds_ada_norm": 1000}
NEEDED = ("num_attention_heads", "attention_head_dim", "in_channels", "num_layers", "sample_size")


def is_dit_pipeline(index: Mapping[str, Any]) -> bool:
    """True for the ``model_index.json`` of a DiTPipeline."""
    return index.get("_class_name") == "DiTPipeline"


def dit_settings(folder: Path, field: str = "source") -> dict[str, Any]:
    """The ``config.json`` of a DiTPipeline's transformer in ``folder``.

    Raises:
        UserError: it is missing, of another model, or has a setting diffgen's DiT lacks.
    """
    path = folder / "config.json"
    config = DEFAULTS | read_json(path, field, f"{path} is missing")
    name = config.get("_class_name")
    if name == "DiT":
        raise UserError(f"{field}: {folder} is diffgen's own; DiffGenPipeline loads it as it is")
    if name not in CLASSES:
        raise UserError(f"{field}: {folder} is a {name}, not a DiT of diffusers")
    for key, wanted in FIXED.items():
        if config.get(key, wanted) != wanted:
            raise UserError(
                f"{field}: {path} has {key} {config[key]!r}; diffgen's DiT can express only "
                f"{wanted!r}"
            )
    for key in (*NEEDED, "patch_size", "num_embeds_ada_norm"):
        if type(config.get(key)) is not int or config[key] < 1:
            raise UserError(f"{field}: {path} has {key} {config.get(key)!r}, not a whole number")
    channels, eps = config["in_channels"], config["norm_eps"]
    if config["out_channels"] not in (None, channels, 2 * channels):
        raise UserError(f"{field}: {path} has out_channels {config['out_channels']!r}")
    if not isinstance(eps, float) or not 0 < eps < 1:
        raise UserError(f"{field}: {path} has norm_eps {eps!r}, not between 0 and 1")
    return config


def class_names(index: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """Names of all ``count`` classes from a pipeline's ``id2label``; empty: it names not all.

    Of synonyms ("tench, Tinca tinca") the first is taken unless two classes share it.
    """
    stated = index.get("id2label")
    if not isinstance(stated, Mapping):
        return ()
    full = [str(stated[str(k)]) for k in range(count) if str(k) in stated]
    if len(full) < count:
        return ()
    short = [name.split(",")[0].strip() for name in full]
    often = Counter(short)
    return tuple(s if often[s] == 1 else f for s, f in zip(short, full, strict=True))
