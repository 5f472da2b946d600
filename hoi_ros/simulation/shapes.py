"""The built-in things: shapes of real-life size, printed by program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from hoi_ros.simulation import prints
from hoi_ros.simulation.surface import GripSite, SimObject, corner_normals, face_areas_normals, split_long_edges

if TYPE_CHECKING:
    import trimesh

PIXELS_PER_M = 2000.0


@dataclass(frozen=True)
class Solid:
    """A closed surface without print."""

    vertices: np.ndarray
    """(N, 3) metres."""
    faces: np.ndarray
    """(M, 3)."""

    @staticmethod
    def of(mesh: trimesh.Trimesh) -> Solid:
        """The same triangles."""
        return Solid(np.asarray(mesh.vertices), np.asarray(mesh.faces))

    def trimesh(self) -> trimesh.Trimesh:
        """The same triangles, for boolean operations."""
        import trimesh

        return trimesh.Trimesh(self.vertices, self.faces, process=False)


@dataclass(frozen=True)
class Chart:
    """A part of a surface and the picture printed on it."""

    picks: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """(centres (M, 3), normals (M, 3)) to (M,) bool."""
    maps: Callable[[np.ndarray], np.ndarray]
    """(K, 3, 3) triangle corners to (K, 3, 2) in picture pixels."""
    picture: np.ndarray


def _textured(name: str, coarse: Solid, charts: list[Chart], grips: tuple[GripSite, ...]) -> SimObject:
    """Print every face with the first chart that picks it; pictures are stacked into one texture."""
    vertices, faces, done = coarse.vertices, coarse.faces, False
    while not done:
        vertices, faces, _, done = split_long_edges(vertices, faces, np.zeros((len(faces), 3, 2)), 0.03)
    corners = vertices[faces]
    centers, normals = corners.mean(1), face_areas_normals(vertices, faces)[1]
    width = max(c.picture.shape[1] for c in charts) + 8
    uv = np.zeros((len(faces), 3, 2), np.float32)
    free = np.ones(len(faces), bool)
    strips, top = [], 0
    for chart in charts:
        mine = free & chart.picks(centers, normals)
        free &= ~mine
        high, wide = chart.picture.shape[:2]
        uv[mine] = np.clip(chart.maps(corners[mine]), 0, (wide - 1, high - 1)) + (4, top + 4)
        strips.append(cv2.copyMakeBorder(chart.picture, 4, 4, 4, width - wide - 4, cv2.BORDER_REPLICATE))
        top += high + 8
    return SimObject(
        name,
        vertices.astype(np.float32),
        faces.astype(np.int32),
        uv,
        corner_normals(vertices, faces),
        np.ascontiguousarray(np.concatenate(strips)),
        grips,
    )


def _planar(picture: np.ndarray, right: tuple, down: tuple, corner: tuple, picks: Callable) -> Chart:
    """Print `picture` flat, its first pixel at `corner`, along the unit vectors `right` and `down`."""
    basis = np.stack([np.array(right, float), np.array(down, float)], -1)
    return Chart(picks, lambda p: ((p - np.array(corner)) @ basis) * PIXELS_PER_M, picture)


def _around(picture: np.ndarray, z_top: float, height: float, picks: Callable) -> Chart:
    """Wrap `picture` once round the z axis, its top row at `z_top`. A strip is repeated past the seam."""
    wide, high = picture.shape[1], picture.shape[0]
    overlap = wide // 4

    def maps(p: np.ndarray) -> np.ndarray:
        turn = np.arctan2(p[..., 1], p[..., 0]) / (2 * np.pi) + 0.5
        first = turn[:, :1]
        turn = turn + np.where(turn - first < -0.5, 1.0, 0) - np.where(turn - first > 0.5, 1.0, 0)
        turn = turn - np.floor(turn.min(1, keepdims=True))
        return np.stack([turn * wide, (z_top - p[..., 2]) / height * high], -1)

    return Chart(picks, maps, np.concatenate([picture, picture[:, :overlap]], 1))


def _anywhere(centers: np.ndarray, _: np.ndarray) -> np.ndarray:
    return np.ones(len(centers), bool)


def revolve(profile: list[tuple[float, float]], sections: int = 72) -> Solid:
    """Closed solid of revolution about z.

    Args:
        profile: (radius, z) metres, bottom to top, or inner to outer; begins and ends at radius 0.
        sections: corners of every circle.
    """
    angle = np.arange(sections) * 2 * np.pi / sections
    circle = np.stack([np.cos(angle), np.sin(angle), np.zeros(sections)], 1)
    rings = [circle * r + [0, 0, z] for r, z in profile[1:-1]]
    poles = np.array([[0, 0, profile[0][1]], [0, 0, profile[-1][1]]])
    k = np.arange(sections)
    following = (k + 1) % sections
    bottom = sections * len(rings)
    faces = [np.stack([np.full(sections, bottom), following, k], 1)]
    for row in range(len(rings) - 1):
        low, high = row * sections, (row + 1) * sections
        faces.append(np.stack([low + k, low + following, high + following], 1))
        faces.append(np.stack([low + k, high + following, high + k], 1))
    last = sections * (len(rings) - 1)
    faces.append(np.stack([np.full(sections, bottom + 1), last + k, last + following], 1))
    return Solid(np.concatenate([*rings, poles]), np.concatenate(faces))


def _pixels(metres: float) -> int:
    return int(metres * PIXELS_PER_M)


def _bottle() -> SimObject:
    body = [(0, -0.1), (0.03, -0.1), (0.0325, -0.097), (0.033, -0.093), (0.033, -0.05), (0.0315, -0.02), (0.033, 0.01)]
    neck = [(0.033, 0.03), (0.031, 0.042), (0.025, 0.055), (0.017, 0.068), (0.0135, 0.074), (0.0135, 0.082)]
    cap = [(0.0155, 0.082), (0.0155, 0.098), (0.0145, 0.1), (0, 0.1)]
    mesh = revolve(body + neck + cap)
    lid = prints.plain(40, 120, (236, 236, 230), 7)
    prints.stripes(lid, 0, 40, [(36, 104, 60), (44, 124, 70)], 0.1)
    charts = [
        _around(lid, 0.1, 0.02, lambda c, n: c[:, 2] > 0.0815),
        _around(prints.bottle_label(_pixels(0.207), _pixels(0.19)), 0.09, 0.19, _anywhere),
    ]
    return _textured("bottle", mesh, charts, (GripSite(np.array([0, 0, -0.012]), np.array([0, 0, 1.0])),))


def _can() -> SimObject:
    profile = [
        (0, -0.05),
        (0.031, -0.05),
        (0.033, -0.0485),
        (0.033, 0.0485),
        (0.0318, 0.05),
        (0.030, 0.048),
        (0, 0.048),
    ]
    mesh = revolve(profile)
    lid = prints.plain(_pixels(0.07), _pixels(0.07), (188, 190, 194), 25, 8)
    prints.text(lid, "BEST BEFORE 08", (70, 74), 90, (60, 60, 66), 2)
    charts = [
        _planar(lid, (1, 0, 0), (0, -1, 0), (-0.035, 0.035, 0), lambda c, n: np.abs(n[:, 2]) > 0.6),
        _around(prints.can_label(_pixels(0.207), _pixels(0.1)), 0.05, 0.1, _anywhere),
    ]
    return _textured("can", mesh, charts, (GripSite(np.array([0, 0, 0.0]), np.array([0, 0, 1.0])),))


def _spray() -> SimObject:
    body = [
        (0, -0.09),
        (0.025, -0.09),
        (0.0265, -0.087),
        (0.0265, 0.045),
        (0.025, 0.051),
        (0.02, 0.058),
        (0.0175, 0.06),
    ]
    top = [
        (0.0175, 0.062),
        (0.0165, 0.078),
        (0.0145, 0.081),
        (0.008, 0.082),
        (0.008, 0.092),
        (0.007, 0.094),
        (0, 0.094),
    ]
    mesh = revolve(body + top)
    cap = prints.plain(70, 170, (206, 42, 50), 35)
    prints.stripes(cap, 10, 20, [(240, 240, 236)], 0.2)
    charts = [
        _around(cap, 0.094, 0.035, lambda c, n: c[:, 2] > 0.0605),
        _around(prints.spray_label(_pixels(0.166), _pixels(0.15)), 0.06, 0.15, _anywhere),
    ]
    return _textured("spray", mesh, charts, (GripSite(np.array([0, 0, -0.02]), np.array([0, 0, 1.0])),))


def _mug() -> SimObject:
    import trimesh

    outer = [
        (0, -0.047),
        (0.034, -0.047),
        (0.038, -0.044),
        (0.0395, -0.036),
        (0.04, 0),
        (0.041, 0.046),
        (0.0402, 0.0475),
    ]
    inner = [(0, -0.041), (0.033, -0.041), (0.036, -0.036), (0.0366, 0), (0.0376, 0.046), (0.0392, 0.049), (0, 0.049)]
    handle = trimesh.creation.torus(0.024, 0.0052, major_sections=48, minor_sections=20)
    handle.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, [1, 0, 0]))
    handle.apply_transform(np.diag([1.0, 1.25, 1.12, 1.0]))
    handle.apply_translation([0.044, 0, -0.006])
    solid = trimesh.boolean.union([revolve([*outer, (0, 0.0475)], 96).trimesh(), handle], engine="manifold")
    mesh = trimesh.boolean.difference([solid, revolve(inner, 96).trimesh()], engine="manifold")
    inside = prints.plain(64, 64, (236, 226, 206), 15)
    grip = prints.plain(200, 120, (46, 92, 120), 16, 8)

    def hollow(c: np.ndarray, n: np.ndarray) -> np.ndarray:
        radius = np.hypot(c[:, 0], c[:, 1])
        return (radius < 0.0393) & (np.einsum("ij,ij->i", c[:, :2], n[:, :2]) <= 1e-6) & (c[:, 2] > -0.0415)

    charts = [
        _planar(inside, (1, 0, 0), (0, -1, 0), (-0.016, 0.016, 0), hollow),
        _planar(grip, (1, 0, 0), (0, 0, -1), (0.03, 0, 0.05), lambda c, n: np.hypot(c[:, 0], c[:, 1]) > 0.0413),
        _around(prints.mug_glaze(_pixels(0.255), _pixels(0.095)), 0.0478, 0.095, _anywhere),
    ]
    return _textured("mug", Solid.of(mesh), charts, (GripSite(np.array([0, 0, 0.03]), np.array([0, 0, 1.0]), "top"),))


def _chamfered_box(size: tuple[float, float, float], chamfer: float) -> trimesh.Trimesh:
    import trimesh

    half = np.array(size) / 2
    points = []
    for signs in np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), -1).reshape(-1, 3):
        for k in range(3):
            inset = np.full(3, chamfer)
            inset[k] = 0
            points.append(signs * (half - inset))
    return trimesh.convex.convex_hull(np.array(points))


def _box() -> SimObject:
    x, y, z = 0.046, 0.078, 0.16
    mesh = _chamfered_box((x, y, z), 0.0015)
    hx, hy, hz = x / 2, y / 2, z / 2
    sides = [(y, z), (y, z), (x, z), (x, z), (y, x), (y, x)]
    art = [prints.carton_side(_pixels(w), _pixels(h), k) for k, (w, h) in enumerate(sides)]

    def faces_axis(axis: int, sign: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        return lambda c, n: n[:, axis] * sign > 0.7

    charts = [
        _planar(art[0], (0, 1, 0), (0, 0, -1), (0, -hy, hz), faces_axis(0, 1)),
        _planar(art[1], (0, -1, 0), (0, 0, -1), (0, hy, hz), faces_axis(0, -1)),
        _planar(art[2], (-1, 0, 0), (0, 0, -1), (hx, 0, hz), faces_axis(1, 1)),
        _planar(art[3], (1, 0, 0), (0, 0, -1), (-hx, 0, hz), faces_axis(1, -1)),
        _planar(art[4], (0, 1, 0), (1, 0, 0), (-hx, -hy, 0), faces_axis(2, 1)),
        _planar(art[5], (0, 1, 0), (-1, 0, 0), (hx, -hy, 0), _anywhere),
    ]
    return _textured("box", Solid.of(mesh), charts, (GripSite(np.array([0, 0, -0.01]), np.array([0, 0, 1.0])),))


def _drill() -> SimObject:
    import trimesh

    turn = trimesh.transformations.rotation_matrix
    motor = trimesh.creation.cylinder(0.025, 0.115, sections=64, transform=turn(np.pi / 2, [0, 1, 0]))
    motor.apply_translation([0.01, 0, 0.08])
    back = trimesh.creation.icosphere(3, 0.0252)
    back.apply_transform(np.diag([0.6, 1, 1, 1]))
    back.apply_translation([-0.047, 0, 0.08])
    nose = revolve(
        [(0, 0), (0.021, 0), (0.019, 0.014), (0.0135, 0.016), (0.0135, 0.034), (0.006, 0.042), (0, 0.042)], 48
    ).trimesh()
    nose.apply_transform(turn(np.pi / 2, [0, 1, 0]))
    nose.apply_translation([0.066, 0, 0.08])
    handle = trimesh.creation.cylinder(0.0185, 0.15, sections=64)
    handle.apply_transform(np.diag([1.15, 0.9, 1, 1]))
    handle.apply_translation([-0.012, 0, 0.0])
    battery = _chamfered_box((0.085, 0.056, 0.034), 0.006)
    battery.apply_translation([-0.006, 0, -0.08])
    mesh = trimesh.boolean.union([motor, back, nose, handle, battery], engine="manifold")
    metal = prints.plain(60, 120, (120, 122, 128), 64, 10)
    front = prints.drill_body(_pixels(0.19), _pixels(0.206), "TORQON")
    rear = cv2.flip(prints.drill_body(_pixels(0.19), _pixels(0.206), "HAMMER X2"), 1)
    charts = [
        _planar(metal, (1, 0, 0), (0, 0, -1), (0.066, 0, 0.1), lambda c, n: c[:, 0] > 0.0665),
        _planar(front, (1, 0, 0), (0, 0, -1), (-0.075, 0, 0.107), lambda c, n: n[:, 1] < 0),
        _planar(rear, (1, 0, 0), (0, 0, -1), (-0.075, 0, 0.107), _anywhere),
    ]
    return _textured("drill", Solid.of(mesh), charts, (GripSite(np.array([-0.012, 0, -0.01]), np.array([0, 0, 1.0])),))


BUILDERS: dict[str, Callable[[], SimObject]] = {
    "bottle": _bottle,
    "box": _box,
    "can": _can,
    "drill": _drill,
    "mug": _mug,
    "spray": _spray,
}
