"""Open3D's VoxelBlockGrid: fusion with given poses."""

from __future__ import annotations

from typing import Any

import numpy as np

from hoi_ros.datatypes import RgbdFrame, TriangleMesh


class VoxelBlockGridFusion:
    """Blocks of 8 voxels; truncation as ours, components below a tenth of the largest dropped, as users do."""

    name = "Open3D VoxelBlockGrid"

    def __init__(self, voxel_size_m: float, truncation_voxels: float, min_weight: float = 1.5) -> None:
        import open3d

        library: Any = open3d
        self._o3d, core = library, library.core
        self._grid = library.t.geometry.VoxelBlockGrid(
            ("tsdf", "weight", "color"), (core.float32,) * 3, ((1,), (1,), (3,)), voxel_size_m, 8, 4000,
            core.Device("CPU:0"),
        )  # fmt: skip
        self._truncation, self._min_weight = truncation_voxels, min_weight

    def integrate(self, frame: RgbdFrame, mask: np.ndarray, T_camera_object: np.ndarray) -> None:
        """Fuse the masked depth and colour of one frame."""
        core, images = self._o3d.core, self._o3d.t.geometry
        assert frame.depth_m is not None
        depth = np.where(mask, frame.depth_m, 0).astype(np.float32)
        if not depth.any():
            return
        depth_image, color = images.Image(depth), images.Image(frame.color.astype(np.float32))
        camera, pose = core.Tensor(frame.intrinsics.matrix), core.Tensor(np.asarray(T_camera_object, np.float64))
        blocks = self._grid.compute_unique_block_coordinates(depth_image, camera, pose, 1.0, 3.0, self._truncation)
        self._grid.integrate(blocks, depth_image, color, camera, camera, pose, 1.0, 3.0, self._truncation)

    def extract_mesh(self) -> TriangleMesh | None:
        """The surface so far; None when there is none."""
        if not self._grid.hashmap().size():
            return None
        mesh = self._grid.extract_triangle_mesh(self._min_weight).to_legacy()
        if not len(mesh.triangles):
            return None
        label, size, _ = mesh.cluster_connected_triangles()
        mesh.remove_triangles_by_mask(np.asarray(size)[np.asarray(label)] < 0.1 * max(size))
        return TriangleMesh(np.asarray(mesh.vertices, np.float32), np.asarray(mesh.triangles, np.int32))
