"""The least-squares problem behind the hand fit: what is asked of a right hand of unit size, and its exact derivatives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hoi_ros.geometry import skew, so3_exp
from hoi_ros.hand_model import HandModel
from hoi_ros.hand_model.kinematics import forward_kinematics, keypoint_jacobian

ANGLES, SHAPE = slice(0, 22), slice(22, 32)
ROTATION, TRANSLATION = slice(32, 35), slice(35, 38)
PARAMETER_COUNT = 38

# Pairs of keypoints whose direction the network's 3D landmarks tell: the bones, and spans that carry the whole pose.
_BONES = [(0 if i % 4 == 1 else i - 1, i) for i in range(1, 21)]
_SPANS = [(5, 17), (1, 5), *((0, tip) for tip in (4, 8, 12, 16, 20)), (8, 20), (4, 8)]
PAIRS = np.array(_BONES + _SPANS)


@dataclass(frozen=True)
class Pose:
    """A right hand of size 1 before a camera that looks straight at it."""

    angles: np.ndarray
    """(22,) radians."""
    shape: np.ndarray
    """(10,)."""
    rotation: np.ndarray
    """(3, 3) wrist frame to camera."""
    translation: np.ndarray
    """(3,) metres, of the wrist."""

    def moved(self, step: np.ndarray, limits: np.ndarray) -> Pose:
        """Take a step (38,); angles stay within limits (22, 2)."""
        return Pose(
            np.clip(self.angles + step[ANGLES], limits[:, 0], limits[:, 1]),
            self.shape + step[SHAPE],
            so3_exp(step[ROTATION]) @ self.rotation,
            self.translation + step[TRANSLATION],
        )


@dataclass(frozen=True)
class Target:
    """What one image says about the hand."""

    rays: np.ndarray
    """(21, 2) x / z and y / z of the landmarks."""
    ray_sigma: np.ndarray
    """(21,) metres at the hand's distance."""
    directions: np.ndarray
    """(P, 3) unit vectors along PAIRS."""
    direction_sigma: np.ndarray
    """(P,) radians."""
    perspective: float
    """1 for a calibrated camera; 0 looks at the hand in parallel, for a camera whose focal length was guessed."""
    prior_matrix: np.ndarray
    """(Q, 38) linear prior; rows times parameters ..."""
    prior_value: np.ndarray
    """(Q,) ... should be this, in standard deviations."""


def residuals(
    model: HandModel, pose: Pose, target: Target, with_jacobian: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Weighted residuals (N,) and their Jacobian (N, 38) at a pose; rotation steps multiply from the left."""
    motion = forward_kinematics(model.skeleton, pose.angles[None], pose.shape[None])
    arms = motion.keypoints[0] @ pose.rotation.T
    points = arms + pose.translation
    depth = pose.translation[2] + target.perspective * arms[:, 2]
    rays = points[:, :2] / depth[:, None]
    ray_weight = (pose.translation[2] / target.ray_sigma)[:, None]
    r_ray = (rays - target.rays) * ray_weight

    span = points[PAIRS[:, 1]] - points[PAIRS[:, 0]]
    length = np.linalg.norm(span, axis=1, keepdims=True)
    unit = span / length
    r_direction = (unit - target.directions) / target.direction_sigma[:, None]

    parameters = np.concatenate([pose.angles, pose.shape])
    r_prior = target.prior_matrix[:, :32] @ parameters - target.prior_value
    r = np.concatenate([r_ray.ravel(), r_direction.ravel(), r_prior])
    if not with_jacobian:
        return r, None

    by_angle, by_shape = keypoint_jacobian(model.skeleton, motion)
    d_points = np.zeros((21, 3, PARAMETER_COUNT))
    d_points[..., :32] = pose.rotation @ np.concatenate([by_angle[0], by_shape[0]], -1)
    d_points[..., ROTATION] = -skew(arms)
    d_points[..., TRANSLATION] = np.eye(3)
    d_depth = target.perspective * d_points[:, 2]
    d_depth[:, 37] = 1
    d_rays = (d_points[:, :2] - rays[..., None] * d_depth[:, None]) / depth[:, None, None]
    j_ray = d_rays * ray_weight[..., None]
    d_span = d_points[PAIRS[:, 1]] - d_points[PAIRS[:, 0]]
    d_unit = d_span - unit[..., None] * (unit[:, None] @ d_span)
    j_direction = d_unit / (length * target.direction_sigma[:, None])[..., None]
    jacobian = np.concatenate(
        [j_ray.reshape(-1, PARAMETER_COUNT), j_direction.reshape(-1, PARAMETER_COUNT), target.prior_matrix]
    )
    return r, jacobian


def _huber_weights(r: np.ndarray, turn: float) -> np.ndarray:
    """Square roots of the weights that make squares linear beyond `turn`, per landmark residual of 2 or 3 numbers."""
    pixels = np.linalg.norm(r[:42].reshape(21, 2), axis=1)
    directions = np.linalg.norm(r[42 : 42 + 3 * len(PAIRS)].reshape(-1, 3), axis=1)
    weights = np.ones_like(r)
    weights[:42] = np.repeat(np.sqrt(turn / np.maximum(pixels, turn)), 2)
    weights[42 : 42 + 3 * len(PAIRS)] = np.repeat(np.sqrt(turn / np.maximum(directions, turn)), 3)
    return weights


def _cost(r: np.ndarray, turn: float) -> float:
    blocks = (r[:42].reshape(21, 2), r[42 : 42 + 3 * len(PAIRS)].reshape(-1, 3))
    total = float(r[42 + 3 * len(PAIRS) :] @ r[42 + 3 * len(PAIRS) :])
    for block in blocks:
        size = np.linalg.norm(block, axis=1)
        total += float(np.where(size < turn, size * size, turn * (2 * size - turn)).sum())
    return total


def solve(
    model: HandModel,
    start: Pose,
    target: Target,
    limits: np.ndarray,
    *,
    iterations: int,
    huber: float,
    tolerance: float,
) -> tuple[Pose, float]:
    """Levenberg-Marquardt with a Huber kernel and projected limits; returns the best pose and its cost.

    Args:
        limits: (22, 2) radians.
        iterations: steps at most, accepted or not.
        huber: standard deviations where a landmark's residual turns linear.
        tolerance: relative fall of the cost below which to stop.
    """
    pose, damping = start, 1e-3
    r, jacobian = residuals(model, pose, target, True)
    cost = _cost(r, huber)
    for _ in range(iterations):
        assert jacobian is not None
        weights = _huber_weights(r, huber)
        weighted = jacobian * weights[:, None]
        gradient = weighted.T @ (weights * r)
        hessian = weighted.T @ weighted
        blocked = _blocked(pose, gradient, limits)
        gradient[blocked] = 0
        hessian[blocked] = 0
        hessian[:, blocked] = 0
        diagonal = np.diagonal(hessian) * (1 + damping) + 1e-9
        hessian[np.diag_indices(PARAMETER_COUNT)] = diagonal
        candidate = pose.moved(-np.linalg.solve(hessian, gradient), limits)
        if candidate.translation[2] > 0.02:
            r_new, jacobian_new = residuals(model, candidate, target, True)
            cost_new = _cost(r_new, huber)
        else:
            cost_new = np.inf
        if cost_new < cost:
            fall = cost - cost_new
            pose, cost, r, jacobian, damping = candidate, cost_new, r_new, jacobian_new, damping * 0.1
            if fall < tolerance * cost:
                break
        else:
            damping = damping * 10 + 1e-2
    return pose, cost


def _blocked(pose: Pose, gradient: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """(38,) angles at a limit that the step would leave."""
    blocked = np.zeros(PARAMETER_COUNT, bool)
    at_low = (pose.angles <= limits[:, 0]) & (gradient[ANGLES] > 0)
    at_high = (pose.angles >= limits[:, 1]) & (gradient[ANGLES] < 0)
    blocked[ANGLES] = at_low | at_high
    return blocked
