"""Beyond the paper: a mask of hand, held object and background, and what it says around places of the hand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hoi_ros.hand.handos_config import DILATIONS, EVIDENCE_CELLS, HandOsConfig


class SegmentHead(nn.Module):
    """Background, hand or object for every pixel: the finest feature map, widened step by step with finer maps."""

    def __init__(self, config: HandOsConfig):
        super().__init__()
        channels = config.mask_channels
        self.reduce = nn.Conv2d(2 * config.width, channels, 1)
        coarser = len(config.feature_channels) - 1 if config.mask_context else 0
        self.coarser = nn.ModuleList(nn.Conv2d(2 * config.width, channels, 1) for _ in range(coarser))
        spread = [DILATIONS[k % len(DILATIONS)] for k in range(config.mask_context)]
        self.context = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=d, dilation=d) for d in spread)
        self.details = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in config.detail_channels)
        self.mixes = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in config.detail_channels)
        self.out = nn.Conv2d(channels, 3, 1)

    def forward(self, features: Sequence[Tensor], details: Sequence[Tensor]) -> Tensor:
        """[F6^e, F^s] (B, 2d, H, W), ... and finer maps (B, c, 2H, 2W), ...: logits (B, 3, H', W'), as the finest."""
        x = self.reduce(features[0])
        for reduce, feature in zip(self.coarser, features[1:]):
            x = x + F.interpolate(reduce(feature), size=x.shape[-2:], mode="bilinear", align_corners=False)
        x = F.relu(x)
        for look in self.context:
            x = F.relu(x + look(x))
        for detail, lift, mix in zip(details, self.details, self.mixes):
            wider = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = F.relu(mix(F.relu(wider + lift(detail))))
        return self.out(x)


def evidence_at(segments: Tensor, places: Tensor) -> Tensor:
    """What a mask head saw around places: shares of hand and object, near and wider.

    Args:
        segments: (B, 3, H, W) logits. No gradient goes back into them.
        places: (B, K, N, 2) fractions of the image.

    Returns:
        (B, K, N, EVIDENCE) float32.
    """
    shares = segments.detach().float().softmax(1)[:, 1:]
    grid = places.detach().float() * 2 - 1
    seen = [
        F.grid_sample(F.avg_pool2d(shares, cell), grid, padding_mode="border", align_corners=False)
        for cell in EVIDENCE_CELLS
    ]
    return torch.cat(seen, 1).permute(0, 2, 3, 1)
