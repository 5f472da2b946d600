"""What pairwise pointmaps are trained on: points weighted by the network's own confidence, and the mask."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from hoi_ros.config import setting
from hoi_ros.tracking.pointmap_network import PairPrediction


@dataclass(frozen=True)
class PointmapLossConfig:
    """Weights of the parts."""

    confidence_alpha: float = setting(0.2, "reward of confidence; larger makes the network bolder", low=1e-6)
    object_weight: float = setting(2.0, "weight of an object pixel beside a hand pixel's 1", low=0.0)
    mask_weight: float = setting(0.3, "weight of the mask's cross entropy", low=0.0)


@dataclass(frozen=True)
class PointmapLoss:
    """One batch's loss and what it is made of."""

    total: Tensor
    first_error: Tensor
    """Mean distance of the first view's points, in their unit."""
    second_error: Tensor
    """The same of the second view's, in the first one's frame."""
    mask_error: Tensor
    """Share of pixels whose class is wrong."""


def pointmap_loss(
    prediction: PairPrediction, points: Tensor, valid_mask: Tensor, classes: Tensor, config: PointmapLossConfig,
    *, free_scale: bool = False,
) -> PointmapLoss:  # fmt: skip
    """Confidence-weighted distance (DUSt3R, CVPR 2024): c * |error| - alpha * log c, mean over valid pixels.

    Args:
        prediction: of B pairs.
        points: (B, 2, S, S, 3) truth in the first view's frame.
        valid_mask: (B, 2, S, S) bool pixels that have a point.
        classes: (B, 2, S, S) int64 of background, object, hand.
        config: weights.
        free_scale: compare after both were divided by their mean distance from the camera.
    """
    found = prediction.points
    if free_scale:
        found, points = _unit_distance(found, valid_mask), _unit_distance(points, valid_mask)
    error = (found - points).norm(dim=-1)
    weight = valid_mask * (1 + (config.object_weight - 1) * (classes == 1))
    count = weight.sum().clamp(min=1)
    weighted = prediction.confidence * error - config.confidence_alpha * prediction.confidence.log()
    total = (weight * weighted).sum() / count
    wrong = torch.zeros(())
    if prediction.mask_logits is not None:
        logits = prediction.mask_logits.flatten(0, 1)
        total = total + config.mask_weight * functional.cross_entropy(logits, classes.flatten(0, 1))
        right = logits.detach().gather(1, classes.flatten(0, 1)[:, None])[:, 0]
        wrong = (right < logits.detach().amax(1)).float().mean()
    each = [(error[:, v] * valid_mask[:, v]).sum() / valid_mask[:, v].sum().clamp(min=1) for v in (0, 1)]
    return PointmapLoss(total, each[0].detach(), each[1].detach(), wrong.detach())


def _unit_distance(points: Tensor, valid_mask: Tensor) -> Tensor:
    """Points divided by their mean distance from the camera over both views' valid pixels."""
    distance = (points.norm(dim=-1) * valid_mask).sum((1, 2, 3)) / valid_mask.sum((1, 2, 3)).clamp(min=1)
    return points / distance.clamp(min=1e-6)[:, None, None, None, None]
