"""Pairwise pointmaps: two pictures of one held object in, for every pixel of both its place in the first view's frame.

Shape of the network: DUSt3R (Wang et al., CVPR 2024) and MASt3R (Leroy et al., ECCV 2024): one vision transformer
encodes both pictures, two decoders look across at each other, a head per view gives points and confidence; and here a
second head tells hand, object and background apart. `pointmap_checkpoint.py` reads weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from hoi_ros.config import setting
from hoi_ros.errors import InputError

MASK_CLASSES = ("background", "object", "hand")
_ROPE_BASE = 100.0
_NORM_EPSILON = 1e-6
_DPT_WIDTHS = (96, 192, 384, 768)


@dataclass(frozen=True)
class PointmapNetworkConfig:
    """Sizes of the network."""

    patch_px: int = setting(16, "side of the square patches that become tokens", low=4, high=32)
    image_px: int = setting(128, "side of the square crops that it was trained on", low=32, high=1024)
    encoder_width: int = setting(224, "numbers a token carries in the encoder", low=16)
    encoder_depth: int = setting(6, "layers of the encoder", low=1)
    encoder_heads: int = setting(7, "attention heads of the encoder", low=1)
    decoder_width: int = setting(224, "numbers a token carries in the decoders", low=16)
    decoder_depth: int = setting(4, "layers of each decoder", low=1)
    decoder_heads: int = setting(7, "attention heads of the decoders", low=1)
    head: str = setting(
        "linear", "linear: a point per pixel from each token; dpt: fused scales", choices=("linear", "dpt")
    )
    dpt_width: int = setting(256, "channels of the dpt head", low=8)
    output: str = setting(
        "centred",
        "centred: points about the crop's middle in half crop sides; camera: points from the camera, scale unknown",
        choices=("centred", "camera"),
    )
    stem: str = setting(
        "convolutions", "tokens from strided convolutions (learn from fewer pairs) or from patches, as published",
        choices=("convolutions", "patches"),
    )  # fmt: skip


COMPACT = PointmapNetworkConfig()
PUBLISHED = PointmapNetworkConfig(16, 512, 1024, 24, 16, 768, 12, 12, "dpt", 256, "camera", "patches")


@dataclass(frozen=True)
class PairPrediction:
    """What the network says of B pairs; index 1 of each array is the view."""

    points: Tensor
    """(B, 2, H, W, 3) in the first view's frame, unit as `PointmapNetworkConfig.output` says."""
    confidence: Tensor
    """(B, 2, H, W), above 1; larger is surer."""
    mask_logits: Tensor | None
    """(B, 2, 3, H, W) of MASK_CLASSES; None when the weights hold no trained mask head."""


class Mlp(nn.Module):
    """Two layers with a GELU between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, C) to (B, N, C)."""
        return self.down(functional.gelu(self.up(tokens)))


class Rotary(nn.Module):
    """Turns queries and keys by their patch's row (first half of a head) and column (second half): RoPE in 2D."""

    frequencies: Tensor

    def __init__(self, head_width: int) -> None:
        super().__init__()
        half = head_width // 2
        steps = torch.arange(0, half, 2, dtype=torch.float32) / half
        self.register_buffer("frequencies", _ROPE_BASE**-steps, persistent=False)

    def phases(self, rows: int, columns: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines (rows * columns, 2, half) of every patch."""
        device = self.frequencies.device
        grid = torch.meshgrid(torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij")
        place = torch.stack(grid, -1).reshape(-1, 2, 1).float()
        angle = (place * self.frequencies).repeat(1, 1, 2)
        return angle.cos(), angle.sin()

    @staticmethod
    def turn(tokens: Tensor, phases: tuple[Tensor, Tensor]) -> Tensor:
        """(B, heads, N, head_width) turned by the phases of its N patches."""
        parts = tokens.unflatten(-1, (2, -1))
        low, high = parts.chunk(2, -1)
        cosine, sine = (p.to(tokens.dtype) for p in phases)
        return (parts * cosine + torch.cat([-high, low], -1) * sine).flatten(-2)


Phases = tuple[Tensor, Tensor]


class SelfAttention(nn.Module):
    """Tokens of one view among themselves."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, tokens: Tensor, phases: Phases) -> Tensor:
        """(B, N, C) to (B, N, C)."""
        query, key, value = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key = Rotary.turn(query, phases), Rotary.turn(key, phases)
        mixed = _attend(query, key, value)
        return self.out(mixed.transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    """Tokens of one view asking the other's."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor, memory: Tensor, phases: Phases, memory_phases: Phases) -> Tensor:
        """(B, N, C) asking (B, M, C), to (B, N, C)."""
        parts = [
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, x in ((self.query, tokens), (self.key, memory), (self.value, memory))
        ]
        query, key = Rotary.turn(parts[0], phases), Rotary.turn(parts[1], memory_phases)
        mixed = _attend(query, key, parts[2])
        return self.out(mixed.transpose(1, 2).flatten(2))


class EncoderLayer(nn.Module):
    """Self-attention, then an MLP, both residual with the norm first."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_attention, self.attention = _norm(width), SelfAttention(width, heads)
        self.norm_mlp, self.mlp = _norm(width), Mlp(width)

    def forward(self, tokens: Tensor, phases: Phases) -> Tensor:
        """(B, N, C) to (B, N, C)."""
        tokens = tokens + self.attention(self.norm_attention(tokens), phases)
        return tokens + self.mlp(self.norm_mlp(tokens))


class DecoderLayer(nn.Module):
    """Self-attention, a look at the other view, then an MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_attention, self.attention = _norm(width), SelfAttention(width, heads)
        self.norm_memory, self.norm_cross, self.cross = _norm(width), _norm(width), CrossAttention(width, heads)
        self.norm_mlp, self.mlp = _norm(width), Mlp(width)

    def forward(self, tokens: Tensor, memory: Tensor, phases: Phases, memory_phases: Phases) -> Tensor:
        """(B, N, C) with the other view's (B, M, C), to (B, N, C)."""
        tokens = tokens + self.attention(self.norm_attention(tokens), phases)
        tokens = tokens + self.cross(self.norm_cross(tokens), self.norm_memory(memory), phases, memory_phases)
        return tokens + self.mlp(self.norm_mlp(tokens))


class LinearHead(nn.Module):
    """Each token spreads into its patch of pixels."""

    def __init__(self, config: PointmapNetworkConfig, channels: int) -> None:
        super().__init__()
        self.patch_px = config.patch_px
        self.project = nn.Linear(config.decoder_width, channels * config.patch_px**2)

    def forward(self, stages: list[Tensor], rows: int, columns: int) -> Tensor:
        """Tokens (B, N, C) of every stage, the last of which is used, to (B, channels, H, W)."""
        image = self.project(stages[-1]).transpose(1, 2).unflatten(2, (rows, columns))
        return functional.pixel_shuffle(image, self.patch_px)


class ResidualConvolutions(nn.Module):
    """Two 3x3 convolutions beside an identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C, h, w)."""
        return image + self.second(functional.relu(self.first(functional.relu(image))))


class FusionStage(nn.Module):
    """Adds a finer scale to what came from the coarser ones and doubles the size."""

    def __init__(self, width: int, coarsest: bool) -> None:
        super().__init__()
        self.before = None if coarsest else ResidualConvolutions(width)
        self.after, self.out = ResidualConvolutions(width), nn.Conv2d(width, width, 1)

    def forward(self, coarse: Tensor | None, fine: Tensor) -> Tensor:
        """(B, C, h, w) of both to (B, C, 2h, 2w); the coarsest stage has nothing coarser."""
        if coarse is not None and self.before is not None:
            coarse = coarse[..., : fine.shape[2], : fine.shape[3]]
            fine = coarse + self.before(fine)
        return self.out(_doubled(self.after(fine)))


class DptHead(nn.Module):
    """Four stages of tokens brought to four scales and fused from coarse to fine (Ranftl et al., ICCV 2021)."""

    def __init__(self, config: PointmapNetworkConfig, channels: int) -> None:
        super().__init__()
        depth, width = config.decoder_depth, config.dpt_width
        self.stages = (0, depth // 2, depth * 3 // 4, depth)
        token_widths = (config.encoder_width, *[config.decoder_width] * 3)
        self.project = nn.ModuleList(nn.Conv2d(c, w, 1) for c, w in zip(token_widths, _DPT_WIDTHS))
        w = _DPT_WIDTHS
        self.resize = nn.ModuleList(
            [
                nn.ConvTranspose2d(w[0], w[0], 4, 4),
                nn.ConvTranspose2d(w[1], w[1], 2, 2),
                nn.Identity(),
                nn.Conv2d(w[3], w[3], 3, 2, 1),
            ]
        )
        self.adapt = nn.ModuleList(nn.Conv2d(c, width, 3, padding=1, bias=False) for c in w)
        self.fuse = nn.ModuleList(FusionStage(width, coarsest=k == 3) for k in range(4))
        self.smooth = nn.Conv2d(width, width // 2, 3, padding=1)
        self.refine = nn.Conv2d(width // 2, width // 2, 3, padding=1)
        self.out = nn.Conv2d(width // 2, channels, 1)
        self.patch_px = config.patch_px

    def forward(self, stages: list[Tensor], rows: int, columns: int) -> Tensor:
        """Tokens (B, N, C) of every stage to (B, channels, H, W)."""
        path: Tensor | None = None
        for k in (3, 2, 1, 0):
            image = stages[self.stages[k]].transpose(1, 2).unflatten(2, (rows, columns))
            path = self.fuse[k](path, self.adapt[k](self.resize[k](self.project[k](image))))
        assert path is not None
        image = functional.relu(self.refine(_doubled(self.smooth(path))))
        size = (rows * self.patch_px, columns * self.patch_px)
        image = self.out(image)
        return image if image.shape[2:] == size else functional.interpolate(image, size, mode="bilinear")


class PointmapNetwork(nn.Module):
    """Pairs of pictures in, pointmaps of both in the first one's frame out."""

    def __init__(self, config: PointmapNetworkConfig = COMPACT) -> None:
        """Fresh weights.

        Raises:
            InputError: a head's width is no multiple of 4.
        """
        super().__init__()
        for width, heads in (
            (config.encoder_width, config.encoder_heads),
            (config.decoder_width, config.decoder_heads),
        ):
            if width % (4 * heads):
                raise InputError(f"pointmap network: width {width} over {heads} heads: give a multiple of {4 * heads}")
        self.config = config
        self.has_mask = True
        self.patches = _stem(config)
        self.encoder = nn.ModuleList(
            EncoderLayer(config.encoder_width, config.encoder_heads) for _ in range(config.encoder_depth)
        )
        self.encoder_norm = _norm(config.encoder_width)
        self.bridge = nn.Linear(config.encoder_width, config.decoder_width)
        self.decoders = nn.ModuleList(
            nn.ModuleList(DecoderLayer(config.decoder_width, config.decoder_heads) for _ in range(config.decoder_depth))
            for _ in range(2)
        )
        self.decoder_norm = _norm(config.decoder_width)
        head = LinearHead if config.head == "linear" else DptHead
        self.heads = nn.ModuleList(head(config, 4) for _ in range(2))
        self.mask_head = LinearHead(config, len(MASK_CLASSES))
        self.encoder_rotary = Rotary(config.encoder_width // config.encoder_heads)
        self.decoder_rotary = Rotary(config.decoder_width // config.decoder_heads)

    def encode(self, images: Tensor) -> Tensor:
        """Tokens (B, N, C) of pictures (B, 3, H, W) in -1 to 1; a keyframe's can be kept.

        Raises:
            InputError: a side is no multiple of the patch.
        """
        patch = self.config.patch_px
        if images.shape[2] % patch or images.shape[3] % patch:
            raise InputError(f"pointmap network: picture {tuple(images.shape[2:])}: give sides that {patch} divides")
        image = self.patches(images)
        tokens = image.flatten(2).transpose(1, 2)
        phases = self.encoder_rotary.phases(*image.shape[2:])
        for layer in self.encoder:
            tokens = layer(tokens, phases)
        return self.encoder_norm(tokens)

    def decode(self, first: Tensor, second: Tensor, size: tuple[int, int]) -> PairPrediction:
        """Pointmaps from the tokens (B, N, C) of both views, pictures of `size` (H, W) pixels."""
        rows, columns = (side // self.config.patch_px for side in size)
        phases = self.decoder_rotary.phases(rows, columns)
        stages = [[first, second]]
        now = [self.bridge(first), self.bridge(second)]
        for layers in zip(*self.decoders):
            now = [layers[view](now[view], now[1 - view], phases, phases) for view in (0, 1)]
            stages.append(now)
        stages[-1] = [self.decoder_norm(tokens) for tokens in stages[-1]]
        views = [[stage[view] for stage in stages] for view in (0, 1)]
        # Points are small differences of large numbers: the heads stay in full precision.
        with torch.autocast(first.device.type, enabled=False):
            views = [[tokens.float() for tokens in view] for view in views]
            raw = torch.stack([head(view, rows, columns) for head, view in zip(self.heads, views)], 1)
            masks = torch.stack([self.mask_head(view, rows, columns) for view in views], 1) if self.has_mask else None
            points = raw[:, :, :3].permute(0, 1, 3, 4, 2)
            if self.config.output == "camera":
                length = points.norm(dim=-1, keepdim=True).clamp(min=1e-8)
                points = points / length * torch.expm1(length)
            return PairPrediction(points, 1 + raw[:, :, 3].exp(), masks)

    def forward(self, first: Tensor, second: Tensor) -> PairPrediction:
        """Pointmaps of B pairs of pictures (B, 3, H, W) in -1 to 1."""
        if first.shape != second.shape:
            raise InputError(
                f"pointmap network: pictures {tuple(first.shape)} and {tuple(second.shape)} differ in size"
            )
        tokens = self.encode(torch.cat([first, second]))
        return self.decode(tokens[: len(first)], tokens[len(first) :], (first.shape[2], first.shape[3]))


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """(B, heads, N, C) asking (B, heads, M, C) twice, to (B, heads, N, C)."""
    if query.device.type == "cpu" and torch.is_grad_enabled():
        # The fused kernel's way back takes twice as long as these two products there.
        likeness = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        return likeness.softmax(-1).to(value.dtype) @ value
    return functional.scaled_dot_product_attention(query, key, value)


def _stem(config: PointmapNetworkConfig) -> nn.Module:
    """(B, 3, H, W) to (B, C, H / patch, W / patch)."""
    if config.stem == "patches":
        return nn.Conv2d(3, config.encoder_width, config.patch_px, config.patch_px)
    if config.patch_px & (config.patch_px - 1):
        raise InputError(f"pointmap network: patch_px {config.patch_px}: convolutions halve, so give a power of 2")
    layers: list[nn.Module] = []
    width = 3
    for level in reversed(range(config.patch_px.bit_length() - 1)):
        wider = max(16, config.encoder_width // 2**level // 8 * 8)
        layers += [nn.Conv2d(width, wider, 3, 2, 1), nn.GroupNorm(4, wider), nn.GELU()]
        width = wider
    return nn.Sequential(*layers, nn.Conv2d(width, config.encoder_width, 1))


def _norm(width: int) -> nn.LayerNorm:
    return nn.LayerNorm(width, eps=_NORM_EPSILON)


def _doubled(image: Tensor) -> Tensor:
    return functional.interpolate(image, scale_factor=2.0, mode="bilinear", align_corners=True)
