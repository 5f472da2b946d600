"""Views kept for drift control and for finding a lost object again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hoi_ros.geometry import invert_transform, rotation_angle, transform_points
from hoi_ros.tracking.alignment import ReferenceCloud
from hoi_ros.tracking.config import TrackerConfig
from hoi_ros.tracking.features import sample_features
from hoi_ros.tracking.patch import Patch

KEYFRAME_POINTS = 1500
SINGLE_VIEW_NOISE = 3.0
PRINT_CELL_PX = 3
STEEP = 2.0
"""Grey levels a pixel from which a place counts as print."""


@dataclass(frozen=True)
class Keyframe:
    """One view of the object, as a cloud in the object frame."""

    index: int
    """Frame number."""
    T_camera_object: np.ndarray
    """(4, 4) when it was seen."""
    cloud: ReferenceCloud
    turn_sigma_rad: float = 0.0
    """How unsure its own turn was when it was kept: nothing seen against it is known better."""


def make_keyframe(
    index: int,
    patch: Patch,
    mask: np.ndarray,
    features: tuple[tuple[np.ndarray, ...], ...],
    T_camera_object: np.ndarray,
    turn_sigma_rad: float = 0.0,
) -> Keyframe | None:
    """Keep a view: at most 1500 of the masked pixels away from edges; None when fewer than 100 are left.

    Args:
        index: frame number.
        patch: crop of the frame.
        mask: (h, w) bool pixels of the object.
        features: colour features, see `feature_images`.
        T_camera_object: (4, 4).
        turn_sigma_rad: how unsure its turn is.
    """
    cloud = view_cloud(patch, mask, features, T_camera_object, KEYFRAME_POINTS)
    return None if cloud is None else Keyframe(index, T_camera_object.copy(), cloud, turn_sigma_rad)


def view_cloud(
    patch: Patch,
    mask: np.ndarray,
    features: tuple[tuple[np.ndarray, ...], ...],
    T_camera_object: np.ndarray,
    count: int,
) -> ReferenceCloud | None:
    """What one view shows, at most `count` points in the object frame: half spread evenly, half where print is.

    None when fewer than 100 of the masked pixels lie away from edges. Arguments as `make_keyframe`.
    """
    known = np.einsum("hwk,hwk->hw", patch.normals, patch.normals) > 0.5
    usable = mask & ~patch.edge_mask & known
    pixel = np.flatnonzero(usable)
    if len(pixel) < 100:
        return None
    even = pixel[np.linspace(0, len(pixel) - 1, min(count // 2, len(pixel))).astype(np.int64)]
    pixel = np.union1d(even, _printed_pixels(features, usable, count - len(even)))
    inverse = invert_transform(T_camera_object).astype(np.float32)
    points = transform_points(inverse, patch.points.reshape(-1, 3)[pixel])
    normals = patch.normals.reshape(-1, 3)[pixel] @ inverse[:3, :3].T
    noise = np.full(len(points), SINGLE_VIEW_NOISE, np.float32)
    return ReferenceCloud(points, normals, sample_features(features, pixel), noise, np.ones(len(points), np.float32))


def _printed_pixels(features: tuple[tuple[np.ndarray, ...], ...], usable: np.ndarray, count: int) -> np.ndarray:
    """Flat pixels (K,), K <= count, where the finer features are steepest, at most one in a cell of PRINT_CELL_PX."""
    steep: np.ndarray = np.zeros(usable.shape, np.float32)
    for image in (image for level in features[1:] for image in level):
        slopes = image[usable]
        steep[usable] += np.hypot(slopes[:, 1], slopes[:, 2]) * slopes[:, 3]
    n = PRINT_CELL_PX
    height, width = (size // n * n for size in steep.shape)
    cells = steep[:height, :width].reshape(height // n, n, width // n, n).transpose(0, 2, 1, 3).reshape(-1, n * n)
    inside = cells.argmax(1)
    most = cells[np.arange(len(cells)), inside]
    row, column = np.divmod(np.arange(len(cells)), width // n)
    flat = (row * n + inside // n) * steep.shape[1] + column * n + inside % n
    order = np.argsort(-most, kind="stable")[:count]
    return flat[order[most[order] > STEEP]]


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
