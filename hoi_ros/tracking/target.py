"""What a frame offers to align with: points, colour features and outline of its free pixels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hoi_ros.datatypes import CameraIntrinsics
from hoi_ros.tracking.features import FeatureImages, feature_images
from hoi_ros.tracking.patch import Patch

UNKNOWN, FREE, BLOCKED, BACKGROUND = 0, 1, 2, 3


@dataclass(frozen=True)
class AlignmentTarget:
    """What a frame offers to align with, on one pixel grid."""

    intrinsics: CameraIntrinsics
    surface: np.ndarray
    """(6, h * w) float32: points in metres, optical frame, and their normals; a row a coordinate."""
    status: np.ndarray
    """(h, w) uint8: UNKNOWN without depth, FREE to be matched, BLOCKED by a hand, BACKGROUND that is no object."""
    outside: np.ndarray
    """(h, w, 3) float32: pixels to the nearest place where the object may be, and the derivatives in x and y."""
    features: FeatureImages
    """Of its free pixels."""


def alignment_target(patch: Patch, free_mask: np.ndarray, blocked_mask: np.ndarray, depth_m: float) -> AlignmentTarget:
    """Prepare a patch for `align`.

    Args:
        patch: crop of the frame.
        free_mask: (h, w) bool pixels that may belong to the object.
        blocked_mask: (h, w) bool pixels of hands, behind which the object may hide.
        depth_m: typical distance of the object.
    """
    status = np.where(free_mask, np.uint8(FREE), np.uint8(BACKGROUND))
    status[patch.depth_m <= 0] = UNKNOWN
    status[blocked_mask] = BLOCKED
    features = feature_images(patch, free_mask & (status == FREE), depth_m)
    surface = np.stack([*cv2.split(patch.points), *cv2.split(patch.normals)]).reshape(6, -1)
    return AlignmentTarget(patch.intrinsics, surface, status, _outside(status), features)


def _outside(status: np.ndarray) -> np.ndarray:
    """Distance to the silhouette, 0 inside it, behind hands and in larger holes; with its derivatives."""
    unknown = cv2.morphologyEx((status == UNKNOWN).astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    off = ((status == BACKGROUND) | (status == UNKNOWN)) & (unknown == 0)
    distance = cv2.distanceTransform(off.astype(np.uint8), cv2.DIST_L2, 3)
    dx = cv2.Sobel(distance, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
    dy = cv2.Sobel(distance, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
    return cv2.merge([distance, dx, dy])
