"""What is refused before anything is measured: each error names file and field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hoi_ros.datatypes import HAND_SIDES, TriangleMesh
from hoi_ros.errors import InputError, unknown_name

UNITS_M: Mapping[str, float] = {"m": 1.0, "cm": 0.01, "mm": 0.001}
"""Names of length units and their metres."""
UNIT_NAMES: Mapping[str, str] = {"m": "metres", "cm": "centimetres", "mm": "millimetres"}
_PALM_M = (0.04, 0.09, 0.16)
"""Wrist to the first joint of the middle finger of any person: least, usual, most."""
_PLACE_M = (0.0, 0.6, 20.0)
"""A held object's distance from the camera; its origin may lie anywhere, so there is no least."""
_EXTENT_M = (0.001, 0.15, 5.0)
"""Longest side of an object that a hand holds."""


def metres_of(values: np.ndarray, unit: str, *, file: str, field: str) -> np.ndarray:
    """Lengths in metres of lengths in a named unit.

    Raises:
        InputError: unknown unit.
    """
    if unit not in UNITS_M:
        raise InputError(f"{file}, field '{field}': {unknown_name('unit', unit, UNITS_M)}")
    return np.asarray(values, np.float64) * UNITS_M[unit]


def require_metres(joints: np.ndarray, *, file: str, field: str, unit: str = "m", fixed: bool = False) -> None:
    """Refuse hands (N, 21, 3) whose size shows another unit than the one they were read in; NaN says nothing.

    Args:
        joints: in metres if the unit was right.
        file: for the message. field: for the message.
        unit: they were read in.
        fixed: a data set's own unit, which no option changes.

    Raises:
        InputError: the palms are no person's, with the unit that would explain them.
    """
    _require_size("a palm", np.linalg.norm(joints[:, 9] - joints[:, 0], axis=1), _PALM_M, unit, fixed, file, field)


def require_places(places: np.ndarray, *, file: str, field: str, unit: str = "m", fixed: bool = False) -> None:
    """Refuse positions (N, 3) of an object, in metres, out of any hand's reach; the rest as `require_metres`.

    Raises:
        InputError: the median distance is above 20 m.
    """
    _require_size("an object's distance", np.linalg.norm(places, axis=1), _PLACE_M, unit, fixed, file, field)


def require_extent(mesh: TriangleMesh, *, file: str, field: str, unit: str = "m", fixed: bool = False) -> None:
    """Refuse an object's mesh, in metres, that no hand can hold; the rest as `require_metres`.

    Raises:
        InputError: its longest side is above 5 m or below 1 mm.
    """
    sides = np.ptp(mesh.vertices.astype(np.float64), axis=0).max(initial=0) if len(mesh.vertices) else np.nan
    _require_size("an object's longest side", np.atleast_1d(sides), _EXTENT_M, unit, fixed, file, field)


def _require_size(
    what: str, sizes_m: np.ndarray, sane_m: tuple[float, float, float], unit: str, fixed: bool, file: str, field: str
) -> None:
    sizes_m = sizes_m[np.isfinite(sizes_m)]
    if not len(sizes_m) or sane_m[0] <= (size := float(np.median(sizes_m))) <= sane_m[2]:
        return
    written = size / UNITS_M[unit]
    likely = min(UNITS_M, key=lambda name: abs(np.log(max(written, 1e-12) * UNITS_M[name] / sane_m[1])))
    if not sane_m[0] <= written * UNITS_M[likely] <= sane_m[2]:
        hint = "its unit is unknown: give metres"
    else:
        hint = f"it looks like {likely}: " + (f"write {UNIT_NAMES[unit]} there" if fixed else f"pass --units {likely}")
    raise InputError(f"{file}, field '{field}': {what} of {written:.3g} is not in {UNIT_NAMES[unit]}; {hint}")


def require_vertices_at_joints(vertices: np.ndarray, joints: np.ndarray, *, file: str, field: str) -> None:
    """Refuse hands most of whose vertices (N, V, 3) do not lie around their joints (N, 21, 3).

    Raises:
        InputError: with the first such row.
    """
    known = np.flatnonzero(np.isfinite(vertices).all((1, 2)) & np.isfinite(joints).all((1, 2)))
    if not len(known) or not vertices.shape[1]:
        return
    skin, bones = vertices[known], joints[known]
    size, extent = (np.ptp(x, axis=1).max(1) for x in (bones, skin))
    gap = np.linalg.norm(skin.mean(1) - bones.mean(1), axis=1)
    wrong = (gap > 2 * size) | (extent > 4 * size) | (extent < size / 4)
    if wrong.mean() > 0.5:
        row = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"{file}, field '{field}': row {known[row]} is {extent[row]:.3g} m long and lies {gap[row]:.3g} m from its"
            f" joints, a hand of {size[row]:.3g} m; write vertices and joints in one unit, row i of both the same hand"
        )


def require_finite(values: np.ndarray, *, file: str, field: str) -> None:
    """Refuse NaN and infinity.

    Raises:
        InputError: with the first such row.
    """
    bad = ~np.isfinite(values).all(axis=tuple(range(1, np.ndim(values))))
    if bad.any():
        raise InputError(
            f"{file}, field '{field}': row {int(np.flatnonzero(bad)[0])} is not finite ({int(bad.sum())} of {len(bad)}"
            " rows); leave such rows out"
        )


def require_sides(sides: np.ndarray, *, file: str, field: str) -> None:
    """Refuse sides of hands that are not 'left' or 'right'.

    Raises:
        InputError: with the first such row.
    """
    wrong = [row for row, side in enumerate(sides) if str(side) not in HAND_SIDES]
    if wrong:
        raise InputError(
            f"{file}, field '{field}': row {wrong[0]} is '{sides[wrong[0]]}';"
            f" write {' or '.join(map(repr, HAND_SIDES))}"
        )


def whole_numbers(values: np.ndarray, *, file: str, field: str) -> np.ndarray:
    """Values as (N,) int64.

    Raises:
        InputError: with the first row that is no whole number.
    """
    if values.ndim == 1 and values.dtype.kind in "iu":
        return values.astype(np.int64)
    if values.ndim == 1 and values.dtype.kind == "f":
        wrong = np.flatnonzero(~np.isfinite(values) | (values != np.round(values)))
        if not len(wrong):
            return values.astype(np.int64)
        raise InputError(f"{file}, field '{field}': row {wrong[0]} is {values[wrong[0]]}; write whole numbers")
    raise InputError(f"{file}, field '{field}': {values.dtype} of shape {values.shape}; write one whole number a row")


def shaped(values: Any, shape: tuple[int, ...], *, file: str, field: str) -> np.ndarray:
    """Values as float64 of a shape in which -1 stands for any length.

    Raises:
        InputError: no numbers, rows of unlike length, or another shape.
    """
    wanted = "x".join("N" if n < 0 else str(n) for n in shape)
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{file}, field '{field}': expected a list of {wanted} numbers ({error})") from error
    if array.ndim != len(shape) or any(n not in (-1, have) for n, have in zip(shape, array.shape)):
        have = "x".join(map(str, array.shape)) or "one"
        raise InputError(f"{file}, field '{field}': {have} numbers, expected {wanted}")
    return array


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
        InputError: names the number of open edges, or a vertex that is not finite.
    """
    require_finite(mesh.vertices, file=file, field="vertices")
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
