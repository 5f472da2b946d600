"""Things nobody has seen before: random solids with random solid textures, as mesh files that the simulator takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hoi_ros.geometry import so3_exp

if TYPE_CHECKING:
    import trimesh

_EDGE_M = 0.006


def write_random_object(path: Path, seed: int) -> Path:
    """Write one random thing of hand-held size as a PLY with vertex colours; the same for the same seed."""
    rng = np.random.default_rng([seed, 31])
    mesh = random_solid(rng)
    vertices, faces = _refined(np.asarray(mesh.vertices), np.asarray(mesh.faces))
    colors = solid_texture(vertices, rng)
    _write_ply(path, vertices, faces, colors)
    return path


def random_solid(rng: np.random.Generator) -> trimesh.Trimesh:
    """A closed body of one to three parts, 8 to 22 cm long along z, thin enough to hold, its middle at the origin."""
    import trimesh

    length, width = rng.uniform(0.08, 0.22), rng.uniform(0.035, 0.085)
    body = _part(rng, np.array([width, width * rng.uniform(0.5, 1.0), length]))
    parts = [body]
    for _ in range(rng.choice(3, p=[0.35, 0.4, 0.25])):
        size = rng.uniform(0.25, 0.9, 3) * [width, width, length] * 0.8
        extra = _part(rng, size)
        extra.apply_transform(
            _placed(so3_exp(rng.normal(0, 0.6, 3)), rng.uniform(-0.45, 0.45, 3) * [width, width, length])
        )
        parts.append(extra)
    if len(parts) > 1:
        body = trimesh.boolean.union(parts, engine="manifold")
    body.apply_translation(-(body.bounds[0] + body.bounds[1]) / 2)
    return body


def _part(rng: np.random.Generator, size: np.ndarray) -> trimesh.Trimesh:
    """A box, a turned profile, or a superellipsoid of about `size` (3,) metres."""
    import trimesh

    kind = rng.choice(["box", "turned", "rounded"], p=[0.3, 0.35, 0.35])
    if kind == "box":
        mesh = trimesh.creation.box(np.ones(3))
    elif kind == "turned":
        levels = np.linspace(-0.5, 0.5, int(rng.integers(3, 8)))
        radii = np.clip(0.5 * rng.uniform(0.45, 1.0, len(levels)), 0.1, 0.5)
        profile = [(0, -0.5), *zip(radii, levels), (0, 0.5)]
        mesh = trimesh.creation.revolve(np.array(profile), sections=int(rng.choice([5, 6, 8, 40, 40])))
    else:
        mesh = trimesh.creation.icosphere(3, 1.0)
        power = rng.uniform(0.3, 1.1)
        points = np.asarray(mesh.vertices)
        mesh.vertices = 0.5 * np.sign(points) * np.abs(points) ** power
    points = np.asarray(mesh.vertices) * size
    taper = 1 + rng.uniform(-0.4, 0.4) * points[:, 2:] / max(size[2], 1e-6)
    points = points * np.concatenate([taper, taper, np.ones_like(taper)], 1)
    mesh.vertices = points
    return mesh


def _placed(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = rotation, translation
    return out


def _refined(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges cut to a length at which vertex colours carry a print."""
    import trimesh

    return trimesh.remesh.subdivide_to_size(vertices, faces, _EDGE_M, max_iter=8)


def solid_texture(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N, 3) uint8 colours of points (N, 3) metres: a base, then stripes, checks, blotches, bands and patches."""
    low, high = np.full(3, 8.0), np.full(3, 247.0)
    out = np.tile(rng.uniform(low, high), (len(points), 1))
    for _ in range(int(rng.integers(1, 6))):
        color = rng.uniform(low, high)
        mask = _pattern(points, rng)
        out += (mask * rng.uniform(0.5, 1.0))[:, None] * (color - out)
    grain = rng.uniform(0, 14)
    return np.clip(out + rng.normal(0, grain, (len(points), 1)), 0, 255).astype(np.uint8)


def _pattern(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N,) 0 to 1: where a colour is laid on."""
    kind = rng.choice(["stripes", "checks", "blotches", "band", "patch"])
    turn = so3_exp(rng.normal(0, 1.5, 3))
    local = points @ turn.T
    period = rng.uniform(0.008, 0.05)
    if kind == "stripes":
        return ((local[:, 0] / period) % 1 < rng.uniform(0.2, 0.7)).astype(float)
    if kind == "checks":
        return (np.floor(local / period).sum(1) % 2 < 1).astype(float)
    if kind == "band":
        return (np.abs(local[:, 0] - rng.normal(0, 0.03)) < rng.uniform(0.005, 0.03)).astype(float)
    if kind == "patch":
        center = points[rng.integers(len(points))]
        return (np.abs((points - center) @ turn.T).max(1) < rng.uniform(0.006, 0.03)).astype(float)
    waves = rng.normal(0, 1 / period, (6, 3)) * 2.0
    field = np.sin(points @ waves.T + rng.uniform(0, 6.3, 6)).sum(1)
    return (field > rng.uniform(-1, 2)).astype(float)


def _write_ply(path: Path, vertices: np.ndarray, faces: np.ndarray, colors: np.ndarray) -> None:
    """Binary PLY."""
    rows = np.zeros(len(vertices), [("p", "<f4", 3), ("c", "u1", 3)])
    rows["p"], rows["c"] = vertices, colors
    triangles = np.zeros(len(faces), [("n", "u1"), ("i", "<i4", 3)])
    triangles["n"], triangles["i"] = 3, faces
    properties = ["property float x", "property float y", "property float z"]
    properties += [f"property uchar {name}" for name in ("red", "green", "blue")]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(vertices)}", *properties]
    header += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header", ""]
    path.write_bytes("\n".join(header).encode() + rows.tobytes() + triangles.tobytes())
