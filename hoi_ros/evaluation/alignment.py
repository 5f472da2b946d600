"""Bring a predicted surface onto the true one before comparing."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from hoi_ros.geometry import fit_similarity, make_transform, matrix_from_quaternion, transform_points


def align_surfaces(
    source: np.ndarray,
    target: np.ndarray,
    T_target_source: np.ndarray,
    *,
    iterations: int = 60,
    trim: float = 0.9,
    reach_m: float = np.inf,
) -> np.ndarray:
    """Rigid trimmed ICP, point to point, from a known first pose.

    Source: Besl and McKay, PAMI 1992; Chetverikov et al., ICPR 2002, for the trimming.

    Args:
        source: (N, 3) cloud to move.
        target: (M, 3) cloud that stays.
        T_target_source: (4, 4) first pose.
        iterations: at most.
        trim: share of the nearest pairs that are used.
        reach_m: pairs farther apart are not.

    Returns:
        (4, 4) refined pose; the first one where fewer than three pairs are near enough.

    Raises:
        ValueError: the source has fewer than 3 points.
    """
    if len(source) < 3:
        raise ValueError(f"align_surfaces: a cloud of {len(source)} points; give 3 or more")
    pose = np.asarray(T_target_source, np.float64)
    tree = cKDTree(target)
    before = np.inf
    for _ in range(iterations):
        moved = transform_points(pose, source)
        distance, nearest = tree.query(moved, workers=-1)
        kept = distance <= min(np.quantile(distance, trim), reach_m)
        if kept.sum() < 3:
            break
        _, rotation, translation = fit_similarity(moved[kept], target[nearest[kept]], with_scale=False)
        pose = make_transform(rotation, translation) @ pose
        error = float(distance[kept].mean())
        if before - error < 1e-7:
            break
        before = error
    return pose


def align_with_scale(
    source: np.ndarray, target: np.ndarray, *, starts: int = 60, seed: int = 0, coarse_points: int = 300
) -> tuple[float, np.ndarray, np.ndarray]:
    """Similarity ICP from many starts: the identity and `starts` rotations spread over all directions.

    Pairs are taken both ways: matched one way only, the scale would shrink towards one point. Every start is descended
    on few points, the best three on all. Source: the object protocol of HOLD (Fan et al., CVPR 2024).

    Args:
        source: (N, 3) cloud to move.
        target: (M, 3) cloud that stays.
        starts: first rotations besides the identity.
        seed: of rotations and of the few points.
        coarse_points: points of each cloud for the first descent.

    Returns:
        s, R (3, 3), t (3,) with target = s R source + t.

    Raises:
        ValueError: a cloud has fewer than 3 points, or all of them coincide.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if min(len(source), len(target)) < 3:
        raise ValueError(f"align_with_scale: clouds of {len(source)} and {len(target)} points; give 3 or more")
    random = np.random.default_rng(seed)
    few_source, few_target = (x[random.permutation(len(x))[:coarse_points]] for x in (source, target))
    middle_source, middle_target = source.mean(0), target.mean(0)
    scale = float(
        np.sqrt(((target - middle_target) ** 2).sum(1).mean() / ((source - middle_source) ** 2).sum(1).mean())
    )
    tree = cKDTree(few_target)
    found = []
    for rotation in _spread_rotations(starts, random):
        first = (scale, rotation, middle_target - scale * rotation @ middle_source)
        found.append(_similarity_icp(few_source, few_target, first, 20, tree))
    found.append(_similarity_icp(few_source, few_target, (1.0, np.eye(3), np.zeros(3)), 20, tree))
    found.sort(key=lambda item: item[0])
    tree = cKDTree(target)
    refined = [_similarity_icp(source, target, motion, 40, tree) for _, motion in found[:3]]
    return min(refined, key=lambda item: item[0])[1]


Similarity = tuple[float, np.ndarray, np.ndarray]


def _similarity_icp(
    source: np.ndarray, target: np.ndarray, motion: Similarity, iterations: int, tree: cKDTree
) -> tuple[float, Similarity]:
    """Sum of both directions' mean squared distances, and the motion after descent."""
    before, best = np.inf, motion
    for _ in range(iterations + 1):
        scale, rotation, offset = motion
        moved = scale * source @ rotation.T + offset
        forward, nearest_target = tree.query(moved, workers=-1)
        backward, nearest_source = cKDTree(moved).query(target, workers=-1)
        error = float((forward**2).mean() + (backward**2).mean())
        if error >= before - 1e-5 * before:
            break
        before, best = error, motion
        pairs_source = np.concatenate([source, source[nearest_source]])
        pairs_target = np.concatenate([target[nearest_target], target])
        weights = np.concatenate([np.full(len(source), 1 / len(source)), np.full(len(target), 1 / len(target))])
        motion = fit_similarity(pairs_source, pairs_target, weights)
    return before, best


def _spread_rotations(count: int, random: np.random.Generator) -> np.ndarray:
    """Rotations (count, 3, 3), uniform over all."""
    return matrix_from_quaternion(random.standard_normal((count, 4)))
