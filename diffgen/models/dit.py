"""DiT, the one backbone (Peebles and Xie 2023), on tokens that carry their coordinates."""

from typing import Any, get_args

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from diffgen.config.model import Attention, DiTConfig, Prediction, TimeConvention
from diffgen.config.positions import (
    Positions,
    Scaling,
    Temperature,
    position_changes,
    read_position,
)
from diffgen.models.attention import Layout, Packed, Padded
from diffgen.models.blocks import Block, FinalLayer, modulation
from diffgen.models.embedders import LabelEmbedder, TimestepEmbedder, TokenEmbedder
from diffgen.models.tokens import grid_coords, patchify, unpatchify
from diffgen.positions import Position, build_position


class DiT(ModelMixin, ConfigMixin):
    """A diffusion transformer with adaLN-Zero, saved and loaded as a diffusers model.

    Args:
        sample_size: height and width it is trained at [pixels or latent pixels]; others work.
        in_channels: channels of x.
        out_channels: channels predicted; None: as many as x has.
        patch_size: side of a token [pixels].
        hidden_size, depth, num_heads: width of a token, blocks, heads.
        mlp: "mlp" or "swiglu". mlp_ratio: hidden width over token width.
        qk_norm: LayerNorm (no weights) on queries and keys.
        adaln_rank: rank of AdaLN-LoRA with its global branch; None: adaLN-Zero in full.
        mlp_norm_eps: of the norm before the feed-forward.
        time_freq_shift: see TimestepEmbedder.
        num_classes: classes; label ``num_classes`` is the null class; 0: unconditional.
        position: a positional encoding's configuration as a mapping, e.g. {"kind": "rope"}.
        time: how ``t`` is written, {"direction": "noise" | "data", "scale": 1 | 1000}.
        prediction: what the output means, for the process: "velocity", whose sign follows
            ``direction`` (eps - x0 for "noise"), "eps", "v" or "x0".
        guidance_channels: classifier-free guidance acts on the first so many channels, as the
            released DiT, SiT and FiT sample (3); None: on all.

    ``model.attention`` picks the backend of attention, see diffgen.models.attention.

    Raises:
        ValueError: options that do not exist or do not fit each other; they are named.
    """

    _supports_gradient_checkpointing = False

    @register_to_config
    def __init__(
        self,
        sample_size: tuple[int, int] = (32, 32),
        in_channels: int = 3,
        out_channels: int | None = None,
        patch_size: int = 4,
        hidden_size: int = 128,
        depth: int = 4,
        num_heads: int = 8,
        mlp: str = "swiglu",
        mlp_ratio: float = 4.0,
        qk_norm: bool = True,
        adaln_rank: int | None = None,
        mlp_norm_eps: float = 1e-6,
        time_freq_shift: int = 0,
        num_classes: int = 8,
        position: dict[str, Any] | None = None,
        time: dict[str, Any] | None = None,
        prediction: Prediction = "velocity",
        guidance_channels: int | None = None,
    ) -> None:
        super().__init__()
        position_config = read_position(position)
        self.convention = TimeConvention.model_validate(time or {})
        if prediction not in get_args(Prediction):
            raise ValueError(
                f"prediction must be one of {get_args(Prediction)}, not {prediction!r}"
            )
        _check_widths(hidden_size, num_heads, mlp, position_config)
        _check_numbers(adaln_rank, mlp_norm_eps, time_freq_shift, guidance_channels)
        features = in_channels * patch_size**2
        self.x_embedder = TokenEmbedder(features, hidden_size)
        self.t_embedder = TimestepEmbedder(hidden_size, shift=time_freq_shift)
        self.y_embedder = LabelEmbedder(num_classes, hidden_size)
        self.grid = (max(1, sample_size[0] // patch_size), max(1, sample_size[1] // patch_size))
        self.encoding = build_position(position_config, hidden_size, num_heads, self.grid)
        self.global_adaLN_modulation = modulation(hidden_size, None) if adaln_rank else None
        self.blocks = nn.ModuleList(
            Block(hidden_size, num_heads, mlp, mlp_ratio, qk_norm, adaln_rank, mlp_norm_eps)
            for _ in range(depth)
        )
        out_features = (out_channels or in_channels) * patch_size**2
        self.final_layer = FinalLayer(hidden_size, out_features)
        self.patch_size = patch_size
        self.num_classes = num_classes
        self.attention: Attention = "auto"
        self._stated_encoding: Position | None = None  # while another one is used
        self._initialise()

    @classmethod
    def build(
        cls,
        config: DiTConfig,
        *,
        num_classes: int,
        in_channels: int,
        sample_size: tuple[int, int],
        learned_variance: bool = False,
    ) -> "DiT":
        """The model a configuration describes, for data of the given classes and channels.

        With ``learned_variance`` it has twice as many output channels.
        """
        model = cls(
            sample_size=sample_size,
            in_channels=in_channels,
            out_channels=2 * in_channels if learned_variance else None,
            patch_size=config.patch_size,
            hidden_size=config.hidden_size,
            depth=config.depth,
            num_heads=config.num_heads,
            mlp=config.mlp,
            mlp_ratio=config.mlp_ratio,
            qk_norm=config.qk_norm,
            adaln_rank=config.lora_rank,
            mlp_norm_eps=config.mlp_norm_eps,
            time_freq_shift=config.time_freq_shift,
            num_classes=num_classes,
            position=config.position.model_dump(),
            time=config.time.model_dump(),
            prediction=config.prediction,
            guidance_channels=config.guidance_channels,
        )
        model.attention = config.attention
        return model

    def use_position(self, scaling: Scaling | None, temperature: Temperature | None) -> None:
        """Draw with another frequency scaling or logit temperature than ``config`` states.

        None: as it states. The configuration, and so what is saved, stays as it is.

        Raises:
            ValueError: a scaling for an encoding that is not rotary.
        """
        if scaling is None and temperature is None:
            self.encoding = self._stated_encoding or self.encoding
            return
        self._stated_encoding = self._stated_encoding or self.encoding
        stated = read_position(self.config.position)
        changes = position_changes(stated, scaling, temperature)
        changed = read_position({**stated.model_dump(), **changes})
        width, heads = self.config.hidden_size, self.config.num_heads
        _check_position(width, heads, changed)
        self.encoding = build_position(changed, width, heads, self.grid)

    def _initialise(self) -> None:
        """Xavier for linears, N(0, 0.02) for time and labels, zero for gates and output (DiT)."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.y_embedder.embedding_table.weight, std=0.02)
        for parameter in self.t_embedder.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)
        heads = [m[-1] for n, m in self.named_modules() if n.endswith("adaLN_modulation")]
        for head in heads:
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
        nn.init.zeros_(self.final_layer.linear.weight)
        nn.init.zeros_(self.final_layer.linear.bias)

    def forward(
        self, x: Tensor, t: Tensor, y: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Predict from noisy images.

        Args:
            x: (B, C, H, W) float; H and W any multiples of the patch.
            t: (B,) times in the model's own convention (``self.convention``).
            y: (B,) int64 labels; ``num_classes`` is the null class.
            generator: for encodings that draw positions.

        Returns:
            (B, C_out, H, W).
        """
        rows, columns = x.shape[-2] // self.patch_size, x.shape[-1] // self.patch_size
        tokens = patchify(x, self.patch_size)
        coords = grid_coords(rows, columns, x.device).expand(x.shape[0], -1, -1)
        sizes = coords.new_tensor([rows, columns]).expand(x.shape[0], 2)
        out = self.forward_tokens(tokens, coords, t, y, sizes=sizes, generator=generator)
        return unpatchify(out, rows, columns, self.patch_size)

    def forward_tokens(
        self,
        tokens: Tensor,
        coords: Tensor,
        t: Tensor,
        y: Tensor,
        mask: Tensor | None = None,
        sizes: Tensor | None = None,
        lengths: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Predict from tokens, padded or packed.

        Args:
            tokens: (B, N, C p^2), channel-major (c, row, column); packed: (sum N, C p^2).
            coords: (B, N, 2) float (row, column); packed: (sum N, 2).
            t, y: (B,) as in ``forward``.
            mask: (B, N) bool, True = real; None: all are. Padded positions come out as 0.
            sizes: (B, 2) full grid in tokens; None: the smallest that holds the real coords.
            lengths: (B,) int64 makes the batch a packed one.
            generator: for encodings that draw positions.

        Returns:
            The shape of ``tokens``, with C_out in place of C.

        Raises:
            ValueError: both ``mask`` and ``lengths``, or lengths that do not sum to the tokens.
        """
        layout = _layout(tokens, mask, lengths, self.attention)
        grid = layout.spread(layout.full_size(coords) if sizes is None else sizes)
        noise_time = layout.spread(self.noise_time(t))
        coords = self.encoding.place(coords, grid, generator)
        x = self.x_embedder(tokens)
        added = self.encoding.embed(coords, grid)
        if added is not None:
            x = x + added.to(x.dtype)
        angles = self.encoding.rotation(coords, grid, noise_time)
        rotation = None
        if angles is not None:  # one axis more, for the heads
            rotation = (angles.cos()[..., None, :], angles.sin()[..., None, :])
        logit_scale = self.encoding.logit_scale(grid)
        if logit_scale is not None:
            logit_scale = logit_scale[..., None, None]
        condition = self.t_embedder(t) + self.y_embedder(y)
        branch = self.global_adaLN_modulation
        shared = None if branch is None else branch(condition)
        for block in self.blocks:
            x = block(x, condition, layout, rotation, logit_scale, shared)
        out = self.final_layer(x, condition, layout)
        return out if mask is None else out * mask[..., None]

    def noise_time(self, t: Tensor) -> Tensor:
        """Times in the model's convention -> diffgen's, in [0, 1] with 1 = pure noise."""
        t = t / self.convention.scale
        return t if self.convention.direction == "noise" else 1 - t


def _check_widths(hidden_size: int, num_heads: int, mlp: str, position: Positions) -> None:
    if mlp not in ("mlp", "swiglu"):
        raise ValueError(f"mlp must be 'mlp' or 'swiglu', not {mlp!r}")
    if hidden_size % num_heads:
        raise ValueError(f"num_heads {num_heads} does not divide hidden_size {hidden_size}")
    _check_position(hidden_size, num_heads, position)


def _check_numbers(rank: Any, eps: Any, shift: Any, guided: Any) -> None:
    for name, value in (("adaln_rank", rank), ("guidance_channels", guided)):
        if value is not None and (type(value) is not int or value < 1):
            raise ValueError(f"{name} must be None or 1 or more, not {value!r}")
    if type(eps) not in (int, float) or not 0 < eps < 1:
        raise ValueError(f"mlp_norm_eps must be between 0 and 1, not {eps!r}")
    if shift not in (0, 1):
        raise ValueError(f"time_freq_shift must be 0 or 1, not {shift!r}")


def _check_position(hidden_size: int, num_heads: int, position: Positions) -> None:
    for problem in position.misfits(hidden_size, num_heads):
        raise ValueError(problem)


def _layout(
    tokens: Tensor, mask: Tensor | None, lengths: Tensor | None, backend: Attention
) -> Layout:
    if lengths is None:
        return Padded(mask, backend)
    if mask is not None:
        raise ValueError("give mask (padded) or lengths (packed), not both")
    if tokens.ndim != 2 or int(lengths.sum()) != tokens.shape[0]:
        raise ValueError(
            f"packed tokens must be (sum of lengths, features); lengths sum to "
            f"{int(lengths.sum())}, tokens are {tuple(tokens.shape)}"
        )
    return Packed(lengths, backend)
