"""Tables and walls: the dominant planes of a depth image."""

from __future__ import annotations

import numpy as np

from hoi_ros.datatypes import CameraIntrinsics
from hoi_ros.tracking.patch import depth_noise_m

MIN_SHARE, MIN_SPREAD_M = 0.12, 0.09
TRIALS = 60


def dominant_planes(
    depth_m: np.ndarray,
    intrinsics: CameraIntrinsics,
    ignore_mask: np.ndarray | None,
    rng: np.random.Generator,
    most: int = 2,
) -> np.ndarray:
    """Planes that hold a large, wide part of a depth image (RANSAC, then least squares).

    Args:
        depth_m: (H, W) float32, 0 unknown.
        intrinsics: camera of the depth image.
        ignore_mask: (H, W) bool pixels of hands and object, which are no background.
        rng: source of the random triples.
        most: at most so many planes.

    Returns:
        (P, 4) float32 rows n, d with n . x + d = 0 and the camera on the positive side (d > 0).
    """
    step = max(1, int(np.sqrt(depth_m.size / 4000)))
    depth = depth_m[::step, ::step]
    keep = depth > 0
    if ignore_mask is not None:
        keep &= ~ignore_mask[::step, ::step]
    v, u = np.nonzero(keep)
    z = depth[keep]
    x = (u * step - intrinsics.cx) / intrinsics.fx * z
    y = (v * step - intrinsics.cy) / intrinsics.fy * z
    points = np.stack([x, y, z], 1).astype(np.float32)
    needed = max(60, int(MIN_SHARE * depth.size))
    planes: list[np.ndarray] = []
    while len(planes) < most and len(points) > needed:
        plane, inside = _best_plane(points, rng)
        if inside.sum() < needed:
            break
        spread = np.sqrt(np.linalg.eigvalsh(np.cov(points[inside].T))[1:])
        if spread[0] > MIN_SPREAD_M:
            planes.append(plane)
        points = points[~inside]
    return np.array(planes, np.float32).reshape(-1, 4)


def _best_plane(points: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The plane with most points near it, refined, and its points (N,) bool."""
    triples = points[rng.integers(0, len(points), (TRIALS, 3))]
    normals = np.cross(triples[:, 1] - triples[:, 0], triples[:, 2] - triples[:, 0])
    length = np.linalg.norm(normals, axis=1)
    normals[length > 0] /= length[length > 0, None]
    offsets = -np.einsum("tk,tk->t", normals, triples[:, 0])
    tolerance = np.float32(0.003) + 2 * depth_noise_m(points[:, 2])
    near = np.abs(points @ normals.T + offsets) < tolerance[:, None]
    near[:, length < 1e-6] = False
    inside = near[:, np.argmax(near.sum(0))]
    plane = np.zeros(4, np.float32)
    for _ in range(2):
        if inside.sum() < 3:
            return plane, inside
        center = points[inside].mean(0)
        normal = np.linalg.svd(np.cov((points[inside] - center).T))[0][:, 2]
        plane = np.append(normal, -normal @ center).astype(np.float32)
        plane *= np.float32(1 if plane[3] >= 0 else -1)
        inside = np.abs(points @ plane[:3] + plane[3]) < tolerance
    return plane, inside


def above_planes(points: np.ndarray, planes: np.ndarray, margin_m: float) -> np.ndarray:
    """(...,) bool: points (..., 3) that stand clear of every plane on the camera's side."""
    clear = np.ones(points.shape[:-1], bool)
    margin = np.float32(margin_m) + 1.5 * depth_noise_m(points[..., 2])
    for plane in planes:
        clear &= points @ plane[:3] + plane[3] > margin
    return clear
