"""Which regions of a hand touch the object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from hoi_ros.datatypes import TriangleMesh
from hoi_ros.errors import InputError

_DEEP_M = 0.02


@dataclass(frozen=True)
class RegionContact:
    """One region of a hand against the object."""

    touching: bool
    distance_m: float
    """Mean over the region's nearest tenth of its vertices; negative inside the object."""
    points: np.ndarray
    """(K, 3) metres: points of the object that the region touches, in the frame of the vertices."""


def find_contacts(
    hand_vertices: np.ndarray,
    regions: Mapping[str, np.ndarray],
    model: TriangleMesh | np.ndarray,
    *,
    contact_m: float = 0.005,
    min_vertices: int = 3,
) -> dict[str, RegionContact]:
    """Distance of each hand region to the object, and where they touch.

    A vertex touches within `contact_m` of the surface or inside it, as far as the surface's normal tells (mesh only).
    Source: the contact definition of GRAB (Taheri et al., ECCV 2020), with the threshold as argument.

    Args:
        hand_vertices: (V, 3) metres.
        regions: name to (V,) bool or to vertex numbers.
        model: the object's mesh, or a cloud (N, 3), in the frame of the vertices.
        contact_m: largest gap that counts as touching.
        min_vertices: a region touches when so many of its vertices do.

    Raises:
        InputError: wrong shapes, or an empty model.
    """
    if hand_vertices.ndim != 2 or hand_vertices.shape[1] != 3:
        raise InputError(f"hand vertices are {hand_vertices.shape}: give (V, 3) metres")
    points, normals = _surface_samples(model) if isinstance(model, TriangleMesh) else (np.asarray(model), None)
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise InputError(f"object model of shape {points.shape}: give a mesh or a cloud (N, 3) with points in it")
    distance, nearest = cKDTree(points).query(np.nan_to_num(hand_vertices, nan=1e6), workers=1)
    if normals is not None:
        height = np.einsum("vi,vi->v", np.nan_to_num(hand_vertices, nan=1e6) - points[nearest], normals[nearest])
        distance = np.where((height < 0) & (distance < _DEEP_M), -distance, distance)
    touching = distance <= contact_m
    result = {}
    for name, members in regions.items():
        members = np.flatnonzero(members) if members.dtype == bool else members
        own = np.sort(distance[members])
        touched = members[touching[members]]
        mean = float(own[: max(1, len(own) // 10)].mean()) if len(own) else float("inf")
        result[name] = RegionContact(len(touched) >= min_vertices, mean, points[np.unique(nearest[touched])])
    return result


def _surface_samples(mesh: TriangleMesh, spacing_m: float = 0.002) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 3) over the triangles about `spacing_m` apart, at most 200,000, with their normals."""
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    double_area = np.linalg.norm(cross, axis=1)
    corners, cross, double_area = (x[double_area > 0] for x in (corners, cross, double_area))
    if not len(corners):
        return np.zeros((0, 3)), np.zeros((0, 3))
    count = np.ceil(double_area / 2 / spacing_m**2)
    count = np.maximum(np.floor(count * min(1.0, 200_000 / count.sum())), 1).astype(int)
    owner = np.repeat(np.arange(len(count)), count)
    rank = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    # The R2 low-discrepancy sequence, folded into the triangle; the first point is the centroid.
    a, b = (1 / 3 + rank * 0.7548776662) % 1, (1 / 3 + rank * 0.5698402910) % 1
    fold = a + b > 1
    a, b = np.where(fold, 1 - a, a)[:, None], np.where(fold, 1 - b, b)[:, None]
    c = corners[owner]
    points = c[:, 0] + a * (c[:, 1] - c[:, 0]) + b * (c[:, 2] - c[:, 0])
    return points, (cross / double_area[:, None])[owner]
