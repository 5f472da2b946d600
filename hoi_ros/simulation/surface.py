"""Textured closed surfaces: the record, its smooth normals, its colours and its finer copies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np

from hoi_ros.datatypes import TriangleMesh


@dataclass(frozen=True)
class GripSite:
    """Where and how a hand takes a thing."""

    center: np.ndarray
    """(3,) metres, object frame: a point on the axis about which fingers can turn the thing."""
    axis: np.ndarray
    """(3,) unit vector of that axis."""
    style: str = "wrap"
    """'wrap': the axis runs across the palm; 'top': fingertips reach down along the axis."""


@dataclass(frozen=True)
class SimObject:
    """A closed textured mesh; row i of the corner arrays belongs to face i."""

    name: str
    vertices: np.ndarray
    """(N, 3) float32 metres, object frame."""
    faces: np.ndarray
    """(M, 3) int32."""
    corner_uv: np.ndarray
    """(M, 3, 2) float32 texture pixels, x right and y down."""
    corner_normals: np.ndarray
    """(M, 3, 3) float32, smooth within 40 degrees."""
    texture: np.ndarray
    """(H, W, 3) uint8 RGB."""
    grips: tuple[GripSite, ...]

    def colored_mesh(self, max_edge_m: float = 0.004) -> TriangleMesh:
        """The same surface cut so finely that colours at the vertices carry the print."""
        return _dense_mesh(self, max_edge_m)


def corner_normals(vertices: np.ndarray, faces: np.ndarray, crease_deg: float = 40.0) -> np.ndarray:
    """(M, 3, 3) float32 unit normals of face corners, area-weighted over neighbours that bend less than `crease_deg`.

    Args:
        vertices: (N, 3). faces: (M, 3).
    """
    areas, normals = face_areas_normals(vertices, faces)
    # Vertices split at texture seams must be one here, or seams would show as edges.
    _, merged = np.unique(np.round(vertices, 6), axis=0, return_inverse=True)
    corner = merged.reshape(-1)[faces].reshape(-1)
    face_of_corner = np.repeat(np.arange(len(faces)), 3)
    # All pairs of a corner and a face that meet at one vertex: corners sorted by vertex, each with its vertex's run.
    order = np.argsort(corner, kind="stable")
    count = np.bincount(corner)
    first = np.concatenate([[0], np.cumsum(count)[:-1]])
    runs = count[corner]
    own = np.repeat(np.arange(len(corner)), runs)
    within = np.arange(len(own)) - np.repeat(np.cumsum(runs) - runs, runs)
    other = face_of_corner[order[np.repeat(first[corner], runs) + within]]
    near = np.einsum("ij,ij->i", normals[face_of_corner[own]], normals[other]) > np.cos(np.radians(crease_deg))
    own, other = own[near], other[near]
    weighted = normals[other] * (areas[other] + 1e-12)[:, None]
    summed = np.stack([np.bincount(own, weighted[:, k], len(corner)) for k in range(3)], -1)
    summed = summed / (np.linalg.norm(summed, axis=1, keepdims=True) + 1e-12)
    return summed.reshape(-1, 3, 3).astype(np.float32)


def face_areas_normals(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(M,) square metres and (M, 3) unit normals of triangles; a triangle without area has the normal 0."""
    a, b, c = (np.asarray(vertices, np.float64)[faces[:, k]] for k in range(3))
    cross = np.cross(b - a, c - a)
    double = np.linalg.norm(cross, axis=1)
    return double / 2, cross / np.maximum(double, 1e-20)[:, None]


def _dense_mesh(item: SimObject, max_edge_m: float) -> TriangleMesh:
    vertices, inverse = np.unique(np.round(item.vertices.astype(np.float64), 6), axis=0, return_inverse=True)
    faces, uv = inverse.reshape(-1)[item.faces], item.corner_uv.astype(np.float64)
    for _ in range(8):
        vertices, faces, uv, done = split_long_edges(vertices, faces, uv, max_edge_m)
        if done:
            break
    colors = np.zeros((len(vertices), 3), np.uint8)
    colors[faces.reshape(-1)] = sample_texture(item.texture, uv.reshape(-1, 2).astype(np.float32))
    return TriangleMesh(vertices.astype(np.float32), faces.astype(np.int32), colors)


def split_long_edges(
    vertices: np.ndarray, faces: np.ndarray, uv: np.ndarray, limit: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """Halve every edge over `limit` in both triangles that share it, so that a closed mesh stays closed."""
    following = [1, 2, 0]
    pairs = np.sort(np.stack([faces, faces[:, following]], -1).reshape(-1, 2), 1)
    edges, edge_of = np.unique(pairs, axis=0, return_inverse=True)
    long = np.linalg.norm(vertices[edges[:, 0]] - vertices[edges[:, 1]], axis=1) > limit
    if not long.any():
        return vertices, faces, uv, True
    number = np.full(len(edges), -1)
    number[long] = len(vertices) + np.arange(int(long.sum()))
    vertices = np.concatenate([vertices, vertices[edges[long]].mean(1)])
    middle = number[edge_of.reshape(-1)].reshape(-1, 3)
    middle_uv = (uv + uv[:, following]) / 2
    points, points_uv = np.concatenate([faces, middle], 1), np.concatenate([uv, middle_uv], 1)
    # Corners 0 1 2 and edge midpoints 3 4 5 (of 01, 12, 20): children by which edges are cut.
    children = {0: [(0, 1, 2)], 7: [(0, 3, 5), (3, 1, 4), (5, 4, 2), (3, 4, 5)]}
    for k in range(3):
        i, j, m, n = k, (k + 1) % 3, (k + 2) % 3, 3 + k
        q = 3 + j
        children[1 << k] = [(i, n, m), (n, j, m)]
        children[(1 << k) | (1 << j)] = [(n, j, q), (i, n, m), (n, q, m)]
    pattern = ((middle >= 0) * np.array([1, 2, 4])).sum(1)
    new_faces, new_uv = [], []
    for code, triangles in children.items():
        mine = np.flatnonzero(pattern == code)
        for triangle in triangles:
            new_faces.append(points[mine][:, triangle])
            new_uv.append(points_uv[mine][:, triangle])
    return vertices, np.concatenate(new_faces), np.concatenate(new_uv), False


def sample_texture(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Bilinear colours (N, C) of a picture (H, W, C) at (N, 2) float32 pixels; the border repeats."""
    count, columns = len(uv), 512
    rows = -(-count // columns)
    maps = np.zeros((rows * columns, 2), np.float32)
    maps[:count] = uv
    grid, nothing = maps.reshape(rows, columns, 2), cast(Any, None)
    picked = cv2.remap(texture, grid, nothing, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return picked.reshape(rows * columns, -1)[:count]
