"""How far results are from the truth. Vectorised; lengths in the unit of the input unless the name says otherwise.

A missed frame is a row of NaN in the prediction. It is never dropped: per-frame errors give it `inf`, and `summarize`
counts it, so every figure can say how many were missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from hoi_ros.geometry import rotation_angle


@dataclass(frozen=True)
class ErrorSummary:
    """Errors of a sequence, misses apart and counted."""

    mean: float
    """Of the frames that were found; NaN when none was."""
    median: float
    p95: float
    maximum: float
    count: int
    missed: int


def summarize(errors: np.ndarray) -> ErrorSummary:
    """Mean, median, 95th percentile and maximum of (N,) errors; infinite or NaN ones are missed and counted."""
    errors = np.asarray(errors, np.float64)
    found = errors[np.isfinite(errors)]
    missed = len(errors) - len(found)
    if not len(found):
        return ErrorSummary(np.nan, np.nan, np.nan, np.nan, 0, missed)
    return ErrorSummary(
        float(found.mean()), float(np.median(found)), float(np.percentile(found, 95)), float(found.max()), len(found),
        missed,
    )  # fmt: skip


def mpjpe(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Mean per-joint position error (N,) of joints (N, J, D); D = 2 gives the 2D error in pixels.

    Joints whose truth is NaN are left out. Source: Ionescu et al., Human3.6M, PAMI 2014.

    Raises:
        ValueError: shapes differ or are not (N, J, D).
    """
    _same_shape(predicted, truth)
    distance = np.linalg.norm(np.asarray(predicted, np.float64) - truth, axis=-1)
    judged = np.isfinite(truth).all(-1)
    missed = (judged & ~np.isfinite(distance)).any(1) | ~judged.any(1)
    mean = np.where(judged, distance, 0).sum(1) / np.maximum(judged.sum(1), 1)
    return np.where(missed, np.inf, mean)


def root_relative_mpjpe(predicted: np.ndarray, truth: np.ndarray, root: int = 0) -> np.ndarray:
    """MPJPE (N,) after moving joint `root` of both (N, J, 3) to the origin; keeps scale and rotation errors."""
    _same_shape(predicted, truth)
    return mpjpe(predicted - predicted[:, root : root + 1], truth - truth[:, root : root + 1])


def pa_mpjpe(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """MPJPE (N,) of (N, J, 3) after the best similarity without reflection of each frame: a mirrored hand stays wrong.

    Source: Procrustes with the determinant kept positive, Umeyama, PAMI 1991. Joints with NaN truth are left out.
    """
    return mpjpe(procrustes_align(predicted, truth), truth)


def pa_mpjpe_reflecting(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """PA-MPJPE (N,) where the alignment may mirror the hand, as FreiHAND's evaluation script does.

    Only for comparison with published tables: a left hand taken for a right one costs nothing here.
    """
    return mpjpe(procrustes_align(predicted, truth, allow_reflection=True), truth)


def procrustes_align(predicted: np.ndarray, truth: np.ndarray, *, allow_reflection: bool = False) -> np.ndarray:
    """Frames (N, J, 3) moved, turned and scaled onto `truth`, each on its own; missed frames stay NaN."""
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


def handedness_accuracy(predicted: Sequence[str | None], truth: Sequence[str]) -> float:
    """Share of hands whose side is right; None is a missed hand and counts as wrong."""
    if len(predicted) != len(truth):
        raise ValueError(f"handedness: {len(predicted)} predictions for {len(truth)} hands")
    return float(np.mean([p == t for p, t in zip(predicted, truth)])) if truth else float("nan")


def rotation_errors_deg(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Geodesic angles (N,) in degrees between the rotations of poses (N, 4, 4); missed poses give inf."""
    _same_shape(predicted, truth)
    found = np.isfinite(predicted).all((1, 2))
    safe = np.where(found[:, None, None], predicted, np.eye(4))
    relative = np.swapaxes(safe[:, :3, :3], 1, 2) @ truth[:, :3, :3]
    return np.where(found, np.degrees(rotation_angle(relative.astype(np.float64))), np.inf)


def translation_errors(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Distances (N,) between the origins of poses (N, 4, 4); missed poses give inf."""
    _same_shape(predicted, truth)
    distance = np.linalg.norm(predicted[:, :3, 3] - truth[:, :3, 3], axis=1)
    return np.where(np.isfinite(predicted).all((1, 2)), distance, np.inf)


def add_errors(predicted: np.ndarray, truth: np.ndarray, points_object: np.ndarray) -> np.ndarray:
    """ADD (N,): mean distance of model points (P, 3) under both poses (N, 4, 4). Hinterstoisser et al., ACCV 2012."""
    return _pose_point_errors(predicted, truth, points_object, lambda a, b: np.linalg.norm(a - b, axis=1).mean())


def add_s_errors(predicted: np.ndarray, truth: np.ndarray, points_object: np.ndarray) -> np.ndarray:
    """ADD-S (N,): each model point under the true pose against the nearest one under the other. PoseCNN, RSS 2018."""
    return _pose_point_errors(predicted, truth, points_object, lambda a, b: cKDTree(a).query(b)[0].mean())


def area_under_curve(errors: np.ndarray, threshold: float = 0.1) -> float:
    """Area under accuracy against threshold from 0 to `threshold`, 0 to 100; missed frames count as never within.

    The exact integral of the step curve. Source: PoseCNN (Xiang et al., RSS 2018) and BundleSDF, with 0.1 m.
    """
    errors = np.nan_to_num(np.asarray(errors, np.float64), nan=np.inf)
    return float(100 * np.mean(1 - np.minimum(errors, threshold) / threshold)) if len(errors) else float("nan")


@dataclass(frozen=True)
class SurfaceErrors:
    """Two surfaces against each other; an absent mesh has infinite distances and zero scores."""

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

    F-score at d: harmonic mean of the shares nearer than d (Tatarchenko et al., CVPR 2019; Knapitsch et al., TOG 2017).
    """
    if not len(truth_m):
        raise ValueError("compare_surfaces: the true surface is empty")
    if not len(predicted_m):
        return ABSENT_SURFACE
    forward, backward = nearest_distances(predicted_m, truth_m), nearest_distances(truth_m, predicted_m)
    return SurfaceErrors(
        accuracy_mm=float(forward.mean() * 1e3),
        completeness_mm=float(backward.mean() * 1e3),
        chamfer_mm=float((forward.mean() + backward.mean()) / 2 * 1e3),
        chamfer_cm2=float(((forward**2).mean() + (backward**2).mean()) * 1e4),
        f5_percent=f_score(forward, backward, 0.005),
        f10_percent=f_score(forward, backward, 0.010),
    )


def f_score(forward: np.ndarray, backward: np.ndarray, distance: float) -> float:
    """Harmonic mean, in percent, of the shares of both directions' distances below `distance`."""
    precision, recall = float(np.mean(forward < distance)), float(np.mean(backward < distance))
    return 200 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def nearest_distances(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Distance (N,) of each row of (N, D) to the nearest row of (M, D)."""
    return cKDTree(target).query(source, workers=-1)[0]


def sample_surface(vertices: np.ndarray, faces: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Points (count, 3) spread evenly by area over triangles (M, 3) of vertices (N, 3); the same for the same seed."""
    corners = np.asarray(vertices, np.float64)[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    if not len(faces) or not area.sum() > 0:
        return np.zeros((0, 3))
    random = np.random.default_rng(seed)
    chosen = corners[random.choice(len(faces), count, p=area / area.sum())]
    a, b = random.random((2, count, 1))
    a, b = np.where(a + b > 1, 1 - a, a), np.where(a + b > 1, 1 - b, b)
    return chosen[:, 0] + a * (chosen[:, 1] - chosen[:, 0]) + b * (chosen[:, 2] - chosen[:, 0])


def _pose_point_errors(predicted: np.ndarray, truth: np.ndarray, points: np.ndarray, distance) -> np.ndarray:
    """One error a frame between model points moved by both poses; inf for missed frames."""
    _same_shape(predicted, truth)
    errors = np.full(len(truth), np.inf)
    for i in np.flatnonzero(np.isfinite(predicted).all((1, 2))):
        a, b = (points @ pose[:3, :3].T + pose[:3, 3] for pose in (predicted[i], truth[i]))
        errors[i] = distance(a, b)
    return errors


def _same_shape(predicted: np.ndarray, truth: np.ndarray) -> None:
    if np.shape(predicted) != np.shape(truth) or np.ndim(truth) != 3:
        raise ValueError(f"prediction {np.shape(predicted)} and truth {np.shape(truth)} need one 3-d shape")
