"""Errors of hand joints and vertices.

Predictions and truth are (N, J, D), one row a hand; lengths in the unit of the input. A missed hand is a row of NaN and
gives `inf`; joints whose truth is NaN are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree


def joint_distances(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Distances (N, J); `inf` for joints of missed hands, NaN for joints without truth.

    Raises:
        ValueError: shapes differ or are not (N, J, D).
    """
    _same_shape(predicted, truth)
    distance = np.linalg.norm(np.asarray(predicted, np.float64) - truth, axis=-1)
    distance = np.where(np.isfinite(distance), distance, np.inf)
    return np.where(np.isfinite(truth).all(-1), distance, np.nan)


def mpjpe(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Mean per-joint position error (N,); D = 2 gives the 2D error in pixels.

    Source: Ionescu et al., Human3.6M, PAMI 2014. A hand without any joint of known truth gives `inf`.
    """
    distance = joint_distances(predicted, truth)
    judged = ~np.isnan(distance)
    total = np.where(judged, distance, 0).sum(1)
    return np.where(judged.any(1), total / np.maximum(judged.sum(1), 1), np.inf)


def root_relative_mpjpe(predicted: np.ndarray, truth: np.ndarray, root: int = 0) -> np.ndarray:
    """MPJPE (N,) after moving joint `root` of both to the origin; keeps scale and rotation errors."""
    _same_shape(predicted, truth)
    return mpjpe(predicted - predicted[:, root : root + 1], truth - truth[:, root : root + 1])


def pa_mpjpe(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """MPJPE (N,) of (N, J, 3) after the best similarity without reflection of each hand: a mirrored hand stays wrong.

    Source: Procrustes with the determinant kept positive, Umeyama, PAMI 1991.
    """
    return mpjpe(procrustes_align(predicted, truth), truth)


def pa_mpjpe_reflecting(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """PA-MPJPE (N,) where the alignment may mirror the hand, as FreiHAND's evaluation script does.

    Only for comparison with published tables: a left hand taken for a right one costs nothing here.
    """
    return mpjpe(procrustes_align(predicted, truth, allow_reflection=True), truth)


def pa_mpvpe(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """PA-MPJPE's like for mesh vertices (N, V, 3) of one topology. Source: FreiHAND, Zimmermann et al., ICCV 2019."""
    return pa_mpjpe(predicted, truth)


def procrustes_align(predicted: np.ndarray, truth: np.ndarray, *, allow_reflection: bool = False) -> np.ndarray:
    """Hands (N, J, 3) moved, turned and scaled onto `truth`, each on its own; missed hands stay NaN.

    Hands of fewer than 3 joints of known truth cannot be aligned and become NaN. Source: Umeyama, PAMI 1991.
    """
    _same_shape(predicted, truth)
    predicted, truth = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    judged = np.isfinite(truth).all(-1)
    weight = judged / np.maximum(judged.sum(1), 1)[:, None]
    source, target = np.where(judged[..., None], predicted, 0), np.where(judged[..., None], truth, 0)
    found = np.isfinite(source).all((1, 2)) & (judged.sum(1) >= 3)
    source = np.where(found[:, None, None], source, 0)
    mean_source = np.einsum("nj,njd->nd", weight, source)[:, None]
    mean_target = np.einsum("nj,njd->nd", weight, target)[:, None]
    a, b = (source - mean_source) * judged[..., None], (target - mean_target) * judged[..., None]
    u, singular, vt = np.linalg.svd(np.swapaxes(b, 1, 2) @ a)
    sign = np.ones_like(singular)
    if not allow_reflection:
        sign[:, 2] = np.where(np.linalg.det(u @ vt) < 0, -1, 1)
    rotation = (u * sign[:, None]) @ vt
    scale = (singular * sign).sum(1) / np.maximum((a * a).sum((1, 2)), 1e-30)
    moved = (predicted - mean_source) @ np.swapaxes(rotation, 1, 2) * scale[:, None, None] + mean_target
    return np.where(found[:, None, None], moved, np.nan)


def mesh_f_scores(predicted: np.ndarray, truth: np.ndarray, threshold: float) -> np.ndarray:
    """F-score (N,), 0 to 1, of vertices (N, V, 3) as they lie; F@5 and F@15 are those at 0.005 and 0.015 m.

    Harmonic mean of the share of predicted vertices nearer than the threshold to a true one, and the other way round;
    no correspondence is used. A missed hand scores 0. Align first (`procrustes_align`) for the aligned score.
    Source: Knapitsch et al., Tanks and Temples, TOG 2017; for hands FreiHAND, ICCV 2019.
    """
    _same_shape(predicted, truth)
    scores = np.zeros(len(truth))
    for i in np.flatnonzero(np.isfinite(predicted).all((1, 2)) & np.isfinite(truth).all((1, 2))):
        precision = np.mean(cKDTree(truth[i]).query(predicted[i])[0] < threshold)
        recall = np.mean(cKDTree(predicted[i]).query(truth[i])[0] < threshold)
        scores[i] = 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
    return scores


def pck(predicted: np.ndarray, truth: np.ndarray, threshold: float, scale: np.ndarray | float = 1.0) -> float:
    """Share of joints, 0 to 1, nearer to the truth than `threshold * scale`; joints of missed hands are not.

    `scale` (N,) may be the longer side of each hand's box, as HInt does with thresholds 0.05, 0.1 and 0.15 (Pavlakos
    et al., HaMeR, CVPR 2024). Source: Yang and Ramanan, PAMI 2013.

    Raises:
        ValueError: shapes differ, or no joint has a truth.
    """
    distance = _judged(predicted, truth, scale)
    return float(np.mean(distance < threshold))


def pck_auc(predicted: np.ndarray, truth: np.ndarray, low: float = 0.0, high: float = 0.05) -> float:
    """Area, 0 to 1, under PCK against thresholds from `low` to `high`: the exact integral of the step curve.

    Source: Zimmermann and Brox, ICCV 2017 (20 to 50 mm); FreiHAND takes 0 to 50 mm.

    Raises:
        ValueError: shapes differ, no joint has a truth, or `high` is not above `low`.
    """
    if not high > low:
        raise ValueError(f"pck_auc: thresholds from {low} to {high} enclose nothing")
    distance = _judged(predicted, truth, 1.0)
    return float(np.mean(1 - (np.clip(distance, low, high) - low) / (high - low)))


def acceleration_errors(predicted: np.ndarray, truth: np.ndarray, fps: float) -> np.ndarray:
    """Jitter: mean joint acceleration error (N - 2,) of one track (N, J, 3), unit of length per second squared.

    Norm of the difference of second differences, times fps squared. `inf` where any of the three frames is missed.
    Source: Kanazawa et al., HMMR, CVPR 2019.

    Raises:
        ValueError: shapes differ, fewer than 3 frames, or fps is not positive.
    """
    _same_shape(predicted, truth)
    if len(truth) < 3 or not fps > 0:
        raise ValueError(f"acceleration_errors: {len(truth)} frames at {fps} frames/s; give at least 3 and a rate")
    second = [x[2:] - 2 * x[1:-1] + x[:-2] for x in (np.asarray(predicted, np.float64), np.asarray(truth, np.float64))]
    return mpjpe(second[0], second[1]) * fps**2


def handedness_accuracy(predicted: Sequence[str | None], truth: Sequence[str]) -> float:
    """Share of hands whose side is right; None is a missed hand and counts as wrong."""
    if len(predicted) != len(truth):
        raise ValueError(f"handedness: {len(predicted)} predictions for {len(truth)} hands")
    return float(np.mean([p == t for p, t in zip(predicted, truth)])) if truth else float("nan")


def handedness_flips(track_ids: Sequence[int], sides: Sequence[str]) -> int:
    """How often a track changes its side; row i is one detection, in order of time.

    Raises:
        ValueError: lengths differ.
    """
    if len(track_ids) != len(sides):
        raise ValueError(f"handedness flips: {len(track_ids)} track ids for {len(sides)} sides")
    last: dict[int, str] = {}
    flips = 0
    for track, side in zip(track_ids, sides):
        flips += last.get(track, side) != side
        last[track] = side
    return flips


def _judged(predicted: np.ndarray, truth: np.ndarray, scale: np.ndarray | float) -> np.ndarray:
    """Distances of all joints of known truth, in units of `scale`."""
    distance = joint_distances(predicted, truth) / np.broadcast_to(np.asarray(scale, np.float64), len(truth))[:, None]
    distance = distance[~np.isnan(distance)]
    if not len(distance):
        raise ValueError("PCK: no joint has a truth, so there is nothing to count")
    return distance


def _same_shape(predicted: np.ndarray, truth: np.ndarray) -> None:
    if np.shape(predicted) != np.shape(truth) or np.ndim(truth) != 3:
        raise ValueError(f"prediction {np.shape(predicted)} and truth {np.shape(truth)} need one 3-d shape")
