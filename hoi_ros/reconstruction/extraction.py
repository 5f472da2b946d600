"""From a volume's copy to a clean coloured mesh."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from hoi_ros.datatypes import TriangleMesh
from hoi_ros.reconstruction.marching_cubes import marching_cubes
from hoi_ros.reconstruction.volume import DenseField


def mesh_from_field(field: DenseField, *, min_weight: float, min_component_fraction: float) -> TriangleMesh | None:
    """Mesh the surface that was seen with enough weight, without floaters.

    Args:
        field: copy of the volume.
        min_weight: voxels below it are unknown.
        min_component_fraction: connected parts with less than this share of the largest one's area are floaters;
            a part cut off by the hand that holds it is none. 1 keeps the largest part alone.

    Returns:
        Mesh in the object frame with vertex colours, or None when there is no surface yet.
    """
    faces, lower, upper, share = marching_cubes(field.tsdf, field.weight >= min_weight)
    if not len(faces):
        return None
    a = np.stack(np.unravel_index(lower, field.tsdf.shape), 1)
    b = np.stack(np.unravel_index(upper, field.tsdf.shape), 1)
    vertices = (a + (b - a) * share[:, None] + 0.5) * field.voxel_size_m + field.origin
    ends = field.color.reshape(-1, 4)
    low, high = ends[lower], ends[upper]
    weigh_low, weigh_high = (1 - share) * np.minimum(low[:, 3], 1), share * np.minimum(high[:, 3], 1)
    total = np.maximum(weigh_low + weigh_high, 1e-6)
    colors = (low[:, :3] * weigh_low[:, None] + high[:, :3] * weigh_high[:, None]) / total[:, None]
    mesh = TriangleMesh(vertices.astype(np.float32), faces, np.clip(colors + 0.5, 0, 255).astype(np.uint8))
    return drop_small_parts(mesh, min_component_fraction)


def face_areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Areas (M,) in square metres of triangles (M, 3) over vertices (N, 3)."""
    a, b, c = (vertices[faces[:, i]].astype(np.float64) for i in range(3))
    return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2


def drop_small_parts(mesh: TriangleMesh, min_fraction: float) -> TriangleMesh:
    """Keep the connected parts whose area is at least `min_fraction` of the largest part's; drop unused vertices."""
    count = len(mesh.vertices)
    ends = (mesh.faces[:, [0, 1]].reshape(-1), mesh.faces[:, [1, 2]].reshape(-1))
    graph = coo_matrix((np.ones(len(ends[0]), np.int8), ends), (count, count))
    labels = connected_components(graph, directed=False)[1]
    area = np.bincount(labels[mesh.faces[:, 0]], face_areas(mesh.vertices, mesh.faces))
    faces = mesh.faces[(area >= area.max() * min_fraction)[labels[mesh.faces[:, 0]]]]
    used, faces = np.unique(faces, return_inverse=True)
    colors = None if mesh.colors is None else mesh.colors[used]
    return TriangleMesh(mesh.vertices[used], faces.reshape(-1, 3).astype(np.int32), colors)
