"""The free hand laid into captured joints: size from bone lengths, then pose by Levenberg-Marquardt on all frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hoi_ros.geometry import make_transform, skew, so3_exp
from hoi_ros.hand_model import HandModel
from hoi_ros.hand_model.kinematics import BoneMotion, Skeleton, forward_kinematics, keypoint_jacobian

_BONES = np.array([(0 if j % 4 == 1 else j - 1, j) for j in range(1, 21)])
_PALM = [0, 5, 9, 13, 17]
_JOINT_SIGMA_M = 0.004
_ANGLE_SIGMA = 1.2
_NEIGHBOUR_SIGMA = 0.2
_LIMIT_SIGMA = 0.05
_MEDIAN_FRAMES = 13


@dataclass(frozen=True)
class FittedHand:
    """A right hand in T frames."""

    shape: np.ndarray
    """(10,) the same in all frames."""
    joint_angles: np.ndarray
    """(T, A) radians."""
    T_view_wrist: np.ndarray
    """(T, 4, 4)."""
    residual_m: np.ndarray
    """(T,) mean distance of the hand's joints to the given ones."""


def fit_shape(skeleton: Skeleton, joints: np.ndarray, ridge: float = 0.002) -> np.ndarray:
    """(10,) shape coefficients whose bones are as long as the median of captured ones.

    Args:
        skeleton: of the hand model.
        joints: (T, 21, 3) metres, any frame.
        ridge: metres by which one unit of a coefficient must shorten the error to be used.
    """
    lengths = np.median(np.linalg.norm(joints[:, _BONES[:, 1]] - joints[:, _BONES[:, 0]], axis=-1), axis=0)
    shape = np.zeros(len(skeleton.keypoint_directions))
    for _ in range(8):
        rest = skeleton.keypoints + np.tensordot(shape, skeleton.keypoint_directions, 1)
        bones = rest[_BONES[:, 1]] - rest[_BONES[:, 0]]
        directions = skeleton.keypoint_directions[:, _BONES[:, 1]] - skeleton.keypoint_directions[:, _BONES[:, 0]]
        size = np.linalg.norm(bones, axis=1)
        J = np.einsum("kbc,bc->bk", directions, bones / size[:, None])
        r = lengths - size
        step = np.linalg.solve(J.T @ J + ridge**2 * np.eye(len(shape)), J.T @ r - ridge**2 * shape)
        shape = np.clip(shape + step, -3.5, 3.5)
    return shape


def fit_hand(model: HandModel, joints: np.ndarray) -> FittedHand:
    """Fit a right hand to captured joints (T, 21, 3) metres, JOINT_NAMES order; mirror a left hand's first.

    Raises:
        ValueError: a joint is not finite.
    """
    if not np.isfinite(joints).all():
        raise ValueError("captured joints must be finite")
    joints = np.asarray(joints, np.float64)
    shape = fit_shape(model.skeleton, joints)
    start = np.repeat(np.clip(_relaxed(model), *model.joint_limits.T)[None], len(joints), 0)
    fit = _PoseFit(model, shape, joints)
    angles, _, _ = fit.run(start, np.zeros_like(start), _ANGLE_SIGMA)
    # Single frames may end in another bend of the thumb: the second time all stay near their neighbours.
    window = min(_MEDIAN_FRAMES, len(joints))
    padded = np.pad(angles, ((window // 2, (window - 1) // 2), (0, 0)), mode="edge")
    center = np.median(np.lib.stride_tricks.sliding_window_view(padded, window, axis=0), axis=-1)
    angles, R, t = fit.run(center, center, _NEIGHBOUR_SIGMA)
    angles = np.clip(angles, *model.joint_limits.T)
    keypoints = forward_kinematics(model.skeleton, angles, np.repeat(shape[None], len(joints), 0)).keypoints
    off = np.linalg.norm(keypoints @ np.swapaxes(R, 1, 2) + t[:, None] - joints, axis=-1).mean(1)
    return FittedHand(shape, angles, make_transform(R, t), off)


class _PoseFit:
    """Poses of a hand of known shape for T frames of joints (T, 21, 3)."""

    def __init__(self, model: HandModel, shape: np.ndarray, joints: np.ndarray) -> None:
        self._skeleton, self._limits, self._joints = model.skeleton, model.joint_limits, joints
        self._shapes = np.repeat(shape[None], len(joints), 0)

    def run(
        self, angles: np.ndarray, center: np.ndarray, sigma: float, iterations: int = 25
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Joint angles (T, A), rotations (T, 3, 3) and translations (T, 3), from `angles`, drawn towards `center`."""
        keypoints = self._move(angles).keypoints
        R, t = _superpose(keypoints[:, _PALM], self._joints[:, _PALM])
        damping = np.full(len(angles), 1e-2)
        cost = self._cost(keypoints, R, t, angles, (angles - center) / sigma)
        for _ in range(iterations):
            step = self._step(R, t, angles, (angles - center) / sigma, sigma, damping)
            new_R, new_t, new_angles = R @ so3_exp(step[:, :3]), t + step[:, 3:6], angles + step[:, 6:]
            new_keypoints = self._move(new_angles).keypoints
            new_cost = self._cost(new_keypoints, new_R, new_t, new_angles, (new_angles - center) / sigma)
            better = new_cost < cost
            angles = np.where(better[:, None], new_angles, angles)
            R, t = np.where(better[:, None, None], new_R, R), np.where(better[:, None], new_t, t)
            cost = np.where(better, new_cost, cost)
            damping = np.clip(np.where(better, damping / 4, damping * 6), 1e-7, 1e6)
        return angles, R, t

    def _move(self, angles: np.ndarray) -> BoneMotion:
        return forward_kinematics(self._skeleton, angles, self._shapes)

    def _residual(self, keypoints: np.ndarray, R: np.ndarray, t: np.ndarray) -> np.ndarray:
        """(T, 63) in sigmas."""
        off = keypoints @ np.swapaxes(R, 1, 2) + t[:, None] - self._joints
        return (off / _JOINT_SIGMA_M).reshape(len(off), 63)

    def _outside(self, angles: np.ndarray) -> np.ndarray:
        """(T, A) radians beyond the joint limits."""
        return np.clip(angles - self._limits[:, 1], 0, None) + np.clip(angles - self._limits[:, 0], None, 0)

    def _cost(
        self, keypoints: np.ndarray, R: np.ndarray, t: np.ndarray, angles: np.ndarray, off_center: np.ndarray
    ) -> np.ndarray:
        r = self._residual(keypoints, R, t)
        return (r**2).sum(1) + ((self._outside(angles) / _LIMIT_SIGMA) ** 2).sum(1) + (off_center**2).sum(1)

    def _step(
        self, R: np.ndarray, t: np.ndarray, angles: np.ndarray, off_center: np.ndarray, sigma: float,
        damping: np.ndarray,
    ) -> np.ndarray:  # fmt: skip
        """(T, 6 + A) steps: rotation on the right, translation, joint angles."""
        count, hinges = angles.shape
        motion = self._move(angles)
        by_angle, _ = keypoint_jacobian(self._skeleton, motion)
        J = np.zeros((count, 21, 3, 6 + hinges))
        J[..., :3] = -R[:, None] @ skew(motion.keypoints)
        J[..., 3:6] = np.eye(3)
        J[..., 6:] = R[:, None] @ by_angle
        J = J.reshape(count, 63, -1) / _JOINT_SIGMA_M
        r = self._residual(motion.keypoints, R, t)
        H = np.swapaxes(J, 1, 2) @ J
        g = (np.swapaxes(J, 1, 2) @ r[..., None])[..., 0]
        outside = self._outside(angles)
        diagonal = np.arange(6, 6 + hinges)
        H[:, diagonal, diagonal] += (outside != 0) / _LIMIT_SIGMA**2 + 1 / sigma**2
        g[:, 6:] += outside / _LIMIT_SIGMA**2 + off_center / sigma
        every = np.arange(H.shape[1])
        H[:, every, every] = H[:, every, every] * (1 + damping[:, None]) + 1e-9
        return -np.linalg.solve(H, g[..., None])[..., 0]


def _relaxed(model: HandModel) -> np.ndarray:
    """(A,) fingers a little bent."""
    names = model.joint_angle_names
    return np.array([0.4 if name.endswith("flexion") and "thumb" not in name else 0.1 for name in names])


def _superpose(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotations (T, 3, 3) and translations (T, 3) that take source (T, K, 3) to target. Source: Kabsch 1976."""
    a, b = source - source.mean(1, keepdims=True), target - target.mean(1, keepdims=True)
    U, _, Vt = np.linalg.svd(np.swapaxes(a, 1, 2) @ b)
    sign = np.linalg.det(np.swapaxes(Vt, 1, 2) @ np.swapaxes(U, 1, 2))
    Vt[:, 2] *= sign[:, None]
    R = np.swapaxes(Vt, 1, 2) @ np.swapaxes(U, 1, 2)
    return R, target.mean(1) - (R @ source.mean(1)[..., None])[..., 0]
