"""The backbone: widths, depth, and the convention its time input is written in."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from diffgen.config.base import ReadNumber, Section
from diffgen.config.positions import PositionConfig, SinCosConfig

# depth, hidden size, heads; S to XL are DiT's (Peebles and Xie 2023, table 1) and SiT's, the last
# three FiTv2's (Wang et al. 2024, table 1; XL and 3B as released)
SIZES: dict[str, tuple[int, int, int]] = {
    "demo": (4, 128, 8),
    "S": (12, 384, 6),
    "B": (12, 768, 12),
    "L": (24, 1024, 16),
    "XL": (28, 1152, 16),
    "FiTv2-B": (15, 768, 12),
    "FiTv2-XL": (36, 1152, 16),
    "FiTv2-3B": (40, 2304, 24),
}


Prediction = Literal["velocity", "eps", "v", "x0"]
Attention = Literal["auto", "sdpa", "varlen", "xformers"]
MicroConditioning = Literal["none", "pixels", "canvas"]


def attention_problems(asked: Attention, cuda: bool, half: bool) -> Iterator[str]:
    """Why a backend cannot run on a GPU (``cuda``) or without, in bf16 (``half``) or fp32."""
    if asked in ("auto", "sdpa"):
        return
    if not cuda:
        yield f"attention: {asked} needs a GPU; take sdpa or auto"
    elif asked == "varlen" and not half:
        yield "attention: varlen needs bf16; take sdpa or auto in fp32"
    if asked == "xformers" and find_spec("xformers") is None:
        yield "attention: xformers is not installed (pip install 'diffgen[gpu]')"


class TimeConvention(Section):
    """How the model's own time input is written."""

    direction: Literal["noise", "data"] = "noise"
    """What the largest time means: noise (diffgen, DiT) or data (SiT, FiTv2)."""
    scale: Annotated[Literal[1, 1000], ReadNumber] = 1000
    """Largest time [dimensionless]: 1, or 1000 as for discrete DDPM steps."""


class DiTConfig(Section):
    """A diffusion transformer with adaLN-Zero blocks."""

    size: Literal["demo", "S", "B", "L", "XL", "FiTv2-B", "FiTv2-XL", "FiTv2-3B"] = "demo"
    """Named size; depth, hidden_size and num_heads follow it unless they are given."""
    depth: int = Field(default=4, ge=1)
    """Transformer blocks [count]."""
    hidden_size: int = Field(default=128, ge=8)
    """Width of a token [channels]."""
    num_heads: int = Field(default=8, ge=1)
    """Attention heads [count]; must divide hidden_size."""
    patch_size: Annotated[Literal[1, 2, 4, 8], ReadNumber] = 4
    """Side of the square patch that becomes a token [pixels]."""
    mlp: Literal["mlp", "swiglu"] = "swiglu"
    """Feed-forward: GELU MLP (DiT) or SwiGLU (FiT)."""
    mlp_ratio: float = Field(default=4.0, ge=0.5, le=64)
    """Hidden width over token width; SwiGLU takes 2/3 of it at equal cost [ratio]."""
    qk_norm: bool = True
    """Normalise queries and keys before attention."""
    adaln: Literal["zero", "lora"] = "zero"
    """Modulation by time and class: adaLN-Zero in full for every block (DiT), or of low rank with
    a branch all blocks share (FiTv2)."""
    adaln_rank: int | None = Field(default=None, ge=1)
    """Rank of adaln lora [channels]; none: hidden_size / 4."""
    mlp_norm_eps: float = Field(default=1e-6, gt=0, le=1e-2)
    """Added to the variance in the norm before the feed-forward; diffusers' DiT has 1e-5."""
    time_freq_shift: Annotated[Literal[0, 1], ReadNumber] = 0
    """Frequencies of the time's sinusoids: DiT's, 10000^(-j / 128), or with 1 those of diffusers'
    DiT, 10000^(-j / 127)."""
    guidance_channels: int | None = Field(default=None, ge=1)
    """Guidance acts on the first so many channels, as released DiT, SiT and FiT are sampled (3);
    none: on all."""
    attention: Attention = "auto"
    """Backend: sdpa (torch's), varlen (flash attention, no padding; a GPU and bf16), xformers (a
    GPU, extra gpu); auto: varlen for packed sequences in bf16, else sdpa."""
    position: PositionConfig = SinCosConfig()
    """Positional encoding."""
    micro: MicroConditioning = "none"
    """Micro-conditioning: tell the model which part of a picture it sees (size of the picture, top
    and left of the part). pixels: in the model's pixels (SDXL); canvas: in images of the trained
    size, so that a whole picture is told alike at every size. Drawing asks for a whole one."""
    micro_dropout: float | None = Field(default=None, ge=0, lt=1)
    """Share of training images of which micro tells nothing [0 to 1]; none: 0.1."""
    crop_coords: bool = False
    """Tokens of a crop have the coordinates they have in the whole picture; no: a crop is encoded
    as a picture of its own."""
    num_classes: int | None = Field(default=None, ge=0)
    """Classes [count]; none given: as many as the data has; 0: unconditional."""
    class_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of training labels replaced by the null class, for guidance [0 to 1]."""
    time: TimeConvention = TimeConvention()
    """Convention of the time input."""
    prediction: Prediction = "x0"
    """What the output means. process.kind flow: the velocity (SiT), or the clean image x0, from
    which the velocity follows (JiT), whose loss it takes. ddpm: x0, v or eps."""

    @model_validator(mode="before")
    @classmethod
    def _fill_named_size(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("size", "demo") not in SIZES:
            return values
        depth, hidden_size, num_heads = SIZES[values.get("size", "demo")]
        named = {"depth": depth, "hidden_size": hidden_size, "num_heads": num_heads}
        return {**named, **values}

    @property
    def lora_rank(self) -> int | None:
        """Rank of AdaLN-LoRA; None: adaLN-Zero in full."""
        if self.adaln == "zero":
            return None
        return self.adaln_rank or self.hidden_size // 4

    @property
    def untold(self) -> float | None:
        """Share of training images not told their crop; None: a model that never is."""
        if self.micro == "none":
            return None
        return 0.1 if self.micro_dropout is None else self.micro_dropout

    def problems(self) -> Iterator[str]:
        """Yield widths that do not fit each other."""
        if self.hidden_size % self.num_heads:
            yield (
                f"model.num_heads: {self.num_heads} does not divide "
                f"model.hidden_size {self.hidden_size}"
            )
            return
        if self.adaln_rank is not None and self.adaln == "zero":
            yield f"model.adaln_rank: {self.adaln_rank} has no effect with model.adaln zero"
        if self.micro_dropout is not None and self.micro == "none":
            yield f"model.micro_dropout: {self.micro_dropout} has no effect with model.micro none"
        if self.crop_coords and self.position.kind == "none":
            yield "model.crop_coords: it has no effect with model.position none"
        for problem in self.position.misfits(self.hidden_size, self.num_heads):
            yield f"model.{problem}"
