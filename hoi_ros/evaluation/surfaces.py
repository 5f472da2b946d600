"""Two surfaces against each other: sampled points (N, 3) in metres. An absent mesh has infinite distances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

CM = 100.0
MM = 1000.0


@dataclass(frozen=True)
class SurfaceErrors:
    """Distances both ways; an absent mesh has infinite ones and zero scores."""

    accuracy_mm: float
    """Mean distance from the predicted surface to the true one."""
    completeness_mm: float
    """Mean distance from the true surface to the predicted one."""
    chamfer_mm: float
    """Mean of both directions."""
    chamfer_cm2: float
    """Sum of both directions' mean squared distances, cm2 (HOLD, Fan et al., CVPR 2024)."""
    f5_percent: float
    f10_percent: float


ABSENT_SURFACE = SurfaceErrors(np.inf, np.inf, np.inf, np.inf, 0.0, 0.0)


def compare_surfaces(predicted_m: np.ndarray, truth_m: np.ndarray) -> SurfaceErrors:
    """Chamfer distance and F-scores of two clouds sampled on surfaces, (N, 3) and (M, 3) metres, as they lie.

    Source: Tatarchenko et al., CVPR 2019; Knapitsch et al., TOG 2017.

    Raises:
        ValueError: the true surface is empty.
    """
    if not len(truth_m):
        raise ValueError("compare_surfaces: the true surface is empty")
    if not len(predicted_m):
        return ABSENT_SURFACE
    forward, backward = nearest_distances(predicted_m, truth_m), nearest_distances(truth_m, predicted_m)
    return SurfaceErrors(
        accuracy_mm=float(forward.mean() * MM),
        completeness_mm=float(backward.mean() * MM),
        chamfer_mm=float((forward.mean() + backward.mean()) / 2 * MM),
        chamfer_cm2=float(((forward**2).mean() + (backward**2).mean()) * CM**2),
        f5_percent=f_score(forward, backward, 0.005),
        f10_percent=f_score(forward, backward, 0.010),
    )


def hand_relative_chamfer_cm2(
    predicted_m: np.ndarray, predicted_root_m: np.ndarray, truth_m: np.ndarray, true_root_m: np.ndarray
) -> float:
    """CD_h: squared Chamfer distance, cm2, of the object in the camera's axes with each side's own wrist as origin.

    Nothing is aligned, so it judges shape and place of the object relative to the hand together. An absent object or
    hand (NaN root) gives `inf`. Source: HOLD, Fan et al., CVPR 2024.
    """
    if not np.isfinite(predicted_root_m).all():
        return float("inf")
    return compare_surfaces(predicted_m - predicted_root_m, truth_m - true_root_m).chamfer_cm2


def f_score(forward: np.ndarray, backward: np.ndarray, distance: float) -> float:
    """Harmonic mean, in percent, of the shares of both directions' distances below `distance`."""
    precision, recall = float(np.mean(forward < distance)), float(np.mean(backward < distance))
    return 200 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def nearest_distances(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Distance (N,) of each row of (N, D) to the nearest row of (M, D)."""
    return cKDTree(target).query(source, workers=-1)[0]


def triangle_areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Areas (M,) of triangles (M, 3) over vertices (N, 3), in their unit squared."""
    a, b, c = np.asarray(vertices, np.float64)[faces].transpose(1, 0, 2)
    return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2


def sample_surface(vertices: np.ndarray, faces: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Points (count, 3) spread evenly by area over triangles (M, 3) of vertices (N, 3); the same for the same seed."""
    corners, area = np.asarray(vertices, np.float64)[faces], triangle_areas(vertices, faces)
    if not len(faces) or not area.sum() > 0:
        return np.zeros((0, 3))
    random = np.random.default_rng(seed)
    chosen = corners[random.choice(len(faces), count, p=area / area.sum())]
    a, b = random.random((2, count, 1))
    a, b = np.where(a + b > 1, 1 - a, a), np.where(a + b > 1, 1 - b, b)
    return chosen[:, 0] + a * (chosen[:, 1] - chosen[:, 0]) + b * (chosen[:, 2] - chosen[:, 0])
