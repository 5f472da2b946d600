"""Where things show in a picture: outlines measured, pixels put at a depth."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from hoi_ros.datatypes import CameraIntrinsics, HandEstimate
from hoi_ros.tracking.pointmap_structure import projected


def shown_at(pose: np.ndarray, point: np.ndarray, camera: CameraIntrinsics) -> np.ndarray:
    """(2,) pixel of a point (3,) under a pose."""
    return projected(point[None], pose, camera)[0][0]


def middle_and_width(mask: np.ndarray) -> tuple[np.ndarray, float]:
    """Middle (2,) of a mask's pixels, and its width across its longest direction, pixels."""
    rows, columns = np.nonzero(mask)
    if len(rows) < 3:
        return np.array([columns.mean(), rows.mean()]) if len(rows) else np.zeros(2), 1.0
    spread = np.linalg.eigvalsh(np.cov(np.stack([columns, rows])))
    return np.array([columns.mean(), rows.mean()]), float(3.5 * np.sqrt(max(spread[0], 0.1)))


def bulge(mask: np.ndarray) -> np.ndarray:
    """(H, W) pixels that a round body with this outline stands out towards the camera."""
    rows, columns = np.nonzero(mask)
    out = np.zeros(mask.shape, np.uint8)
    cv2.fillConvexPoly(out, cv2.convexHull(np.stack([columns, rows], 1).astype(np.int32)), 1)
    inward = cv2.distanceTransform(out, cv2.DIST_L2, 3)
    width = max(float(inward.max()), 1.0)
    return width * np.sqrt(np.clip(1 - (1 - inward / width) ** 2, 0, 1))


def grasp_depth(camera: CameraIntrinsics, hands: Sequence[HandEstimate], mask: np.ndarray) -> float:
    """Metres to what is held: the depth of the finger joints nearest to the mask."""
    rows, columns = np.nonzero(mask)
    middle = np.array([columns.mean(), rows.mean()]) if len(rows) else np.array([camera.cx, camera.cy])
    pixels = np.concatenate([hand.joints_px for hand in hands])
    depths = np.concatenate([hand.joints_camera[:, 2] for hand in hands])
    nearest = np.argsort(np.linalg.norm(pixels - middle, axis=1))[:8]
    return float(np.mean(depths[nearest]))


def unprojected(pixels: np.ndarray, depth: np.ndarray | float, camera: CameraIntrinsics) -> np.ndarray:
    """(N, 3) points, optical frame, of pixels (N, 2) at a depth in metres."""
    x = (pixels[:, 0] - camera.cx) / camera.fx * depth
    y = (pixels[:, 1] - camera.cy) / camera.fy * depth
    return np.stack([x, y, np.broadcast_to(depth, x.shape)], 1)


def mask_at(mask: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """(N,) bool: the mask at pixels (N, 2), false outside."""
    column, row = np.rint(pixels).astype(int).T
    inside = (column >= 0) & (row >= 0) & (column < mask.shape[1]) & (row < mask.shape[0])
    out = np.zeros(len(pixels), bool)
    out[inside] = mask[row[inside], column[inside]]
    return out
