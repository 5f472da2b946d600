"""Shape from outlines: space that every view allows bounds the depth that goes to the volume that sensors feed."""

from __future__ import annotations

import numpy as np

from hoi_ros.datatypes import CameraIntrinsics, ObjectObservation, RgbdFrame
from hoi_ros.geometry import invert_transform
from hoi_ros.tracking.pointmap_relief import ConfidentDepth, joined_depth, outline_depth

_EXTENT_OF_LENGTH, _NARROWEST_M, _WIDEST_M = 1.4, 0.09, 0.3


class SilhouetteHull:
    """Visual hull on a grid in the object frame (Laurentini, PAMI 1994), with pixels behind hands left undecided."""

    def __init__(self, center_object: np.ndarray, extent_m: float = 0.26, cells: int = 64) -> None:
        """A cube of `cells` a side around `center_object` (3,)."""
        self.step_m = extent_m / cells
        self.origin = np.asarray(center_object, np.float64) - extent_m / 2 + self.step_m / 2
        axis = np.arange(cells) * self.step_m
        grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3) + self.origin
        self._centers = grid.astype(np.float32)
        self.cells = cells
        self._allowed = np.zeros(len(grid), np.float32)
        self._denied = np.zeros(len(grid), np.float32)
        self.views = 0

    def carve(
        self, object_mask: np.ndarray, hidden_mask: np.ndarray | None, T_camera_object: np.ndarray,
        camera: CameraIntrinsics,
    ) -> None:  # fmt: skip
        """Take in one view.

        Args:
            object_mask: (H, W) bool pixels of the object.
            hidden_mask: (H, W) bool pixels where something else may hide it.
            T_camera_object: (4, 4).
            camera: intrinsics.
        """
        pose = T_camera_object.astype(np.float32)
        seen = self._centers @ pose[:3, :3].T + pose[:3, 3]
        z = np.maximum(seen[:, 2], 1e-3)
        column = np.rint(seen[:, 0] / z * camera.fx + camera.cx).astype(np.int32)
        row = np.rint(seen[:, 1] / z * camera.fy + camera.cy).astype(np.int32)
        height, width = object_mask.shape
        inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
        at = np.flatnonzero(inside)
        place = row[at] * width + column[at]
        mine = object_mask.reshape(-1)[place]
        hidden = np.zeros(len(at), bool) if hidden_mask is None else hidden_mask.reshape(-1)[place]
        self._allowed[at] += mine
        self._denied[at] += ~mine & ~hidden
        self.views += 1

    @property
    def occupied_mask(self) -> np.ndarray:
        """(cells, cells, cells) bool: seen as object, and denied by at most one view in eight."""
        total = self._allowed + self._denied
        full = (self._allowed > 0) & (self._denied <= np.floor(total / 8))
        return full.reshape((self.cells,) * 3)

    def points(self) -> np.ndarray:
        """(N, 3) metres, object frame: middles of occupied cells."""
        return self._centers[self.occupied_mask.reshape(-1)].astype(np.float64)

    def depth(
        self, mask: np.ndarray, T_camera_object: np.ndarray, camera: CameraIntrinsics, stride: int = 2
    ) -> np.ndarray:
        """(H, W) float32 metres to the hull's front at the pixels of a mask; 0 where the hull is not met."""
        out = np.zeros(mask.shape, np.float32)
        rows, columns = np.nonzero(mask[::stride, ::stride])
        full = self.occupied_mask
        if not len(rows) or not full.any():
            return out
        rays = np.stack([(columns * stride - camera.cx) / camera.fx, (rows * stride - camera.cy) / camera.fy], 1)
        rays = np.concatenate([rays, np.ones((len(rows), 1))], 1)
        inverse = invert_transform(T_camera_object)
        middle = T_camera_object[:3, :3] @ (self.origin + self.cells / 2 * self.step_m) + T_camera_object[:3, 3]
        reach = 0.87 * self.cells * self.step_m
        depths = np.arange(max(middle[2] - reach, 0.05), middle[2] + reach, self.step_m / 2)
        directions = (rays @ inverse[:3, :3].T).astype(np.float32)
        start = ((inverse[:3, 3] - self.origin) / self.step_m).astype(np.float32)
        found = np.zeros(len(rows), np.float32)
        for depth in depths:  # all rays together, nearest first
            open_rays = np.flatnonzero(found == 0)
            cell = np.rint(start + directions[open_rays] * np.float32(depth / self.step_m)).astype(np.int32)
            within = ((cell >= 0) & (cell < self.cells)).all(1)
            i, j, k = cell[within].T
            hit = open_rays[within][full[i, j, k]]
            found[hit] = depth
        small = np.zeros(mask[::stride, ::stride].shape, np.float32)
        small[rows, columns] = found
        large = np.repeat(np.repeat(small, stride, 0), stride, 1)[: mask.shape[0], : mask.shape[1]]
        return np.where(mask, large, np.float32(0))


class ColorDepth:
    """Gives key views of a colour track a depth, to be fused as a sensor's is: relief behind the hull's front."""

    MIN_VIEWS = 4
    """Fewer outlines leave a hull that is drawn out along their rays."""

    def __init__(self) -> None:
        self._hull: SilhouetteHull | None = None
        self._object_id = -1

    def reset(self) -> None:
        """Forget the shape."""
        self._hull = None

    def depth(
        self, frame: RgbdFrame, observation: ObjectObservation, middle_object: np.ndarray,
        pointmap: ConfidentDepth | None = None,
    ) -> np.ndarray | None:  # fmt: skip
        """(H, W) float32 metres at the object's pixels, 0 elsewhere; None but at key views.

        Args:
            frame: colour.
            observation: tracked, with mask; only key views change the hull.
            middle_object: (3,) the object's middle, where the grid is laid.
            pointmap: what the network says of this view; without it the outline alone says how it is rounded.
        """
        pose, mask, camera = observation.T_camera_object, observation.mask, frame.intrinsics
        if pose is None or mask is None or not observation.is_keyframe or not mask.any():
            return None
        if self._hull is None or observation.object_id != self._object_id:
            extent = _likely_extent(mask, pose, middle_object, camera)
            self._hull, self._object_id = SilhouetteHull(middle_object, extent), observation.object_id
        self._hull.carve(mask, observation.hand_mask, pose, camera)
        depth = outline_depth(mask, float((pose[:3, :3] @ middle_object + pose[:3, 3])[2]), camera)
        surface = depth.depth_m if pointmap is None else joined_depth(pointmap, depth, mask)
        if self._hull.views < self.MIN_VIEWS:
            return surface
        return np.maximum(surface, self._hull.depth(mask, pose, camera))


def _likely_extent(mask: np.ndarray, pose: np.ndarray, middle: np.ndarray, camera: CameraIntrinsics) -> float:
    """Metres a side of the cube that surely holds a thing: few views carve little along their rays."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return _WIDEST_M
    distance = float((pose[:3, :3] @ middle + pose[:3, 3])[2])
    longest_px = float(np.hypot(np.ptp(rows) + 1, np.ptp(columns) + 1))
    return float(np.clip(_EXTENT_OF_LENGTH * longest_px * distance / camera.fx, _NARROWEST_M, _WIDEST_M))
