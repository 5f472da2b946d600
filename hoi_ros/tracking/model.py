"""The tracker's own model of the object: surfels in a voxel grid, fused by weighted averages, wrong ones fading."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hoi_ros.geometry import invert_transform, transform_points
from hoi_ros.tracking.config import TrackerConfig
from hoi_ros.tracking.features import CHANNELS, FEATURE_SCALES_M, FeatureImages
from hoi_ros.tracking.patch import Patch, depth_noise_m
from hoi_ros.tracking.reference import ReferenceCloud

CONFIDENCE_CAP = 40.0
SURE = 1.5
"""Confidence, in good views, from which a surfel takes part in alignment."""
FADE = 0.7
CAPACITY = 40000
FUSED_PIXELS = 6000
"""Of a larger mask every second, third, .. pixel is fused, in turn."""
LEVELS = len(FEATURE_SCALES_M)
WAVER_COLUMN = CHANNELS  # contrast at the middle scale


@dataclass(frozen=True)
class Rendering:
    """The model as a camera sees it."""

    depth_m: np.ndarray
    """(h, w) float32, inf where the model is not."""
    visible: np.ndarray
    """(K,) rows of the surfels that face the camera with nothing of the model before them."""


class SurfelModel:
    """Surface elements about a voxel apart: position, normal, colour, colour features, confidence.

    Memory and time are bounded by the object's size (`max_object_size_m`), not by the number of frames.
    """

    def __init__(self, config: TrackerConfig) -> None:
        self._voxel_m = config.voxel_size_m
        self._cells = int(np.ceil(2 * config.max_object_size_m / self._voxel_m))
        self._grid = np.zeros(self._cells**3 + 1, np.int32)  # surfel row + 1; zeros cost no memory until touched
        self._points = np.zeros((CAPACITY, 3), np.float32)
        self._normals = np.zeros((CAPACITY, 3), np.float32)
        self._colors = np.zeros((CAPACITY, 3), np.float32)
        self._features = np.zeros((CAPACITY, LEVELS * CHANNELS), np.float32)
        self._feature_variance = np.zeros(CAPACITY, np.float32)
        self._feature_weight = np.zeros((CAPACITY, LEVELS * CHANNELS), np.float32)
        self._confidence = np.zeros(CAPACITY, np.float32)
        self._cell = np.zeros(CAPACITY, np.int64)
        self._used = self._fused = 0
        self._free: np.ndarray = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return int((self._confidence[: self._used] > 0).sum())

    @property
    def points(self) -> np.ndarray:
        """(N, 3) metres, object frame, of the surfels that are sure."""
        return self._points[self._sure_rows()]

    @property
    def colors(self) -> np.ndarray:
        """(N, 3) uint8 RGB of the same."""
        return np.clip(self._colors[self._sure_rows()], 0, 255).astype(np.uint8)

    def _sure_rows(self) -> np.ndarray:
        """Rows of what is sure; of a young model, or one seen from afar or askance, all but the least sure."""
        rows = np.flatnonzero(self._confidence[: self._used] > 0)
        confidence = self._confidence[rows]
        return rows[confidence >= min(SURE, 0.5 * float(np.median(confidence)))] if len(rows) else rows

    def render(self, T_camera_object: np.ndarray, patch: Patch) -> Rendering:
        """Splat the sure surfels into a patch's pixel grid."""
        rows = self._sure_rows()
        height, width = patch.shape
        depth: np.ndarray = np.full(height * width, np.inf, np.float32)
        if not len(rows):
            return Rendering(depth.reshape(height, width), rows)
        transform = T_camera_object.astype(np.float32)
        p = transform_points(transform, self._points[rows])
        facing = np.einsum("nk,nk->n", self._normals[rows] @ transform[:3, :3].T, p)
        facing = facing < -0.1 * np.linalg.norm(p, axis=1)
        pixel, inside = _pixels(p, patch)
        keep = facing & inside
        rows, p, pixel = rows[keep], p[keep], pixel[keep]
        np.minimum.at(depth, pixel, p[:, 2])
        depth = depth.reshape(height, width)
        if len(rows):
            spacing = 1.5 * self._voxel_m / patch.pixel_size_m(float(np.median(p[:, 2])))
            size = 2 * int(np.ceil(spacing / 2)) + 1
            filled = np.where(np.isfinite(depth), depth, np.float32(1e3))
            filled = cv2.erode(filled, np.ones((size, size), np.uint8))
            depth = np.where(filled < 1e3, filled, np.float32(np.inf))
        visible = rows[p[:, 2] < depth.reshape(-1)[pixel] + np.float32(0.01)]
        return Rendering(depth, visible)

    def reference(self, rows: np.ndarray) -> ReferenceCloud:
        """The named surfels as a cloud to align."""
        features = np.where(self._feature_weight[rows] > 0, self._features[rows], np.float32(np.nan))
        features = features.reshape(-1, LEVELS, CHANNELS)
        noise, weight = np.sqrt(self._feature_variance[rows]), np.ones(len(rows), np.float32)
        return ReferenceCloud(self._points[rows], self._normals[rows], features, noise, weight)

    def color_agreement(self, patch: Patch, mask: np.ndarray, T_camera_object: np.ndarray, rows: np.ndarray) -> float:
        """Share (0 to 1) of the named surfels whose colour the patch shows, after one gain for the brightness.

        Only surfels that fall on the mask (h, w) bool count; 0 when fewer than 20 do.
        """
        p = transform_points(T_camera_object.astype(np.float32), self._points[rows])
        pixel, inside = _pixels(p, patch)
        keep = inside & mask.reshape(-1)[pixel]
        if keep.sum() < 20:
            return 0.0
        seen = patch.color.reshape(-1, 3)[pixel[keep]].astype(np.float32)
        known = self._colors[rows[keep]]
        gain = np.clip(np.median(seen.mean(1)) / max(float(np.median(known.mean(1))), 1.0), 0.5, 2.0)
        return float((np.abs(seen - gain * known).max(1) < 45).mean())

    def fuse(self, patch: Patch, mask: np.ndarray, features: FeatureImages, T_camera_object: np.ndarray) -> int:
        """Average the masked pixels into the surfels they see; make surfels where there are none.

        Pixels at depth edges or seen at a grazing angle do not count.

        Args:
            patch: crop of the frame.
            mask: (h, w) bool pixels of the object.
            features: colour features of the patch, see `feature_images`.
            T_camera_object: (4, 4) pose of this frame.

        Returns:
            Number of new surfels.
        """
        near_edge = cv2.dilate(patch.edge_mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        pixel = np.flatnonzero(mask & ~near_edge)
        step = 1 + len(pixel) // FUSED_PIXELS
        self._fused += 1
        pixel = pixel[self._fused % step :: step]
        points, normals = patch.points.reshape(-1, 3)[pixel], patch.normals.reshape(-1, 3)[pixel]
        view = -np.einsum("nk,nk->n", normals, points)
        view = view / np.maximum(np.sqrt(np.einsum("nk,nk->n", points, points)), 1e-6)
        facing = view > 0.3
        if not facing.any():
            return 0
        pixel, points, normals, view = pixel[facing], points[facing], normals[facing], view[facing]
        inverse = invert_transform(T_camera_object).astype(np.float32)
        normals = normals @ inverse[:3, :3].T
        points_object = transform_points(inverse, points)
        weight = view * np.minimum(1, (0.002 / depth_noise_m(points[:, 2])) ** 2)
        weight = np.maximum(weight, 0.05).astype(np.float32)
        rows = self._find(points_object, normals)
        many = np.sqrt(step) * patch.pixel_size_m(float(np.median(points[:, 2]))) < 0.6 * self._voxel_m
        created = self._create(points_object, rows, 2 if many else 1)
        rows = np.where(rows >= 0, rows, self._grid[self._cells_of(points_object)] - 1)
        known = rows >= 0
        values = features.values(pixel).reshape(len(pixel), -1)
        colors = patch.color.reshape(-1, 3)[pixel]
        touched, index = _grouped(rows[known], self._used)
        self._average(touched, index, weight[known], points_object[known], normals[known], colors[known])
        self._average_features(touched, index, weight[known], values[known])
        return created

    def fade(self, patch: Patch, trusted_mask: np.ndarray, T_camera_object: np.ndarray, visible: np.ndarray) -> None:
        """Take confidence from visible surfels that the frame sees through, and remove the spent ones.

        Args:
            patch: crop of the frame.
            trusted_mask: (h, w) bool pixels whose depth is reliable.
            T_camera_object: (4, 4).
            visible: (K,) rows from `render`.
        """
        p = transform_points(T_camera_object.astype(np.float32), self._points[visible])
        pixel, inside = _pixels(p, patch)
        observed = patch.depth_m.reshape(-1)[pixel]
        through = inside & trusted_mask.reshape(-1)[pixel]
        through &= observed > p[:, 2] + 0.008 + 3 * depth_noise_m(p[:, 2])
        rows = visible[through]
        self._confidence[rows] -= FADE
        dead = rows[self._confidence[rows] <= 0]
        self._confidence[dead] = 0
        self._grid[self._cell[dead]] = 0
        self._free = np.concatenate([self._free, dead])

    def _cells_of(self, points: np.ndarray) -> np.ndarray:
        """Grid cell of points (N, 3); the last, always empty cell for points outside."""
        index = np.floor(points / np.float32(self._voxel_m)).astype(np.int64) + self._cells // 2
        outside = ((index < 0) | (index >= self._cells)).any(1)
        cell = (index[:, 0] * self._cells + index[:, 1]) * self._cells + index[:, 2]
        return np.where(outside, self._cells**3, cell)

    def _find(self, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
        """Row of the surfel at each point, sought along the normal so that noise makes no second skin; -1 if none."""
        rows = self._grid[self._cells_of(points)].astype(np.int64) - 1
        for steps in (1, -1, 2, -2, 3, -3):
            open_rows = np.flatnonzero(rows < 0)
            if not len(open_rows):
                break
            moved = points[open_rows] + normals[open_rows] * np.float32(steps * self._voxel_m)
            found = self._grid[self._cells_of(moved)].astype(np.int64) - 1
            same_side = np.einsum("nk,nk->n", self._normals[np.maximum(found, 0)], normals[open_rows]) > 0.3
            rows[open_rows] = np.where((found >= 0) & same_side, found, -1)
        return rows

    def _create(self, points: np.ndarray, rows: np.ndarray, at_least: int) -> int:
        """Open a surfel in every empty cell that holds enough unexplained points."""
        cells, count = np.unique(self._cells_of(points[rows < 0]), return_counts=True)
        cells = cells[(count >= at_least) & (cells < self._cells**3)]
        cells = cells[self._grid[cells] == 0]
        cells = cells[: len(self._free) + CAPACITY - self._used]
        reused = min(len(cells), len(self._free))
        new = np.concatenate([self._free[:reused], np.arange(self._used, self._used + len(cells) - reused)])
        self._free = self._free[reused:]
        self._used += len(cells) - reused
        for array in (
            self._points,
            self._normals,
            self._colors,
            self._features,
            self._feature_weight,
            self._feature_variance,
        ):
            array[new] = 0
        self._confidence[new] = 0
        self._cell[new] = cells
        self._grid[cells] = new + 1
        return len(cells)

    def _average(self, touched, index, weight, points, normals, colors) -> None:
        total = np.bincount(index, weight)
        count = np.bincount(index)
        gain = total / count  # one view adds at most 1, however many pixels see the surfel
        old = self._confidence[touched]
        share = (gain / (old + gain)).astype(np.float32)[:, None]
        for store, values in ((self._points, points), (self._normals, normals), (self._colors, colors)):
            mean = np.stack([np.bincount(index, weight * values[:, i]) / total for i in range(3)], 1)
            store[touched] += share * (mean.astype(np.float32) - store[touched])
        length = np.linalg.norm(self._normals[touched], axis=1, keepdims=True)
        self._normals[touched] /= np.maximum(length, 1e-6)
        self._confidence[touched] = np.minimum(old + gain, CONFIDENCE_CAP)

    def _average_features(self, touched, index, weight, values) -> None:
        """Average values (N, LEVELS * CHANNELS), NaN where unknown, into the rows `touched[index]`."""
        count = np.bincount(index)
        for column in range(values.shape[1]):
            known = np.isfinite(values[:, column])
            part = np.where(known, weight, 0)
            total = np.bincount(index, part)
            seen = total > 0
            gain = (total / count)[seen]
            row = touched[seen]
            old = self._feature_weight[row, column]
            share = (gain / (old + gain)).astype(np.float32)
            mean = np.bincount(index, part * np.where(known, values[:, column], 0))[seen] / total[seen]
            change = mean.astype(np.float32) - self._features[row, column]
            self._features[row, column] += share * change
            self._feature_weight[row, column] = np.minimum(old + gain, CONFIDENCE_CAP)
            if column == WAVER_COLUMN:
                waver = np.where(old > 0, change**2, 0)
                rate = np.maximum(share, 0.1)
                self._feature_variance[row] += rate * (waver - self._feature_variance[row])


def _grouped(rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The different ones of rows (N,) below `count`, in order, and which of them each is: unique without sorting."""
    place = np.zeros(count, np.int64)
    place[rows] = 1
    touched = np.flatnonzero(place)
    place[touched] = np.arange(len(touched))
    return touched, place[rows]


def _pixels(points_camera: np.ndarray, patch: Patch) -> tuple[np.ndarray, np.ndarray]:
    """Flat patch pixel (N,) of points (N, 3), 0 where outside, and whether it is inside."""
    k = patch.intrinsics
    height, width = patch.shape
    z = np.maximum(points_camera[:, 2], 1e-3)
    u = k.fx * points_camera[:, 0] / z + (k.cx + 0.5)
    v = k.fy * points_camera[:, 1] / z + (k.cy + 0.5)
    inside = (points_camera[:, 2] > 0.05) & (u >= 0) & (v >= 0) & (u < width) & (v < height)
    pixel = np.where(inside, v, 0).astype(np.int64) * width + np.where(inside, u, 0).astype(np.int64)
    return pixel, inside
