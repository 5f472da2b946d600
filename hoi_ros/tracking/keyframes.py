"""Views kept for drift control and for finding a lost object again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np

from hoi_ros.datatypes import CameraIntrinsics
from hoi_ros.geometry import invert_transform, pointmap_from_depth, transform_points
from hoi_ros.tracking.config import TrackerConfig
from hoi_ros.tracking.features import FeatureImages
from hoi_ros.tracking.patch import Patch, surface_normals
from hoi_ros.tracking.reference import ReferenceCloud

KEYFRAME_POINTS = 1500
SINGLE_VIEW_NOISE = 3.0
PRINT_CELL_PX = 3
STEEP = 2.0
"""Grey levels a pixel from which a place counts as print."""
COVER_CELL_M = 0.01
LEAST_ANGLE_RAD = np.radians(4.0)
"""Views nearer to a keyframe than this are not asked for new surface."""
KEPT_BORDER_PX = 8


@dataclass(frozen=True)
class KeptPixels:
    """A view's pixels around the object, small enough to be kept."""

    corner: tuple[int, int]
    """x, y of the first pixel in the frame."""
    stride: int
    intrinsics: CameraIntrinsics
    """Of these pixels."""
    color: np.ndarray
    """(h, w, 3) uint8 RGB."""
    depth_m: np.ndarray
    """(h, w) float32, 0 unknown."""
    edge_mask: np.ndarray
    mask: np.ndarray
    """(h, w) bool: object."""
    hand_mask: np.ndarray
    """(h, w) bool."""

    def patch(self) -> Patch:
        """The view as it was when it was tracked."""
        points = pointmap_from_depth(self.depth_m, self.intrinsics)
        normals = surface_normals(points, self.edge_mask)
        return Patch(
            *self.corner, self.stride, self.intrinsics, self.color, self.depth_m, points, normals, self.edge_mask
        )


def keep_pixels(patch: Patch, mask: np.ndarray, hand_mask: np.ndarray) -> KeptPixels:
    """Copy the part of a patch around a mask (h, w) bool that is not empty."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    x0, y0 = max(x - KEPT_BORDER_PX, 0), max(y - KEPT_BORDER_PX, 0)
    cut = np.s_[y0 : y + height + KEPT_BORDER_PX, x0 : x + width + KEPT_BORDER_PX]
    images = patch.color, patch.depth_m, patch.edge_mask, mask, hand_mask
    parts = [np.ascontiguousarray(image[cut]).copy() for image in images]
    k = patch.intrinsics
    camera = CameraIntrinsics(parts[1].shape[1], parts[1].shape[0], k.fx, k.fy, k.cx - x0, k.cy - y0)
    corner = patch.x0 + x0 * patch.stride, patch.y0 + y0 * patch.stride
    return KeptPixels(corner, patch.stride, camera, *parts)


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
    stamp_ns: int = 0
    pixels: KeptPixels | None = None
    """What it showed; None when its pose is never to be corrected."""

    def moved(self, T_camera_object: np.ndarray, turn_sigma_rad: float) -> Keyframe:
        """The same view with a corrected pose (4, 4): the cloud goes along in the object's frame."""
        change = (invert_transform(T_camera_object) @ self.T_camera_object).astype(np.float32)
        cloud = replace(
            self.cloud,
            points=transform_points(change, self.cloud.points),
            normals=self.cloud.normals @ change[:3, :3].T,
        )
        return replace(self, T_camera_object=T_camera_object, cloud=cloud, turn_sigma_rad=turn_sigma_rad)


def make_keyframe(
    index: int,
    patch: Patch,
    mask: np.ndarray,
    features: FeatureImages,
    T_camera_object: np.ndarray,
    turn_sigma_rad: float = 0.0,
    *,
    stamp_ns: int = 0,
    hand_mask: np.ndarray | None = None,
) -> Keyframe | None:
    """Keep a view: at most 1500 of the masked pixels away from edges; None when fewer than 100 are left.

    Args:
        index: frame number.
        patch: crop of the frame.
        mask: (h, w) bool pixels of the object.
        features: colour features, see `feature_images`.
        T_camera_object: (4, 4).
        turn_sigma_rad: how unsure its turn is.
        stamp_ns: time of the frame.
        hand_mask: (h, w) bool; given, the pixels are kept, so that the pose can be corrected later.
    """
    cloud = view_cloud(patch, mask, features, T_camera_object, KEYFRAME_POINTS)
    if cloud is None:
        return None
    pixels = None if hand_mask is None else keep_pixels(patch, mask, hand_mask)
    return Keyframe(index, T_camera_object.copy(), cloud, turn_sigma_rad, stamp_ns, pixels)


def view_cloud(
    patch: Patch,
    mask: np.ndarray,
    features: FeatureImages,
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
    return ReferenceCloud(points, normals, features.values(pixel), noise, np.ones(len(points), np.float32))


def _printed_pixels(features: FeatureImages, usable: np.ndarray, count: int) -> np.ndarray:
    """Flat pixels (K,), K <= count, where the finer features are steepest, at most one in a cell of PRINT_CELL_PX."""
    pixel = np.flatnonzero(usable)
    steepness = np.zeros(len(pixel), np.float32)
    for slopes in features.at(pixel, first_level=1).reshape(-1, len(pixel), 4):
        steepness += np.sqrt(slopes[:, 1] ** 2 + slopes[:, 2] ** 2) * slopes[:, 3]
    steep: np.ndarray = np.zeros(usable.shape, np.float32)
    steep.reshape(-1)[pixel] = steepness
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
    """Views that each show new surface or a new side; when full, the one most like its neighbours goes."""

    def __init__(self, config: TrackerConfig) -> None:
        self._angle_rad = np.radians(config.keyframe_angle_deg)
        self._most = config.max_keyframes
        self._new_surface = config.keyframe_new_surface
        self._covered: np.ndarray = np.zeros(0, np.int64)
        self.keyframes: list[Keyframe] = []

    def angles(self, T_camera_object: np.ndarray) -> np.ndarray:
        """(K,) radians between a pose's view and each keyframe's."""
        if not self.keyframes:
            return np.zeros(0)
        rotations = np.stack([k.T_camera_object[:3, :3] for k in self.keyframes])
        cosine = (np.einsum("kij,ij->k", rotations, T_camera_object[:3, :3]) - 1) / 2
        return np.arccos(np.clip(cosine, -1, 1))

    def wants(self, T_camera_object: np.ndarray, points: np.ndarray | None = None) -> bool:
        """True when no keyframe shows the object from near this side, or none shows much of its surface.

        Args:
            T_camera_object: (4, 4) the view's pose.
            points: (N, 3) float32 what it shows, object frame; None asks for the side alone.
        """
        angles = self.angles(T_camera_object)
        if not len(angles) or angles.min() > self._angle_rad:
            return True
        if points is None or len(points) < 50 or angles.min() < LEAST_ANGLE_RAD:
            return False
        return float(np.isin(_cells(points), self._covered, invert=True).mean()) > self._new_surface

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
        # What a dropped view showed, its neighbours show too.
        self._covered = np.union1d(self._covered, _with_neighbours(keyframe.cloud.points))

    def move(self, corrected: Mapping[int, Keyframe]) -> None:
        """Put corrected views, by frame number, in the place of the same views."""
        self.keyframes = [corrected.get(k.index, k) for k in self.keyframes]
        self._covered = np.unique(np.concatenate([_with_neighbours(k.cloud.points) for k in self.keyframes]))


def _cells(points: np.ndarray) -> np.ndarray:
    """(N,) number of the cell of COVER_CELL_M that each point (N, 3) lies in."""
    index = np.floor(points / np.float32(COVER_CELL_M)).astype(np.int64) + 512
    return (index[:, 0] * 1024 + index[:, 1]) * 1024 + index[:, 2]


def _with_neighbours(points: np.ndarray) -> np.ndarray:
    """Cells of points and the six beside each: a surface wavers about a cell's border."""
    cells = np.unique(_cells(points))
    steps = np.array([0, 1, -1, 1024, -1024, 1024 * 1024, -1024 * 1024])
    return np.unique((cells[:, None] + steps).reshape(-1))
