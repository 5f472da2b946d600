"""Rays and distances against triangles: the one place that speaks to Open3D (Embree)."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np

THREADS = 2
_PLOTTING = "open3d.visualization.draw_plotly"


class TriangleScene:
    """Triangles that can be hit by rays and asked for distances."""

    def __init__(self, vertices: np.ndarray, faces: np.ndarray) -> None:
        library = load_open3d()
        self._tensor = library.core.Tensor
        self._scene = library.t.geometry.RaycastingScene(nthreads=THREADS)
        self._scene.add_triangles(np.ascontiguousarray(vertices, np.float32), np.ascontiguousarray(faces, np.uint32))

    def cast(self, origins: np.ndarray, directions: np.ndarray) -> dict[str, np.ndarray]:
        """First hits of rays: `t_hit` (N,) in lengths of the direction, inf where missed, `primitive_ids` (N,),
        `primitive_uvs` (N, 2), `primitive_normals` (N, 3).

        Args:
            origins: (3,) or (N, 3) metres.
            directions: (N, 3), any length.
        """
        rays = np.empty((len(directions), 6), np.float32)
        rays[:, :3] = origins
        rays[:, 3:] = directions
        hits = self._scene.cast_rays(self._tensor.from_numpy(rays))
        return {name: value.numpy() for name, value in hits.items()}

    def signed_distance(self, points: np.ndarray) -> np.ndarray:
        """(...) metres of (..., 3) points to a closed surface, negative inside."""
        flat = np.ascontiguousarray(points.reshape(-1, 3), np.float32)
        distance = self._scene.compute_signed_distance(self._tensor.from_numpy(flat))
        return distance.numpy().reshape(points.shape[:-1])


def load_open3d() -> Any:
    """Open3D without its plots for web pages: those import a web server, which takes longer than Open3D itself.

    Whoever imports the plots by name later gets them.
    """
    if "open3d" not in sys.modules:
        absent = ModuleType(_PLOTTING)
        for name in ("get_plotly_fig", "draw_plotly", "draw_plotly_server"):
            setattr(absent, name, None)
        sys.modules[_PLOTTING] = absent
        try:
            import open3d
        finally:
            del sys.modules[_PLOTTING]
        for name in ("get_plotly_fig", "draw_plotly", "draw_plotly_server"):
            vars(open3d.visualization).pop(name, None)
    import open3d

    return open3d
