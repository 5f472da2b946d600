"""The parts of a synthetic crop's scene as meshes, and what is read off the rays that meet them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hoi_ros.geometry import vertex_normals
from hoi_ros.simulation.skin import HandSkin
from hoi_ros.training.held_things import Paint

HAND_PART, ARM_PART, HELD_PART, OTHER_PART = 0, 1, 2, 3
NEAR_M = 0.03
"""What is nearer than that in depth may be beside the camera or behind it."""


@dataclass(frozen=True)
class Part:
    """One mesh of the scene, camera axes."""

    kind: int
    """HAND_PART, ARM_PART, HELD_PART or OTHER_PART."""
    vertices: np.ndarray
    """(N, 3) metres."""
    faces: np.ndarray
    """(M, 3)."""
    attributes: np.ndarray
    """(N, 4) what the skin's colours, or the paint, are made from."""
    paint: Paint | None = None
    """Colours of a thing by the attributes' first three, which are its own coordinates."""
    normals: np.ndarray | None = None
    """(N, 3) unit; None: smooth over the whole part."""


@dataclass(frozen=True)
class View:
    """From a wrist frame to the crop's camera."""

    rotation: np.ndarray
    """(3, 3)."""
    offset: np.ndarray
    """(3,) metres."""
    scale: float
    """Of the hand's size, and of all that lies in its frame."""

    def see(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 3) of a hand of usual size, camera axes."""
        return self.scale * points @ self.rotation.T + self.offset


def seen_triangles(
    vertices: np.ndarray, triangles: np.ndarray, closed: np.ndarray, focal: float, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (K,) of the triangles that a ray from the camera can meet first, and (N,) of pixels that they may cover.

    Args:
        vertices: (V, 3) camera axes, metres.
        triangles: (M, 3).
        closed: (M,) bool: of a closed surface that the camera is not in, so that its far side is never met first.
        focal: in crop sides.
        side: of the crop in pixels.
    """
    near = np.maximum(vertices[:, 2], NEAR_M)
    scale = focal * side / near
    x, y = vertices[:, 0] * scale + 0.5 * side, vertices[:, 1] * scale + 0.5 * side
    a, b, c = triangles.T
    low_x, high_x, low_y, high_y = (
        end(end(values[a], values[b]), values[c]) for values in (x, y) for end in (np.minimum, np.maximum)
    )
    facing = (x[b] - x[a]) * (y[c] - y[a]) < (y[b] - y[a]) * (x[c] - x[a])
    meets = (high_x > 0) & (high_y > 0) & (low_x < side) & (low_y < side) & (facing | ~closed)
    # Where a triangle reaches beside the camera or behind it, its corners' places in the picture say nothing: it is out
    # of sight if all lie beyond one side of the picture, or behind the camera.
    near_by = vertices[:, 2] < NEAR_M
    beside = near_by[a] | near_by[b] | near_by[c]
    if beside.any():
        across, down, reach = 2 * focal * vertices[:, 0], 2 * focal * vertices[:, 1], vertices[:, 2]
        outside = np.stack([across > reach, -across > reach, down > reach, -down > reach, reach <= 0])
        meets[beside] = ~np.asarray((outside[:, a] & outside[:, b] & outside[:, c]).any(0))[beside]
    kept = np.flatnonzero(meets)
    # Boxes of whole pixels whose middles, at a half, may be covered; a tenth more leaves room for rounding.
    boxes = np.stack([low_x[kept] - 0.6, low_y[kept] - 0.6, high_x[kept] + 0.6, high_y[kept] + 0.6])
    boxes[:, beside[kept]] = np.array([[0, 0, side, side]]).T
    x0, y0, x1, y1 = np.clip(boxes, 0, side).astype(np.int64)
    # Boxes are summed up from their corners.
    width = side + 1
    places = np.concatenate([y0 * width + x0, y1 * width + x1, y0 * width + x1, y1 * width + x0])
    signs = np.repeat(np.array([1.0, 1.0, -1.0, -1.0]), len(kept))
    count = np.bincount(places, signs, width * width).reshape(width, width).cumsum(0)[:side].cumsum(1)[:, :side]
    return kept, np.flatnonzero(count > 0.5)


def pixel_rays(pixels: np.ndarray, focal: float, side: int) -> np.ndarray:
    """Rays (N, 3) float32 with z 1 through the middles of pixels (N,), counted row by row."""
    across = (((np.arange(side) + 0.5) / side - 0.5) / focal).astype(np.float32)
    row, column = np.divmod(pixels, side)
    rays = np.empty((len(pixels), 3), np.float32)
    rays[:, 0], rays[:, 1], rays[:, 2] = across[column], across[row], 1
    return rays


def corner_values(parts: list[Part], skin: HandSkin, vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(7, V) float32, channels first: four attributes and normals of all vertices (V, 3) of the triangles (M, 3)."""
    # The cap that closes the wrist must not bend the skin's normals.
    smooth = np.concatenate(
        [skin.open_mask if part.kind == HAND_PART else np.full(len(part.faces), part.normals is None) for part in parts]
    )
    out = np.empty((7, len(vertices)), np.float32)
    out[4:] = vertex_normals(vertices, triangles[smooth]).T
    start = 0
    for part in parts:
        end = start + len(part.vertices)
        out[:4, start:end] = part.attributes.T
        if part.normals is not None:
            out[4:, start:end] = part.normals.T
        start = end
    return out


def mix(corners: np.ndarray, triangles: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Values (C, N) at barycentric (N, 2) of triangles (N, 3) with corner values (C, V), channels first."""
    (u, v), (a, b, c) = np.ascontiguousarray(uv.T), np.ascontiguousarray(triangles.T)
    first, out = 1 - u - v, np.empty((len(corners), len(uv)), np.float32)
    for values, row in zip(corners, out):
        np.multiply(values.take(a), first, out=row)
        row += values.take(b) * u
        row += values.take(c) * v
    return out


def crevices(depth: np.ndarray, hits: np.ndarray, strength: float) -> np.ndarray:
    """How much darker (N,) float32, 0 to 1, the pixels `hits` (N,) are: light does not reach between fingers.

    Darker is what lies deeper than its surroundings in `depth` (S, S) metres, inf where nothing is.
    """
    if not len(hits):
        return np.zeros(0, np.float32)
    known = depth.reshape(-1)[hits]
    filled = np.full(depth.shape, np.median(known) + 0.03, np.float32)
    filled.reshape(-1)[hits] = known
    around = cv2.blur(filled, (17, 17)).reshape(-1)[hits]
    return np.clip((known - around - 0.001) / 0.012, 0, 1) * np.float32(strength)


def lengths(vectors: np.ndarray) -> np.ndarray:
    """(N,) of vectors (3, N)."""
    x, y, z = vectors
    return np.sqrt(x * x + y * y + z * z)


def own_places(vertices: np.ndarray) -> np.ndarray:
    """(N, 4) attributes of a thing: where its vertices are in its own frame."""
    return np.concatenate([vertices, np.zeros((len(vertices), 1))], 1).astype(np.float32)


def small_solid(rng: np.random.Generator, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (N, 3) and faces (M, 3) of a cylinder, ball or box about the origin, long in z."""
    import trimesh

    shape = rng.integers(3)
    if shape == 0:
        mesh = trimesh.creation.cylinder(radius, float(rng.uniform(0.06, 0.22)), sections=24)
    elif shape == 1:
        mesh = trimesh.creation.icosphere(2, radius * 1.2)
    else:
        mesh = trimesh.creation.box((radius * 1.6, radius * float(rng.uniform(0.8, 2)), float(rng.uniform(0.05, 0.2))))
    return np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int32)
