"""The least-squares problem behind the hand fit: a right hand of size 1, with exact derivatives."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from hoi_ros.geometry import so3_exp
from hoi_ros.hand_model import HandModel
from hoi_ros.hand_model.anatomy import KEYPOINT_BONES
from hoi_ros.hand_model.kinematics import forward_kinematics, keypoint_jacobian

ANGLES, SHAPE = slice(0, 22), slice(22, 32)
ROTATION, TRANSLATION = slice(32, 35), slice(35, 38)
PARAMETER_COUNT = 38

# Pairs of keypoints whose direction the network's 3D landmarks tell: the bones, and spans that carry the whole pose.
_BONES = [(0 if i % 4 == 1 else i - 1, i) for i in range(1, 21)]
_SPANS = [(5, 17), (1, 5), *((0, tip) for tip in (4, 8, 12, 16, 20)), (8, 20), (4, 8)]
PAIRS = np.array(_BONES + _SPANS)
_BLOCK_WIDTHS = np.array([2] * 21 + [3] * len(PAIRS))
_PRIOR_START = int(_BLOCK_WIDTHS.sum())


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

    anchors: np.ndarray
    """(21, 3) metres from each keypoint to where the network sets its landmark; rest pose, moves with the bone."""
    rays: np.ndarray
    """(21, 2) x / z and y / z of the landmarks."""
    ray_sigma: np.ndarray
    """(21,) metres at the hand's distance."""
    directions: np.ndarray
    """(P, 3) unit vectors along PAIRS."""
    direction_sigma: np.ndarray
    """(P,) radians."""
    prior_matrix: np.ndarray
    """(Q, 38) linear prior; rows times parameters ..."""
    prior_value: np.ndarray
    """(Q,) ... should be this, in standard deviations."""
    depth_goal: np.ndarray = field(default_factory=lambda: np.zeros(21))
    """(21,) metres at size 1: where a depth image has the landmarks."""
    depth_weight: np.ndarray = field(default_factory=lambda: np.zeros(21))
    """(21,) one over the standard deviation in metres; 0 knows nothing."""


class Misfit:
    """Weighted residuals of a pose; their Jacobian on demand, since the last step of a solve needs none."""

    def __init__(self, model: HandModel, pose: Pose, target: Target) -> None:
        self.model, self.pose, self.target = model, pose, target
        motion = forward_kinematics(model.skeleton, pose.angles[None], pose.shape[None])
        shifts = (motion.rotations[:, KEYPOINT_BONES] @ target.anchors[..., None])[..., 0]
        self.motion = replace(motion, keypoints=motion.keypoints + shifts)
        self.arms = self.motion.keypoints[0] @ pose.rotation.T
        points = self.arms + pose.translation
        self.depth = points[:, 2]
        self.rays = points[:, :2] / self.depth[:, None]
        self.ray_weight = pose.translation[2] / target.ray_sigma
        span = points[PAIRS[:, 1]] - points[PAIRS[:, 0]]
        self.length = np.sqrt((span * span).sum(1))
        self.unit = span / self.length[:, None]
        parameters = np.concatenate([pose.angles, pose.shape])
        self.r = np.concatenate(
            [
                ((self.rays - target.rays) * self.ray_weight[:, None]).ravel(),
                ((self.unit - target.directions) / target.direction_sigma[:, None]).ravel(),
                target.prior_matrix[:, :32] @ parameters - target.prior_value,
                (self.depth - target.depth_goal) * target.depth_weight,
            ]
        )

    def jacobian(self) -> np.ndarray:
        """(N, 38); rotation steps multiply from the left. The ray weights count as constant."""
        pose, target = self.pose, self.target
        by_angle, by_shape = keypoint_jacobian(self.model.skeleton, self.motion)
        d_points = np.empty((21, 3, PARAMETER_COUNT))
        d_points[..., :32] = pose.rotation @ np.concatenate([by_angle[0], by_shape[0]], -1)
        x, y, z = self.arms.T
        d_points[..., ROTATION] = 0
        d_points[:, 0, 33], d_points[:, 0, 34], d_points[:, 1, 34] = z, -y, x
        d_points[:, 1, 32], d_points[:, 2, 32], d_points[:, 2, 33] = -z, y, -x
        d_points[..., TRANSLATION] = np.eye(3)
        d_rays = d_points[:, :2] - self.rays[..., None] * d_points[:, 2:]
        d_rays *= (self.ray_weight / self.depth)[:, None, None]
        d_span = d_points[PAIRS[:, 1]] - d_points[PAIRS[:, 0]]
        d_unit = d_span - self.unit[..., None] * (self.unit[:, None] @ d_span)
        d_unit /= (self.length * target.direction_sigma)[:, None, None]
        d_depth = d_points[:, 2] * target.depth_weight[:, None]
        columns = PARAMETER_COUNT
        return np.concatenate([d_rays.reshape(-1, columns), d_unit.reshape(-1, columns), target.prior_matrix, d_depth])


def _block_sizes(r: np.ndarray) -> np.ndarray:
    """Lengths (21 + P,) of the residual vectors of landmarks and of directions."""
    squares = r * r
    rays = squares[:42].reshape(21, 2).sum(1)
    directions = squares[42:_PRIOR_START].reshape(-1, 3).sum(1)
    return np.sqrt(np.concatenate([rays, directions]))


def _huber_weights(r: np.ndarray, turn: float) -> np.ndarray:
    """Square roots (N,) of the weights that make squares linear beyond `turn`."""
    weights = np.ones_like(r)
    weights[:_PRIOR_START] = np.repeat(np.sqrt(turn / np.maximum(_block_sizes(r), turn)), _BLOCK_WIDTHS)
    return weights


def _cost(r: np.ndarray, turn: float) -> float:
    size = _block_sizes(r)
    prior = r[_PRIOR_START:]
    return float(np.where(size < turn, size * size, turn * (2 * size - turn)).sum() + prior @ prior)


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
    now, damping = Misfit(model, start, target), 1e-3
    cost, jacobian = _cost(now.r, huber), None
    for _ in range(iterations):
        if jacobian is None:
            jacobian = now.jacobian()
            weights = _huber_weights(now.r, huber)
            weighted = jacobian * weights[:, None]
            gradient = weighted.T @ (weights * now.r)
            normal = weighted.T @ weighted
            blocked = _blocked(now.pose, gradient, limits)
            gradient[blocked] = 0
            normal[blocked] = 0
            normal[:, blocked] = 0
        damped = normal + np.diag(np.diagonal(normal) * damping + 1e-9)
        moved = now.pose.moved(-np.linalg.solve(damped, gradient), limits)
        candidate = Misfit(model, moved, target) if moved.translation[2] > 0.02 else None
        cost_new = np.inf if candidate is None else _cost(candidate.r, huber)
        if candidate is not None and cost_new < cost:
            fall = cost - cost_new
            now, cost, jacobian, damping = candidate, cost_new, None, damping * 0.1
            if fall < tolerance * cost:
                break
        else:
            damping = damping * 10 + 1e-2
    return now.pose, cost


def _blocked(pose: Pose, gradient: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """(38,) angles at a limit that the step would leave."""
    blocked = np.zeros(PARAMETER_COUNT, bool)
    at_low = (pose.angles <= limits[:, 0]) & (gradient[ANGLES] > 0)
    at_high = (pose.angles >= limits[:, 1]) & (gradient[ANGLES] < 0)
    blocked[ANGLES] = at_low | at_high
    return blocked
