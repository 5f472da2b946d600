"""Views kept for drift control and for finding a lost object again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hoi_ros.geometry import invert_transform, rotation_angle, transform_points
from hoi_ros.tracking.alignment import ReferenceCloud
from hoi_ros.tracking.config import TrackerConfig
from hoi_ros.tracking.patch import Patch

KEYFRAME_POINTS = 1500
SINGLE_VIEW_NOISE = 4.0


@dataclass(frozen=True)
class Keyframe:
    """One view of the object, as a cloud in the object frame."""

    index: int
    """Frame number."""
    T_camera_object: np.ndarray
    """(4, 4) when it was seen."""
    cloud: ReferenceCloud


def make_keyframe(
    index: int, patch: Patch, mask: np.ndarray, features: tuple[np.ndarray, ...], T_camera_object: np.ndarray
) -> Keyframe | None:
    """Keep a view: at most 1500 of the masked pixels away from edges; None when fewer than 100 are left.

    Args:
        index: frame number.
        patch: crop of the frame.
        mask: (h, w) bool pixels of the object.
        features: colour features, see `feature_images`.
        T_camera_object: (4, 4).
    """
    known = np.einsum("hwk,hwk->hw", patch.normals, patch.normals) > 0.5
    pixel = np.flatnonzero(mask & ~patch.edge_mask & known)
    if len(pixel) < 100:
        return None
    pixel = pixel[np.linspace(0, len(pixel) - 1, min(KEYFRAME_POINTS, len(pixel))).astype(np.int64)]
    inverse = invert_transform(T_camera_object).astype(np.float32)
    points = transform_points(inverse, patch.points.reshape(-1, 3)[pixel])
    normals = patch.normals.reshape(-1, 3)[pixel] @ inverse[:3, :3].T
    gray = [
        np.where(f[..., 3].reshape(-1)[pixel] > 0, f[..., 0].reshape(-1)[pixel], np.float32(np.nan)) for f in features
    ]
    cloud = ReferenceCloud(points, normals, np.stack(gray, 1), np.full(len(points), SINGLE_VIEW_NOISE, np.float32))
    return Keyframe(index, T_camera_object.copy(), cloud)


class KeyframeStore:
    """Views at least `keyframe_angle_deg` apart; when full, the one most like its neighbours goes."""

    def __init__(self, config: TrackerConfig) -> None:
        self._angle_rad = np.radians(config.keyframe_angle_deg)
        self._most = config.max_keyframes
        self.keyframes: list[Keyframe] = []

    def angles(self, T_camera_object: np.ndarray) -> np.ndarray:
        """(K,) radians between a pose's view and each keyframe's."""
        if not self.keyframes:
            return np.zeros(0)
        rotations = np.stack([k.T_camera_object[:3, :3] for k in self.keyframes])
        return rotation_angle(rotations @ T_camera_object[:3, :3].T)

    def wants(self, T_camera_object: np.ndarray) -> bool:
        """True when no keyframe shows the object from near this side."""
        angles = self.angles(T_camera_object)
        return not len(angles) or bool(angles.min() > self._angle_rad)

    def nearest(self, T_camera_object: np.ndarray) -> Keyframe | None:
        """The keyframe seen from the nearest side, if within twice the keyframe angle."""
        angles = self.angles(T_camera_object)
        if not len(angles) or angles.min() > 2 * self._angle_rad:
            return None
        return self.keyframes[int(np.argmin(angles))]

    def add(self, keyframe: Keyframe) -> None:
        """Keep a view; the first one is never dropped."""
        self.keyframes.append(keyframe)
        if len(self.keyframes) > self._most:
            crowd = [np.partition(self.angles(k.T_camera_object), 1)[1] for k in self.keyframes]
            del self.keyframes[1 + int(np.argmin(crowd[1:]))]
