"""The parts of a synthetic crop's scene as meshes, and what is read off the rays that meet them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hoi_ros.simulation.skin import HandSkin, vertex_normals
from hoi_ros.training.held_things import Paint

HAND_PART, ARM_PART, HELD_PART, OTHER_PART = 0, 1, 2, 3


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


def crop_rays(vertices: np.ndarray, focal: float, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Rays (N, 3) float32 with z 1 through the pixels that the vertices' bounds cover; those pixels' numbers (N,)."""
    near = np.maximum(vertices[:, 2:], 0.03)
    seen = (vertices[:, :2] / near * focal + 0.5) * side
    low = np.clip(np.floor(seen.min(0)).astype(int) - 1, 0, side)
    high = np.clip(np.ceil(seen.max(0)).astype(int) + 1, 0, side)
    columns, rows = np.arange(low[0], high[0]), np.arange(low[1], high[1])
    x, y = np.meshgrid(columns, rows)
    flat = np.stack([x, y], -1).reshape(-1, 2)
    rays = np.ones((len(flat), 3), np.float32)
    rays[:, :2] = ((flat + 0.5) / side - 0.5) / focal
    return rays, flat[:, 1] * side + flat[:, 0]


def corner_values(parts: list[Part], skin: HandSkin) -> np.ndarray:
    """(N, 7) per vertex: four attributes and the normal."""
    rows = []
    for part in parts:
        if part.normals is not None:
            rows.append(np.concatenate([part.attributes, part.normals], 1))
            continue
        # The cap that closes the wrist must not bend the skin's normals.
        faces = part.faces[skin.open_mask] if part.kind == HAND_PART else part.faces
        rows.append(np.concatenate([part.attributes, vertex_normals(part.vertices, faces)], 1))
    return np.concatenate(rows).astype(np.float32)


def mix(corners: np.ndarray, triangles: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Values (N, C) at barycentric (N, 2) of triangles (N, 3)."""
    u, v = uv[:, :1], uv[:, 1:]
    return corners[triangles[:, 0]] * (1 - u - v) + corners[triangles[:, 1]] * u + corners[triangles[:, 2]] * v


def crevices(image: np.ndarray, depth: np.ndarray, strength: float) -> np.ndarray:
    """Darken what lies deeper than its surroundings: light does not reach between fingers."""
    known = np.isfinite(depth)
    if not known.any():
        return image
    filled = np.where(known, depth, np.median(depth[known]) + 0.03).astype(np.float32)
    around = cv2.blur(filled, (17, 17))
    shade = np.clip((filled - around - 0.001) / 0.012, 0, 1) * strength * known
    return image * (1 - shade[..., None])


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
