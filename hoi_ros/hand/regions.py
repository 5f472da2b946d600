"""Square, turned image regions around a hand: where they come from, and cutting them out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

PALM_SCALE, PALM_SHIFT = 2.6, 0.5
HAND_SCALE, HAND_SHIFT = 2.0, 0.1
# Joints without the finger ends: they hold still when fingers bend.
STEADY_JOINTS = np.array([0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18])
WRIST, MIDDLE_MCP = 0, 2  # of a palm's seven keypoints


@dataclass(frozen=True)
class HandRegion:
    """A square in the image, turned so that the hand points up in it."""

    center_px: np.ndarray
    """(2,) pixels."""
    size_px: float
    """Side length, pixels."""
    angle_rad: float
    """Turn of the square in the image, clockwise as seen."""

    @property
    def rotation(self) -> np.ndarray:
        """(2, 2) turns directions of the square into directions of the image."""
        c, s = math.cos(self.angle_rad), math.sin(self.angle_rad)
        return np.array([[c, -s], [s, c]])

    def to_image(self, points: np.ndarray) -> np.ndarray:
        """Image pixels (..., 2) of points (..., 2) in the square, whose corners are (0, 0) and (1, 1)."""
        return (points - 0.5) * self.size_px @ self.rotation.T + self.center_px

    def from_image(self, points_px: np.ndarray) -> np.ndarray:
        """Points (..., 2) in the square, corners (0, 0) and (1, 1), of image pixels (..., 2)."""
        return (points_px - self.center_px) @ self.rotation / self.size_px + 0.5

    def crop(self, color: np.ndarray, side: int) -> np.ndarray:
        """Cut the square out of an (H, W, 3) uint8 image: (side, side, 3) uint8, black outside the image."""
        reach = self.size_px * 0.7072 + 2
        low = np.maximum(np.floor(self.center_px - reach), 0).astype(int)
        high = np.minimum(np.ceil(self.center_px + reach) + 1, color.shape[1::-1]).astype(int)
        if (high <= low).any():
            return np.zeros((side, side, 3), np.uint8)
        # A slice, as OpenCV refuses images beyond 32767 pixels here.
        window = color[low[1] : high[1], low[0] : high[0]]
        linear = self.rotation * (self.size_px / side)
        offset = self.center_px - low + linear @ np.full(2, 0.5 - side / 2)
        affine = np.concatenate([linear, offset[:, None]], 1)
        return cv2.warpAffine(window, affine, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def region_from_palm(box_px: np.ndarray, keypoints_px: np.ndarray) -> HandRegion:
    """Region of the whole hand from a palm.

    Source: MediaPipe's hand landmark graph (palm box to rectangle).

    Args:
        box_px: (4,) x0 y0 x1 y1 of the palm.
        keypoints_px: (7, 2) wrist, four knuckles, thumb's two lowest joints.
    """
    angle = _angle_from_up(keypoints_px[MIDDLE_MCP] - keypoints_px[WRIST])
    center, size = (box_px[:2] + box_px[2:]) / 2, float((box_px[2:] - box_px[:2]).max())
    up = np.array([math.sin(angle), -math.cos(angle)])
    return HandRegion(center + PALM_SHIFT * float(box_px[3] - box_px[1]) * up, max(size, 1.0) * PALM_SCALE, angle)


def region_from_landmarks(landmarks_px: np.ndarray) -> HandRegion:
    """Region for the next look at a hand from its (21, 2) landmarks in pixels.

    Source: MediaPipe's hand landmark graph (landmarks to rectangle).
    """
    points = landmarks_px[STEADY_JOINTS]
    knuckles = (landmarks_px[5] + landmarks_px[13]) / 4 + landmarks_px[9] / 2
    angle = _angle_from_up(knuckles - landmarks_px[0])
    upright = HandRegion(np.zeros(2), 1.0, angle)
    turned = points @ upright.rotation
    low, high = turned.min(0), turned.max(0)
    extent = high - low
    center = (low + high) / 2 - np.array([0.0, HAND_SHIFT * extent[1]])
    return HandRegion(center @ upright.rotation.T, max(float(extent.max()), 1.0) * HAND_SCALE, angle)


def hand_size_px(landmarks_px: np.ndarray) -> float:
    """Size of a hand in the image that bending fingers hardly change, from (21, 2) landmarks."""
    return region_from_landmarks(landmarks_px).size_px / HAND_SCALE


def _angle_from_up(direction: np.ndarray) -> float:
    """Angle by which 'up' is turned clockwise (as seen) into an image direction, in (-pi, pi]."""
    return math.atan2(float(direction[0]), -float(direction[1]))
