"""Where nothing was, in the object's frame: what a rigid object can never fill."""

from __future__ import annotations

import cv2
import numpy as np

from hoi_ros.datatypes import CameraIntrinsics

_MOST = 255


class FreeSpace:
    """Counts, for each cell of a cube, the frames whose rays passed wholly through it.

    A hand that moves against the object passes through cells that are empty in other frames, and what the hand hides
    lies inside the silhouettes of all frames: both show here, whatever the masks say. Cells are judged by the nearest
    depth around them, so unknown depth frees nothing. Source: the visual hull (Laurentini, PAMI 1994) with depth.
    """

    def __init__(self, center: np.ndarray, *, extent_m: float, cell_m: float) -> None:
        """Nothing known yet in a cube of `extent_m` around `center` (3,), metres, object frame."""
        self.cell_m = cell_m
        self.size = int(np.ceil(extent_m / cell_m))
        self.origin = np.asarray(center, np.float64) - self.size * cell_m / 2
        self._count = np.zeros((self.size,) * 3, np.uint8)

    @property
    def memory_bytes(self) -> int:
        """Bytes held by the counts."""
        return self._count.nbytes

    def observe(
        self,
        depth_m: np.ndarray,
        intrinsics: CameraIntrinsics,
        T_camera_object: np.ndarray,
        bounds: tuple[np.ndarray, np.ndarray],
        margin_m: float,
    ) -> None:
        """Count the cells that a frame sees through.

        Args:
            depth_m: (H, W) metres, hands included; NaN and 0 are unknown.
            intrinsics: of the depth image.
            T_camera_object: (4, 4) pose.
            bounds: lowest and highest corner (3,) of the part to judge, metres, object frame.
            margin_m: a cell is free when this far before all that is seen around it.
        """
        low = np.clip(np.floor((bounds[0] - self.origin) / self.cell_m).astype(int), 0, self.size)
        high = np.clip(np.ceil((bounds[1] - self.origin) / self.cell_m).astype(int), 0, self.size)
        if not (high > low).all():
            return
        axes = [(np.arange(a, b) + 0.5) * self.cell_m + o for a, b, o in zip(low, high, self.origin)]
        x, y, z = (_along(axes, T_camera_object, row) for row in range(3))
        radius = 0.87 * self.cell_m
        in_front = z > 0.05
        safe = np.where(in_front, z, np.float32(1))
        u = np.rint(x / safe * intrinsics.fx + intrinsics.cx).astype(np.int32)
        v = np.rint(y / safe * intrinsics.fy + intrinsics.cy).astype(np.int32)
        height, width = depth_m.shape
        inside = in_front & (u >= 0) & (v >= 0) & (u < width) & (v < height)
        if not inside.any():
            return
        reach = int(np.ceil(radius * intrinsics.fx / float(np.median(z[inside]))))
        u, v = u[inside], v[inside]
        nearest = _nearest_depth(depth_m, reach, (u.min(), v.min(), u.max() + 1, v.max() + 1))
        free = inside
        free[inside] = nearest[v - v.min(), u - u.min()] > z[inside] + (radius + margin_m)
        part = self._count[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
        part += free & (part < _MOST)

    def counts(self, origin: np.ndarray, shape: tuple[int, ...], pitch_m: float) -> np.ndarray:
        """Frames that saw through each voxel of a grid; 0 outside the cube.

        Args:
            origin: (3,) metres, corner of voxel (0, 0, 0).
            shape: (X, Y, Z) voxels.
            pitch_m: their edge.

        Returns:
            (X, Y, Z) uint8.
        """
        indices, known = [], []
        for start, count, own in zip(origin, shape, self.origin):
            index = np.floor((start + (np.arange(count) + 0.5) * pitch_m - own) / self.cell_m).astype(int)
            known.append((index >= 0) & (index < self.size))
            indices.append(np.clip(index, 0, self.size - 1))
        inside = known[0][:, None, None] & known[1][:, None] & known[2]
        return self._count[np.ix_(*indices)] * inside


def _along(axes: list[np.ndarray], T_camera_object: np.ndarray, row: int) -> np.ndarray:
    """Coordinate `row` in the camera of the grid spanned by three axes, (X, Y, Z) float32."""
    a, b, c = (axis * T_camera_object[row, i] for i, axis in enumerate(axes))
    a = a + T_camera_object[row, 3]
    return (a.astype(np.float32)[:, None, None] + b.astype(np.float32)[:, None]) + c.astype(np.float32)


def _nearest_depth(depth_m: np.ndarray, reach_px: int, roi: tuple[int, int, int, int]) -> np.ndarray:
    """Least depth within `reach_px` of the pixels of roi (x0, y0, x1, y1); 0 where any of it is unknown."""
    x0, y0, x1, y1 = roi
    left, top = max(x0 - reach_px, 0), max(y0 - reach_px, 0)
    wide = np.nan_to_num(depth_m[top : y1 + reach_px, left : x1 + reach_px].astype(np.float32), nan=0.0)
    nearest = cv2.erode(wide, np.ones((2 * reach_px + 1,) * 2, np.uint8))
    return nearest[y0 - top : y1 - top, x0 - left : x1 - left]
