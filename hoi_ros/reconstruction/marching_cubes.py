"""Triangles of the zero level of a sampled field; numpy arrays in, numpy arrays out."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np

# Corner c of a cube lies at (c & 1, c >> 1 & 1, c >> 2 & 1); an edge is named by its lower corner and its axis.
_CORNERS = np.array([[c & 1, c >> 1 & 1, c >> 2 & 1] for c in range(8)])
_EDGES = [(c, axis) for axis in range(3) for c in range(8) if not c >> axis & 1]
_EDGE_OF_CORNERS = {frozenset((c, c | 1 << axis)): e for e, (c, axis) in enumerate(_EDGES)}
# Corners around each face, counter-clockwise seen from outside the cube.
_FACES = ((0, 4, 6, 2), (1, 3, 7, 5), (0, 1, 5, 4), (2, 6, 7, 3), (0, 2, 3, 1), (4, 5, 7, 6))


def marching_cubes(field: np.ndarray, known_mask: np.ndarray, max_step: float = np.inf) -> tuple[np.ndarray, ...]:
    """Mesh the zero level of a field, negative inside, over the cubes whose eight corners are all known.

    A face with two diagonal inside corners always keeps them apart, so neighbouring cubes agree and the mesh of a
    fully known field is closed. Source: Lorensen and Cline, SIGGRAPH 1987; the case table is derived, not written.

    Args:
        field: (X, Y, Z) float32.
        known_mask: (X, Y, Z) bool.
        max_step: cubes whose corners differ by more than this are left out.

    Returns:
        faces (M, 3) int32 counter-clockwise seen from outside, lower (N,) and upper (N,) flat voxel numbers of the
        edge that each vertex lies on, share (N,) float32 of the way from lower to upper.
    """
    inside = field < 0
    case = np.zeros(tuple(n - 1 for n in field.shape), np.uint8)
    usable = np.ones(case.shape, bool)
    for c, corner in enumerate(_CORNERS):
        window = tuple(slice(o, o + n) for o, n in zip(corner, case.shape))
        case |= inside[window].astype(np.uint8) << c
        usable &= known_mask[window]
    cubes = np.flatnonzero(usable & (case != 0) & (case != 255))
    strides = np.array([field.shape[1] * field.shape[2], field.shape[2], 1])
    base = np.stack(np.unravel_index(cubes, case.shape), 1) @ strides
    case = case.reshape(-1)[cubes]
    if np.isfinite(max_step) and len(cubes):
        values = field.reshape(-1)[base[:, None] + _CORNERS @ strides]
        keep = np.ptp(values, axis=1) <= max_step
        base, case = base[keep], case[keep]

    triangles, count = _case_table()
    triangle_count = count[case]
    owner = np.repeat(np.arange(len(case)), triangle_count)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(triangle_count) - triangle_count, triangle_count)
    edges = triangles[case[owner], number]
    corner, axis = np.array(_EDGES).T
    lower = base[owner, None] + (_CORNERS @ strides)[corner[edges]]
    keys, faces = np.unique(lower * 3 + axis[edges], return_inverse=True)
    lower, upper = keys // 3, keys // 3 + strides[keys % 3]
    a, b = field.reshape(-1)[lower], field.reshape(-1)[upper]
    return faces.reshape(-1, 3).astype(np.int32), lower, upper, a / (a - b)


@cache
def _case_table() -> tuple[np.ndarray, np.ndarray]:
    """Edges of the triangles (256, T, 3) and their number (256,) for each set of inside corners."""
    cases = [_triangles(bits) for bits in range(256)]
    table = np.zeros((256, max(map(len, cases)), 3), np.int64)
    for bits, triangles in enumerate(cases):
        table[bits, : len(triangles)] = np.array(triangles, np.int64).reshape(-1, 3)
    return table, np.array([len(t) for t in cases])


def _triangles(bits: int) -> list[tuple[int, int, int]]:
    """Triangles of one case: join the crossed edges of each face into loops, then cut each loop into a fan."""
    following: dict[int, int] = {}
    for face in _FACES:
        inside = [bits >> c & 1 for c in face]
        ring = list(range(4)) * 2
        for i in range(4):
            if inside[i - 1] or not inside[i]:
                continue
            last = next(j for j in ring[i:] if not inside[(j + 1) % 4])
            enter = _EDGE_OF_CORNERS[frozenset((face[i - 1], face[i]))]
            leave = _EDGE_OF_CORNERS[frozenset((face[last], face[(last + 1) % 4]))]
            following[leave] = enter
    triangles = []
    while following:
        loop = [next(iter(following))]
        while (edge := following.pop(loop[-1])) != loop[0]:
            loop.append(edge)
        triangles += [(loop[0], c, b) for b, c in pairwise(loop[1:])]
    return triangles
