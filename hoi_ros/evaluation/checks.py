"""What is refused before anything is measured: each error names file and field."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hoi_ros.datatypes import TriangleMesh
from hoi_ros.errors import InputError, unknown_name

UNITS_M: Mapping[str, float] = {"m": 1.0, "cm": 0.01, "mm": 0.001}
"""Names of length units and their metres."""
_PALM_M = (0.04, 0.16)
"""Wrist to the first joint of the middle finger of any person."""


def metres_of(values: np.ndarray, unit: str, *, file: str, field: str) -> np.ndarray:
    """Lengths in metres of lengths in a named unit.

    Raises:
        InputError: unknown unit.
    """
    if unit not in UNITS_M:
        raise InputError(f"{file}, field '{field}': {unknown_name('unit', unit, UNITS_M)}")
    return np.asarray(values, np.float64) * UNITS_M[unit]


def require_metres(joints: np.ndarray, *, file: str, field: str) -> None:
    """Refuse hands (N, 21, 3) whose size shows another unit than metres; hands of NaN say nothing.

    Raises:
        InputError: the palms are no person's, with the unit that would explain them.
    """
    palm = np.linalg.norm(joints[:, 9] - joints[:, 0], axis=1)
    palm = palm[np.isfinite(palm)]
    if not len(palm):
        return
    size = float(np.median(palm))
    if _PALM_M[0] <= size <= _PALM_M[1]:
        return
    fitting = [name for name, metres in UNITS_M.items() if _PALM_M[0] <= size * metres <= _PALM_M[1]]
    hint = f"it looks like {fitting[0]}: say --units {fitting[0]}" if fitting else "its unit is unknown: give metres"
    raise InputError(f"{file}, field '{field}': a palm of {size:.3g} is not in metres; {hint}")


def require_rows(count: int, *, file: str, field: str) -> None:
    """Refuse an empty field.

    Raises:
        InputError: there is no row.
    """
    if count == 0:
        raise InputError(f"{file}, field '{field}' is empty: nothing was predicted, so there is nothing to measure")


def require_same_length(counts: Mapping[str, int], *, file: str) -> None:
    """Refuse fields of one file whose rows do not belong together.

    Raises:
        InputError: names every field with its length.
    """
    if len(set(counts.values())) > 1:
        each = ", ".join(f"'{name}' {count}" for name, count in counts.items())
        raise InputError(f"{file}: fields differ in length ({each}); row i of each must be the same hand or frame")


def require_watertight(mesh: TriangleMesh, *, file: str, field: str = "faces") -> None:
    """Refuse a mesh that encloses no volume.

    Raises:
        InputError: names the number of open edges.
    """
    count = open_edges(mesh)
    if count or not len(mesh.faces):
        what = f"{count} open edges" if len(mesh.faces) else "no triangle"
        raise InputError(
            f"{file}, field '{field}': the mesh has {what}, volume needs a closed one; close it (for a hand cut at the"
            " wrist: closed_at_holes) or ask for distances only"
        )


def open_edges(mesh: TriangleMesh) -> int:
    """Edges that do not border two triangles wound alike; vertices at one place count as one."""
    _, same = np.unique(np.round(mesh.vertices.astype(np.float64), 7), axis=0, return_inverse=True)
    faces = same.reshape(-1)[mesh.faces]
    faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])]
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    direction = np.where(edges[:, 0] < edges[:, 1], 1, -1)
    _, group = np.unique(np.sort(edges, axis=1), axis=0, return_inverse=True)
    return int((np.bincount(group.reshape(-1), direction) != 0).sum()) if len(edges) else 0


def closed_at_holes(mesh: TriangleMesh) -> TriangleMesh:
    """The mesh with every hole closed by a fan about the middle of its border, as for a hand cut at the wrist.

    Raises:
        InputError: a border runs through a vertex twice, so that it is no simple hole.
    """
    edges = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    present = {tuple(edge) for edge in edges.tolist()}
    following = {}
    for a, b in present:
        if (b, a) not in present:
            if b in following:
                raise InputError(f"mesh: more than one hole meets at vertex {b}; repair it before asking for volume")
            following[b] = a
    vertices, faces = [mesh.vertices], [mesh.faces]
    count = len(mesh.vertices)
    while following:
        start = next(iter(following))
        loop = [start]
        while (after := following.pop(loop[-1])) != start:
            loop.append(after)
        vertices.append(mesh.vertices[loop].mean(0, keepdims=True))
        ring = np.array(loop)
        faces.append(np.stack([ring, np.roll(ring, -1), np.full(len(ring), count)], 1).astype(mesh.faces.dtype))
        count += 1
    return TriangleMesh(np.concatenate(vertices).astype(np.float32), np.concatenate(faces))
