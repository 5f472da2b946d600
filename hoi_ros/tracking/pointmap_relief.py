"""Depth of an object's pixels from colour, with what it is worth: the network's pointmap and the rounded outline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hoi_ros.datatypes import CameraIntrinsics
from hoi_ros.tracking.pointmap_places import bulge
from hoi_ros.tracking.pointmap_stream import StreamView

CONFIDENCE_ALPHA = 0.2
"""Reward of confidence in training: a network that weighs its errors expects one of alpha / confidence."""
OUTLINE_SIGMA_M = 0.015
"""How far a thing's surface usually is from that of a round body with its outline."""
HAND_SHARE = 0.5
"""Of the distance: the hand's of this view, against that of the middle as it is tracked."""


@dataclass(frozen=True)
class ConfidentDepth:
    """Depth in the camera's image, and how far off it may be."""

    depth_m: np.ndarray
    """(H, W) float32 along the optical axis, 0 where nothing is said."""
    sigma_m: np.ndarray
    """(H, W) float32 one standard deviation; without meaning where nothing is said."""


def pointmap_depth(view: StreamView, relief: np.ndarray, confidence: np.ndarray) -> ConfidentDepth:
    """The network's answer in the image of the view's camera.

    Args:
        view: what the network was shown, its depth from the hand.
        relief: (S, S) depth beyond the crop's middle in half crop sides.
        confidence: (S, S) positive, as the network weighs its errors (DUSt3R, CVPR 2024).
    """
    crop, half_m = view.crop, view.depth_m * view.crop.half_tangent
    axis = crop.R_camera_crop[2]
    depth = (view.depth_m + half_m * relief) * (crop.grid() * crop.half_tangent @ axis[:2] + axis[2])
    known = crop.paste(np.ones(relief.shape, np.uint8)) > 0
    depth, sigma = (
        crop.paste(map_.astype(np.float32), nearest=False) for map_ in (depth, half_m * CONFIDENCE_ALPHA / confidence)
    )
    return ConfidentDepth(np.where(known, depth, np.float32(0)), sigma)


def outline_depth(mask: np.ndarray, middle_m: float, camera: CameraIntrinsics) -> ConfidentDepth:
    """The front of a round body with the outline of a mask (H, W), its middle at a depth in metres."""
    depth = np.where(mask, middle_m - bulge(mask) * middle_m / camera.fx, 0).astype(np.float32)
    return ConfidentDepth(depth, np.full(mask.shape, np.float32(OUTLINE_SIGMA_M)))


def joined_depth(network: ConfidentDepth, outline: ConfidentDepth, mask: np.ndarray) -> np.ndarray:
    """(H, W) float32 metres at the pixels of a mask, 0 elsewhere: both reliefs, each pixel's by its confidence.

    One counts depth from the hand, the other from where the object's middle is tracked: the mean lies between them.
    Where the network says nothing, the outline does.
    """
    known = mask & (network.depth_m > 0)
    if not known.any():
        return np.where(mask, outline.depth_m, np.float32(0))
    apart = np.median(outline.depth_m[known] - network.depth_m[known])
    seen, round_body = network.depth_m + (1 - HAND_SHARE) * apart, outline.depth_m - HAND_SHARE * apart
    weights = [1 / np.maximum(np.where(known, one.sigma_m, 1), 1e-3) ** 2 for one in (network, outline)]
    mean = (weights[0] * seen + weights[1] * round_body) / (weights[0] + weights[1])
    return np.where(mask, np.where(known, mean, round_body), 0).astype(np.float32)
