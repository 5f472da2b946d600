"""A hand drawn by painting the free model's shaded triangles from far to near: what the detector takes for a hand."""

from __future__ import annotations

import cv2
import numpy as np

from hoi_ros.hand_model import HandModel

SKIN = np.array([224, 172, 140], np.float64)
BACKGROUND = (86, 104, 96)
TO_CAMERA = np.diag([1.0, -1.0, -1.0])
"""Fingers up, palm to the camera."""


def draw_hand(
    side: str = "right", *, size: tuple[int, int] = (480, 640), center: tuple[float, float] = (320, 240),
    hand_px: float = 220.0, turn_rad: float = 0.0, color: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """Draw an open hand.

    Args:
        side: 'left' or 'right', the person's own.
        size: height and width of the picture.
        center: x, y of the hand's middle, pixels.
        hand_px: its length, pixels.
        turn_rad: clockwise turn in the picture.
        color: (H, W, 3) picture to draw on; None is a plain one.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    model = HandModel.load()
    pose = model.pose(np.zeros((1, len(model.joint_angle_names))), np.zeros((1, 10)), side)
    points = pose.vertices[0].astype(np.float64) @ TO_CAMERA.T
    c, s = np.cos(turn_rad), np.sin(turn_rad)
    points = (points - (points.max(0) + points.min(0)) / 2) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]).T
    pixels = points[:, :2] * (hand_px / 0.18) + center
    faces = model.faces(side)
    corners = points[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    light = np.clip(normals @ np.array([-0.3, -0.4, -0.87]), 0, 1) ** 1.5 * 0.75 + 0.3
    picture = np.full((*size, 3), BACKGROUND, np.uint8) if color is None else color.copy()
    for face in np.argsort(-corners[:, :, 2].mean(1)):
        if normals[face, 2] < 0.2:
            shade = np.clip(SKIN * light[face], 0, 255).tolist()
            cv2.fillConvexPoly(picture, np.round(pixels[faces[face]]).astype(np.int32), shade)
    return cv2.GaussianBlur(picture, (5, 5), 0)
