"""What lies beside a resting object and is not part of it."""

from __future__ import annotations

import numpy as np

from hoi_ros.geometry import invert_transform, transform_points

CELL_M = 0.008


class ForeignSurface:
    """Cells of the object's frame where something else was seen while the object rested.

    An object at rest never parts from the table or the thing behind it, so motion cannot tell them apart. But
    surface that was in view outside the object's mask stays outside it.
    """

    def __init__(self, max_object_size_m: float) -> None:
        self._cells = int(np.ceil(2 * max_object_size_m / CELL_M))
        n = self._cells
        steps = np.arange(-1, 2)
        self._around = ((steps[:, None, None] * n + steps[:, None]) * n + steps).reshape(-1)
        self._reach = n * n + n + 1
        self._grid = np.zeros(self._cells**3 + 1, bool)

    def add(self, points_camera: np.ndarray, T_camera_object: np.ndarray) -> None:
        """Mark the cells of points (N, 3) in the optical frame, and their neighbours: depth wavers."""
        cells = np.unique(self._index(points_camera, T_camera_object))
        inner = cells[(cells > self._reach) & (cells < len(self._grid) - 1 - self._reach)]
        self._grid[(inner[:, None] + self._around).reshape(-1)] = True

    def clear(self, points_camera: np.ndarray, T_camera_object: np.ndarray) -> None:
        """Unmark the cells of points (N, 3) in the optical frame: they are the object's own."""
        self._grid[self._index(points_camera, T_camera_object)] = False

    def covers(self, points_camera: np.ndarray, T_camera_object: np.ndarray) -> np.ndarray:
        """(N,) bool: points (N, 3) in the optical frame that lie in marked cells."""
        return self._grid[self._index(points_camera, T_camera_object)]

    def _index(self, points_camera: np.ndarray, T_camera_object: np.ndarray) -> np.ndarray:
        points = transform_points(invert_transform(T_camera_object).astype(np.float32), points_camera)
        index = np.floor(points / np.float32(CELL_M)).astype(np.int64) + self._cells // 2
        outside = ((index < 0) | (index >= self._cells)).any(1)
        flat = (index[:, 0] * self._cells + index[:, 1]) * self._cells + index[:, 2]
        return np.where(outside, self._cells**3, flat)
