"""Textured things to hold: own shapes of real-life size, and any mesh file of the user."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from hoi_ros.datatypes import TriangleMesh
from hoi_ros.errors import InputError, unknown_name
from hoi_ros.simulation import prints

if TYPE_CHECKING:
    import trimesh

PIXELS_PER_M = 2000.0
MESH_SUFFIXES = (".glb", ".gltf", ".obj", ".ply", ".stl")


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


@dataclass(frozen=True)
class Chart:
    """A part of a surface and the picture printed on it."""

    picks: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """(centres (M, 3), normals (M, 3)) to (M,) bool."""
    maps: Callable[[np.ndarray], np.ndarray]
    """(K, 3, 3) triangle corners to (K, 3, 2) in picture pixels."""
    picture: np.ndarray


def object_names() -> tuple[str, ...]:
    """Names of the built-in objects."""
    return tuple(sorted(_BUILDERS))


@cache
def load_object(spec: str) -> SimObject:
    """Load a built-in object by name, or a mesh file (metres) by path.

    Raises:
        InputError: no such name or file, or the file holds no closed-enough triangle surface.
    """
    if spec in _BUILDERS:
        return _BUILDERS[spec]()
    path = Path(spec).expanduser()
    if path.suffix.lower() in MESH_SUFFIXES or "/" in spec:
        return _load_file(path)
    error = unknown_name("object", spec, _BUILDERS)
    raise InputError(f"{error} (or give the path of a mesh file: {' '.join(MESH_SUFFIXES)})")


def _load_file(path: Path) -> SimObject:
    import trimesh

    if not path.is_file():
        raise InputError(f"object mesh {path}: no such file; check the path")
    try:
        loaded = trimesh.load(path, force="mesh", process=False)
    except Exception as error:
        raise InputError(
            f"object mesh {path} cannot be read ({error}); give a GLB, OBJ, PLY or STL in metres"
        ) from error
    if not isinstance(loaded, trimesh.Trimesh) or len(loaded.faces) == 0:
        raise InputError(f"object mesh {path} holds no triangles; give a GLB, OBJ, PLY or STL in metres")
    size = float(np.max(loaded.extents))
    if not 0.01 <= size <= 0.6:
        raise InputError(f"object mesh {path} is {size:.3g} m long: give a hand-held size in metres (0.01 to 0.6)")
    uv, texture = _file_colors(loaded)
    return SimObject(
        path.stem,
        np.asarray(loaded.vertices, np.float32),
        np.asarray(loaded.faces, np.int32),
        uv,
        _corner_normals(loaded),
        texture,
        _guess_grips(np.asarray(loaded.vertices)),
    )


def _file_colors(mesh: trimesh.Trimesh) -> tuple[np.ndarray, np.ndarray]:
    """Corner coordinates and picture of a loaded mesh: its texture, else its vertex colours, else grey."""
    import trimesh

    visual: Any = mesh.visual
    if isinstance(visual, trimesh.visual.TextureVisuals) and visual.uv is not None:
        material = visual.material
        image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
        if image is not None:
            picture = np.ascontiguousarray(np.asarray(image.convert("RGB")))
            height, width = picture.shape[:2]
            uv = np.stack([visual.uv[:, 0] * width, (1 - visual.uv[:, 1]) * height], -1) - 0.5
            return uv[mesh.faces].astype(np.float32), picture
        visual = visual.to_color()
    colors = np.asarray(visual.vertex_colors)[:, :3].astype(np.uint8)
    return _palette_texture(colors[mesh.faces])


def _palette_texture(corner_colors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Picture in which face i owns a 4x4 tile that blends its corner colours (M, 3, 3) uint8."""
    count = len(corner_colors)
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    tiles = np.zeros((rows * columns, 4, 4, 3), np.float32)
    c = corner_colors.astype(np.float32)
    steps = np.arange(4) / 2 - 0.25
    a, b = np.meshgrid(steps, steps)
    for k, weight in enumerate((1 - a - b, a, b)):
        tiles[:count] += weight[None, ..., None] * c[:, k, None, None]
    picture = tiles.reshape(rows, columns, 4, 4, 3).transpose(0, 2, 1, 3, 4).reshape(rows * 4, columns * 4, 3)
    index = np.arange(count)
    origin = np.stack([index % columns, index // columns], -1)[:, None] * 4.0 + 0.5
    uv = origin + np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    return uv.astype(np.float32), np.clip(picture, 0, 255).astype(np.uint8)


def _guess_grips(vertices: np.ndarray) -> tuple[GripSite, ...]:
    """Places round the longest direction of the cloud, from its middle outwards; the grasp solver takes the best."""
    center = (vertices.min(0) + vertices.max(0)) / 2
    _, _, axes = np.linalg.svd(vertices - vertices.mean(0), full_matrices=False)
    axis = axes[0] * np.sign(axes[0][np.argmax(np.abs(axes[0]))])
    along = (vertices - center) @ axis
    sites = []
    for share in (0.5, 0.3, 0.7):
        level = along.min() + share * np.ptp(along)
        slab = vertices[np.abs(along - level) < 0.12 * np.ptp(along)]
        if not len(slab):
            continue
        flat = slab - center - np.outer((slab - center) @ axis, axis)
        sites.append(GripSite(center + axis * level + (flat.max(0) + flat.min(0)) / 2, axis))
    return tuple(sites)


def _corner_normals(mesh: trimesh.Trimesh, crease_deg: float = 40.0) -> np.ndarray:
    """(M, 3, 3) area-weighted normals over the neighbours that bend less than `crease_deg`."""
    from scipy.sparse import coo_matrix

    faces = np.asarray(mesh.faces)
    normals = np.asarray(mesh.face_normals)
    areas = np.asarray(mesh.area_faces)
    # Vertices split at texture seams must be one here, or seams would show as edges.
    _, merged = np.unique(np.round(np.asarray(mesh.vertices), 6), axis=0, return_inverse=True)
    corner = merged.reshape(-1)[faces].reshape(-1)
    face_of_corner = np.repeat(np.arange(len(faces)), 3)
    ones = np.ones(len(corner))
    shape = (len(corner), int(corner.max()) + 1)
    touches = coo_matrix((ones, (np.arange(len(corner)), corner)), shape).tocsr()
    pairs = (touches @ coo_matrix((ones, (corner, face_of_corner)), (shape[1], len(faces))).tocsr()).tocoo()
    near = np.einsum("ij,ij->i", normals[face_of_corner[pairs.row]], normals[pairs.col]) > np.cos(
        np.radians(crease_deg)
    )
    weights = coo_matrix(
        (areas[pairs.col[near]] + 1e-12, (pairs.row[near], pairs.col[near])), (len(corner), len(faces))
    )
    summed = weights.tocsr() @ normals
    summed /= np.linalg.norm(summed, axis=1, keepdims=True) + 1e-12
    return summed.reshape(-1, 3, 3).astype(np.float32)


def _dense_mesh(item: SimObject, max_edge_m: float) -> TriangleMesh:
    vertices, inverse = np.unique(np.round(item.vertices.astype(np.float64), 6), axis=0, return_inverse=True)
    faces, uv = inverse.reshape(-1)[item.faces], item.corner_uv.astype(np.float64)
    for _ in range(8):
        vertices, faces, uv, done = _split_long_edges(vertices, faces, uv, max_edge_m)
        if done:
            break
    colors = np.zeros((len(vertices), 3), np.uint8)
    colors[faces.reshape(-1)] = sample_texture(item.texture, uv.reshape(-1, 2).astype(np.float32))
    return TriangleMesh(vertices.astype(np.float32), faces.astype(np.int32), colors)


def _split_long_edges(
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
    grid = maps.reshape(rows, columns, 2)
    picked = cv2.remap(texture, grid[..., 0], grid[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return picked.reshape(rows * columns, -1)[:count]


def _textured(name: str, coarse: trimesh.Trimesh, charts: list[Chart], grips: tuple[GripSite, ...]) -> SimObject:
    """Print every face with the first chart that picks it; pictures are stacked into one texture."""
    mesh: Any = coarse.subdivide_to_size(0.03)
    faces = np.asarray(mesh.faces)
    corners = np.asarray(mesh.vertices)[faces]
    centers, normals = corners.mean(1), np.asarray(mesh.face_normals)
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
        np.asarray(mesh.vertices, np.float32),
        faces.astype(np.int32),
        uv,
        _corner_normals(mesh),
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


def _revolve(profile: list[tuple[float, float]], sections: int = 72) -> trimesh.Trimesh:
    """Closed solid from (radius, z) metres, bottom to top, corners rounded a little."""
    import trimesh

    return trimesh.creation.revolve(np.array(profile, float), sections=sections)


def _pixels(metres: float) -> int:
    return int(metres * PIXELS_PER_M)


def _bottle() -> SimObject:
    body = [(0, -0.1), (0.03, -0.1), (0.0325, -0.097), (0.033, -0.093), (0.033, -0.05), (0.0315, -0.02), (0.033, 0.01)]
    neck = [(0.033, 0.03), (0.031, 0.042), (0.025, 0.055), (0.017, 0.068), (0.0135, 0.074), (0.0135, 0.082)]
    cap = [(0.0155, 0.082), (0.0155, 0.098), (0.0145, 0.1), (0, 0.1)]
    mesh = _revolve(body + neck + cap)
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
    mesh = _revolve(profile)
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
    mesh = _revolve(body + top)
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
    solid = trimesh.boolean.union([_revolve([*outer, (0, 0.0475)], 96), handle], engine="manifold")
    mesh = trimesh.boolean.difference([solid, _revolve(inner, 96)], engine="manifold")
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
    return _textured("mug", mesh, charts, (GripSite(np.array([0, 0, 0.03]), np.array([0, 0, 1.0]), "top"),))


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
    return _textured("box", mesh, charts, (GripSite(np.array([0, 0, -0.01]), np.array([0, 0, 1.0])),))


def _drill() -> SimObject:
    import trimesh

    turn = trimesh.transformations.rotation_matrix
    motor = trimesh.creation.cylinder(0.025, 0.115, sections=64, transform=turn(np.pi / 2, [0, 1, 0]))
    motor.apply_translation([0.01, 0, 0.08])
    back = trimesh.creation.icosphere(3, 0.0252)
    back.apply_transform(np.diag([0.6, 1, 1, 1]))
    back.apply_translation([-0.047, 0, 0.08])
    nose = _revolve(
        [(0, 0), (0.021, 0), (0.019, 0.014), (0.0135, 0.016), (0.0135, 0.034), (0.006, 0.042), (0, 0.042)], 48
    )
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
    return _textured("drill", mesh, charts, (GripSite(np.array([-0.012, 0, -0.01]), np.array([0, 0, 1.0])),))


_BUILDERS: dict[str, Callable[[], SimObject]] = {
    "bottle": _bottle,
    "box": _box,
    "can": _can,
    "drill": _drill,
    "mug": _mug,
    "spray": _spray,
}
