"""From pointmaps to motion: closed-form fits that shrug off outliers and say how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hoi_ros.config import setting
from hoi_ros.geometry import invert_transform, make_transform, se3_exp, se3_log, skew


@dataclass(frozen=True)
class MotionConfig:
    """Fitting a motion to two pointmaps."""

    sigma: float = setting(0.003, "usual distance between corresponding points, in the target's unit", low=1e-9)
    iterations: int = setting(30, "rounds of reweighting at most", low=1)
    correlated_points: float = setting(64.0, "neighbouring points whose errors are one and the same", low=1.0)
    min_inliers: float = setting(0.3, "share of the weight that must fit for an answer to be believed", low=0, high=1)


@dataclass(frozen=True)
class MotionFit:
    """A motion and how sure it is."""

    T_target_source: np.ndarray
    """(4, 4) rigid part; a source point goes to `scale * R @ p + t`."""
    scale: float
    """1 unless it was asked for."""
    covariance: np.ndarray
    """(7, 7): translation, rotation vector (radians, in the target's axes, about the points' middle), log scale."""
    inlier_fraction: float
    """Share of the weight whose points fit."""
    residual: float
    """Weighted median distance of the points that fit, in the target's unit."""
    converged: bool
    """False when too little fits, or the points do not fix the motion; the other values then mean little."""

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Source points (..., 3) in the target's frame."""
        return self.scale * points @ self.T_target_source[:3, :3].T + self.T_target_source[:3, 3]

    @property
    def rotation_sigma_rad(self) -> float:
        """Standard deviation of the rotation along its worst axis."""
        return float(np.sqrt(np.linalg.eigvalsh(self.covariance[3:6, 3:6])[-1]))

    @property
    def translation_sigma(self) -> float:
        """Standard deviation of the middle's place along its worst axis, in the target's unit."""
        return float(np.sqrt(np.linalg.eigvalsh(self.covariance[:3, :3])[-1]))


def fit_motion(
    source: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None, *,
    with_scale: bool = False, config: MotionConfig | None = None,
) -> MotionFit:  # fmt: skip
    """The rigid motion, or similarity, that takes corresponding points of one pointmap onto another's.

    Each round is the weighted closed form without reflection (Umeyama, PAMI 1991); weights of misfits fall in graduated
    steps from least squares to Geman-McClure (Yang et al., RA-L 2020), so no start is needed.

    Args:
        source: (N, 3); row i of both is the same surface point.
        target: (N, 3).
        weights: (N,) confidences at least 0; None weighs all alike.
        with_scale: also fit a scale.
        config: noise and rounds; `sigma` is in the target's unit.

    Raises:
        ValueError: shapes differ, or a weight is negative or not finite.
    """
    config = config or MotionConfig()
    weights = np.ones(len(source)) if weights is None else np.asarray(weights, np.float64)
    if np.shape(source) != np.shape(target) or np.ndim(source) != 2 or np.shape(source)[1] != 3:
        raise ValueError(f"fit_motion: points {np.shape(source)} and {np.shape(target)} need one shape (N, 3)")
    if weights.shape != (len(source),) or not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError(f"fit_motion: weights {weights.shape} need shape ({len(source)},), finite and at least 0")
    usable = (weights > 0) & np.isfinite(source).all(1) & np.isfinite(target).all(1)
    source, target = np.asarray(source, np.float64)[usable], np.asarray(target, np.float64)[usable]
    weights = weights[usable] / max(weights[usable].sum(), 1e-300)
    if len(source) < 3:
        return _no_fit()
    limit2 = (3.0 * config.sigma) ** 2
    fit = similarity(source, target, weights, with_scale)
    error2 = _squared_errors(source, target, fit)
    convexity = max(2.0 * float(error2.max()) / limit2, 1.0)
    for _ in range(config.iterations):
        robust = (convexity * limit2 / (error2 + convexity * limit2)) ** 2
        fit = similarity(source, target, weights * robust, with_scale)
        error2 = _squared_errors(source, target, fit)
        if convexity == 1.0:
            break
        convexity = max(1.0, convexity / 1.6)
    return _judged(source, target, weights, fit, error2, with_scale, config)


def similarity(
    source: np.ndarray, target: np.ndarray, weights: np.ndarray, with_scale: bool
) -> tuple[np.ndarray, np.ndarray, float]:
    """Rotation (3, 3), translation (3,) and scale that best take source (N, 3) to target (N, 3); never a reflection."""
    share = weights / weights.sum()
    middle_source, middle_target = share @ source, share @ target
    a, b = source - middle_source, target - middle_target
    u, singular, vt = np.linalg.svd((b * share[:, None]).T @ a)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt)) or 1.0])
    rotation = (u * sign) @ vt
    spread = float(share @ (a * a).sum(1))
    scale = float((singular * sign).sum()) / spread if with_scale and spread > 0 else 1.0
    return rotation, middle_target - scale * rotation @ middle_source, scale


def _squared_errors(source: np.ndarray, target: np.ndarray, fit: tuple[np.ndarray, np.ndarray, float]) -> np.ndarray:
    rotation, translation, scale = fit
    return ((scale * source @ rotation.T + translation - target) ** 2).sum(1)


def _judged(source, target, weights, fit, error2, with_scale: bool, config: MotionConfig) -> MotionFit:
    """Covariance from the points that fit, and whether to believe it."""
    rotation, translation, scale = fit
    limit2 = (3.0 * config.sigma) ** 2
    inside = error2 < limit2
    share = float(weights[inside].sum())
    if inside.sum() < 3 or not np.isfinite(translation).all() or scale <= 0:
        return _no_fit()
    weight = weights[inside] / weights[inside].sum()
    order = np.argsort(error2[inside])
    residual = float(np.sqrt(error2[inside][order][np.searchsorted(np.cumsum(weight[order]), 0.5)]))
    # Row i: d(error)/d(translation, rotation about the middle, log scale).
    arms = scale * source[inside] @ rotation.T
    arms -= weight @ arms
    jacobian = np.concatenate([np.broadcast_to(np.eye(3), (len(arms), 3, 3)), -skew(arms), arms[..., None]], 2)
    normal = np.einsum("n,nij,nik->jk", weight, jacobian, jacobian)
    count = inside.sum() / config.correlated_points
    variance = float(weight @ error2[inside]) / 3
    size = 7 if with_scale else 6
    well_fixed = np.linalg.eigvalsh(normal[3:6, 3:6])[0] > 1e-4 * max(np.trace(normal[3:6, 3:6]), 1e-300)
    covariance = np.zeros((7, 7))
    covariance[:size, :size] = np.linalg.pinv(normal[:size, :size]) * variance / max(count, 1.0)
    converged = share >= config.min_inliers and bool(well_fixed)
    return MotionFit(make_transform(rotation, translation), scale, covariance, share, residual, converged)


def _no_fit() -> MotionFit:
    unknown = np.full((4, 4), np.nan)
    return MotionFit(unknown, float("nan"), np.full((7, 7), np.inf), 0.0, float("nan"), False)


@dataclass(frozen=True)
class MotionEdge:
    """A measured motion between two views, as a pose graph takes it."""

    first: int
    """Frame number of the reference view."""
    second: int
    T_first_second: np.ndarray
    """(4, 4) takes the object's points from the second camera frame to the first's."""
    information: np.ndarray
    """(6, 6) inverse covariance: translation, then rotation."""


def fuse_poses(poses: Sequence[np.ndarray], informations: Sequence[np.ndarray], limit: float = 4.0) -> tuple:
    """The one pose that several estimates agree on.

    Gauss-Newton on SE(3) with Cauchy weights on each estimate's normalised error, begun at the estimate that the others
    contradict least, so that a minority of wrong ones does not matter.

    Args:
        poses: (4, 4) estimates of the same pose.
        informations: (6, 6) of each, translation first, in the pose's own frame.
        limit: error in standard deviations where doubt begins.

    Returns:
        Pose (4, 4), information (6, 6), weights (N,) in 0 to 1.

    Raises:
        ValueError: no estimates.
    """
    if not len(poses):
        raise ValueError("fuse_poses: no estimates")

    def errors(pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        twists = np.stack([se3_log(invert_transform(pose) @ p) for p in poses])
        size = np.sqrt(np.maximum(np.einsum("ni,nij,nj->n", twists, np.stack(informations), twists), 0))
        return twists, 1 / (1 + (size / limit) ** 2)

    pose = max(poses, key=lambda p: float(errors(p)[1].sum()))
    for _ in range(10):
        twists, weights = errors(pose)
        information = np.einsum("n,nij->ij", weights, np.stack(informations))
        right = np.einsum("n,nij,nj->i", weights, np.stack(informations), twists)
        step = np.linalg.lstsq(information, right, rcond=None)[0]
        pose = pose @ se3_exp(step)
        if np.linalg.norm(step) < 1e-9:
            break
    return pose, information, weights
