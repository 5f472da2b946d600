"""Depth, colour and normals of triangle meshes as a camera sees them, by ray casting."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hoi_ros.datatypes import CameraIntrinsics, TriangleMesh
from hoi_ros.evaluation.ray_scene import ray_scene
from hoi_ros.geometry import invert_transform


@dataclass(frozen=True)
class Rendering:
    """One picture of a mesh."""

    depth_m: np.ndarray
    """(H, W) float32 along the optical axis, 0 where nothing is."""
    color: np.ndarray
    """(H, W, 3) uint8 RGB, black where nothing is, without shading."""
    normals: np.ndarray
    """(H, W, 3) float32 in the optical frame, zeros where nothing is."""


class MeshRenderer:
    """Casts rays at one mesh; Embree on the CPU through Open3D."""

    def __init__(self, mesh: TriangleMesh) -> None:
        """Index the mesh.

        Raises:
            ImportError: Open3D is not installed.
        """
        self._scene, self._tensor = ray_scene(mesh, "rendering meshes")
        self._mesh = mesh

    def render(self, intrinsics: CameraIntrinsics, T_camera_mesh: np.ndarray) -> Rendering:
        """Look at the mesh from a camera, (4, 4) mesh to optical frame."""
        T_mesh_camera = invert_transform(np.asarray(T_camera_mesh, np.float64))
        v, u = np.mgrid[: intrinsics.height, : intrinsics.width]
        x, y = (u - intrinsics.cx) / intrinsics.fx, (v - intrinsics.cy) / intrinsics.fy
        directions = np.stack([x, y, np.ones_like(x)], -1) @ T_mesh_camera[:3, :3].T
        origins = np.broadcast_to(T_mesh_camera[:3, 3], directions.shape)
        hit = self._scene.cast_rays(self._tensor(np.concatenate([origins, directions], -1).astype(np.float32)))
        depth = hit["t_hit"].numpy()
        seen = np.isfinite(depth)
        normals = hit["primitive_normals"].numpy() @ T_mesh_camera[:3, :3].astype(np.float32)
        color = np.zeros((*depth.shape, 3), np.uint8)
        if self._mesh.colors is not None:
            a, b = np.moveaxis(hit["primitive_uvs"].numpy()[seen], -1, 0)
            corners = self._mesh.colors[self._mesh.faces[hit["primitive_ids"].numpy()[seen]]].astype(np.float32)
            color[seen] = np.einsum("nk,nkc->nc", np.stack([1 - a - b, a, b], -1), corners) + 0.5
        return Rendering(np.where(seen, depth, 0).astype(np.float32), color, normals * seen[..., None])
