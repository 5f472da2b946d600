"""Bring a predicted surface onto the true one before comparing, from a known start."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from hoi_ros.geometry import fit_similarity, make_transform, transform_points


def align_surfaces(
    source: np.ndarray, target: np.ndarray, T_target_source: np.ndarray, *, iterations: int = 60, trim: float = 0.9
) -> np.ndarray:
    """Rigid trimmed ICP, point to point, from a known first pose.

    Source: Besl and McKay, PAMI 1992; Chetverikov et al., ICPR 2002, for the trimming.

    Args:
        source: (N, 3) cloud to move.
        target: (M, 3) cloud that stays.
        T_target_source: (4, 4) first pose.
        iterations: at most.
        trim: share of the nearest pairs that are used.

    Returns:
        (4, 4) refined pose.

    Raises:
        ValueError: fewer than 3 pairs.
    """
    pose = np.asarray(T_target_source, np.float64)
    tree = cKDTree(target)
    before = np.inf
    for _ in range(iterations):
        moved = transform_points(pose, source)
        distance, nearest = tree.query(moved, workers=-1)
        kept = distance <= np.quantile(distance, trim)
        _, rotation, translation = fit_similarity(moved[kept], target[nearest[kept]], with_scale=False)
        pose = make_transform(rotation, translation) @ pose
        error = float(distance[kept].mean())
        if before - error < 1e-7:
            break
        before = error
    return pose
