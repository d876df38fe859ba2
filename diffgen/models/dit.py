"""DiT, the one backbone (Peebles and Xie 2023), on tokens that carry their coordinates."""

from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from diffgen.config.base import token_grid
from diffgen.config.model import Attention, DiTConfig, MicroConditioning, Prediction, TimeConvention
from diffgen.config.positions import PositionOverrides, position_changes, read_position
from diffgen.models.adapter import Adapter
from diffgen.models.attention import layout_of
from diffgen.models.blocks import Block, FinalLayer, modulation
from diffgen.models.embedders import CropEmbedder, LabelEmbedder, TimestepEmbedder, TokenEmbedder
from diffgen.models.initial import initialise
from diffgen.models.options import check_choices, check_numbers, check_widths
from diffgen.models.route import Route
from diffgen.models.tokens import grid_coords, patchify, unpatchify
from diffgen.models.trunk import Given, through_blocks
from diffgen.positions import Draws, Position, build_position
from diffgen.transfer import values_like


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
        micro: "pixels" or "canvas": it is told which part of a picture it sees, see ``condition``.
        crop_coords: tokens of a crop have the coordinates they have in the whole picture.

    ``model.attention`` picks the backend of attention, see diffgen.models.attention.

    Raises:
        ValueError: options that do not exist or do not fit each other; they are named.
    """

    _supports_gradient_checkpointing = True

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
        micro: MicroConditioning = "none",
        crop_coords: bool = False,
    ) -> None:
        super().__init__()
        position_config = read_position(position)
        self.convention = TimeConvention.model_validate(time or {})
        check_choices(prediction, micro, mlp)
        check_widths(hidden_size, num_heads, position_config)
        check_numbers(adaln_rank, mlp_norm_eps, time_freq_shift, guidance_channels)
        features = in_channels * patch_size**2
        self.x_embedder = TokenEmbedder(features, hidden_size)
        self.t_embedder = TimestepEmbedder(hidden_size, shift=time_freq_shift)
        self.y_embedder = LabelEmbedder(num_classes, hidden_size)
        self.crop_embedder = CropEmbedder(hidden_size) if micro != "none" else None
        self.grid = position_config.trained(token_grid(sample_size, patch_size))
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
        self.gradient_checkpointing = False  # diffusers' enable_gradient_checkpointing sets it
        self._stated_encoding: Position | None = None  # while another one is used
        initialise(self)

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
            micro=config.micro,
            crop_coords=config.crop_coords,
        )
        model.attention = config.attention
        return model

    def use_position(self, overrides: PositionOverrides) -> None:
        """Draw with ``overrides`` of what ``config`` states of the encoding; none: as it states.

        The configuration, and so what is saved, stays as it is.

        Raises:
            ValueError: the encoding has no such field.
        """
        stated = read_position(self.config.position)
        changes = position_changes(stated, overrides)
        if not changes:
            self.encoding = self._stated_encoding or self.encoding
            return
        self._stated_encoding = self._stated_encoding or self.encoding
        changed = read_position({**stated.model_dump(), **changes})
        width, heads = self.config.hidden_size, self.config.num_heads
        check_widths(width, heads, changed)
        self.encoding = build_position(changed, width, heads, self.grid)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        y: Tensor,
        coords: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        sizes: Tensor | None = None,
        lengths: Tensor | None = None,
        crop: Tensor | None = None,
        told: Tensor | None = None,
        generator: Draws = None,
        adapter: Adapter | None = None,
        route: Route | None = None,
    ) -> Tensor:
        """Predict from noisy images; with ``coords`` from tokens, see ``forward_tokens``.

        Args:
            x: (B, C, H, W) float; H and W any multiples of the patch.
            t: (B,) times in the model's own convention (``self.convention``).
            y: (B,) int64 labels; ``num_classes`` is the null class.
            crop: (B, 4) of a model with ``micro`` or ``crop_coords``, which part of a picture this
                is: height and width of the picture, top and left of the part [the model's pixels];
                None: the whole of one.
            told: (B,) bool, False: the crop is not embedded; None: all are.
            generator: for encodings that draw positions; None outside training.
            adapter: what works beside the model's own weights in this pass.
            route: tokens that skip some blocks, for training; None: none does.

        Returns:
            (B, C_out, H, W).

        Raises:
            ValueError: a side the patch does not divide, a grid over the encoding's range, or
                ``crop`` for a model that has no use for it.
        """
        rest = (crop, told, generator, adapter, route)
        if coords is not None:
            return self.forward_tokens(x, coords, t, y, mask, sizes, lengths, *rest)
        rows, columns = x.shape[-2] // self.patch_size, x.shape[-1] // self.patch_size
        tokens = patchify(x, self.patch_size)
        coords = grid_coords(rows, columns, x.device).expand(x.shape[0], -1, -1)
        sizes = values_like([rows, columns], coords).expand(x.shape[0], 2)
        out = self.forward_tokens(tokens, coords, t, y, None, sizes, None, *rest)
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
        crop: Tensor | None = None,
        told: Tensor | None = None,
        generator: Draws = None,
        adapter: Adapter | None = None,
        route: Route | None = None,
    ) -> Tensor:
        """Predict from tokens, padded or packed.

        Args:
            tokens: (B, N, C p^2), channel-major (c, row, column); packed: (sum N, C p^2).
            coords: (B, N, 2) float (row, column); packed: (sum N, 2).
            t, y, crop, told, generator, adapter, route: as in ``forward``.
            mask: (B, N) bool, True = real; None: all are. Padded positions come out as 0.
            sizes: (B, 2) full grid in tokens; None: the smallest that holds the real coords.
            lengths: (B,) int64 makes the batch a packed one.

        Returns:
            The shape of ``tokens``, with C_out in place of C.

        Raises:
            ValueError: both ``mask`` and ``lengths``, lengths that do not sum to the tokens, or
                what ``forward`` refuses.
        """
        layout = layout_of(tokens, mask, lengths, self.attention)
        sizes = layout.full_size(coords) if sizes is None else sizes
        condition = self.condition(t, y, sizes, crop, told)
        if adapter is not None:
            condition = adapter.condition(condition)
        logit_scale = self.encoding.logit_scale(layout.spread(sizes))  # of the crop alone
        if crop is not None and self.config.crop_coords:
            picture = self.encoding.picture(crop / self.patch_size, sizes)
            sizes, coords = picture[:, :2], coords + layout.spread(picture[:, 2:])
        coords = layout.back(self.encoding.place(layout.padded(coords), sizes[:, None], generator))
        grid, noise_time = layout.spread(sizes), layout.spread(self.noise_time(t))
        x = self.x_embedder(tokens)
        added = self.encoding.embed(coords, grid)
        x = x if added is None else x + added.to(x.dtype)
        angles = self.encoding.rotation(coords, grid, noise_time)
        rotation = None if angles is None else (angles.cos(), angles.sin())
        branch = self.global_adaLN_modulation
        shared = None if branch is None else branch(condition)
        given = Given(condition, layout, rotation, logit_scale, shared)
        checkpointing = self.gradient_checkpointing and torch.is_grad_enabled()
        run = self._gradient_checkpointing_func if checkpointing else None
        x = through_blocks(self.blocks, x, given, adapter, route, run)
        out = self.final_layer(x, condition, layout)
        return out if mask is None else out * mask[..., None]

    def condition(
        self,
        t: Tensor,
        y: Tensor,
        sizes: Tensor,
        crop: Tensor | None = None,
        told: Tensor | None = None,
    ) -> Tensor:
        """(B, hidden size): what modulates every block, of images of ``sizes`` (B, 2) tokens.

        With ``micro`` "canvas" the numbers of ``crop`` count in images of the trained size: the
        whole of a picture is told alike at every size. "pixels": as they are.
        """
        condition = self.t_embedder(t) + self.y_embedder(y)
        if self.crop_embedder is None:
            if crop is not None and not self.config.crop_coords:
                raise ValueError("crop is given to a model without micro-conditioning")
            return condition
        own = sizes.float() * self.patch_size
        if crop is None:
            crop = torch.cat([own, torch.zeros_like(own)], dim=-1)
        if self.config.micro == "canvas":
            trained = values_like(self.grid, own) * self.patch_size
            crop = crop * (trained / own).repeat(1, 2)
        embedded = self.crop_embedder(crop)
        return condition + (embedded if told is None else embedded * told[:, None])

    def noise_time(self, t: Tensor) -> Tensor:
        """Times in the model's convention -> diffgen's, in [0, 1] with 1 = pure noise."""
        t = t / self.convention.scale
        return t if self.convention.direction == "noise" else 1 - t
