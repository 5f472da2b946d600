"""A mesh made ready for rays and distances by Open3D."""

from __future__ import annotations

from typing import Any

import numpy as np

from hoi_ros.datatypes import TriangleMesh


def ray_scene(mesh: TriangleMesh, purpose: str) -> tuple[Any, Any]:
    """Open3D's RaycastingScene of a mesh, and its tensor class.

    Raises:
        ImportError: Open3D is not installed; says that `purpose` needs it.
    """
    try:
        import open3d
    except ImportError as error:
        raise ImportError(f"{purpose} needs Open3D ({error}): pip install open3d") from error
    library: Any = open3d
    scene, tensor = library.t.geometry.RaycastingScene(nthreads=2), library.core.Tensor
    scene.add_triangles(
        tensor(np.ascontiguousarray(mesh.vertices, np.float32)), tensor(np.ascontiguousarray(mesh.faces, np.uint32))
    )
    return scene, tensor
