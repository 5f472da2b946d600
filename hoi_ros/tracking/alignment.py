"""Dense alignment of a reference surface with a frame: geometry and colour, robust Gauss-Newton on SE(3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from hoi_ros.geometry import make_transform, nearest_rigid, so3_log
from hoi_ros.tracking.config import TrackerConfig
from hoi_ros.tracking.linearisation import LevelCloud, Linearisation, level_cloud, linearise
from hoi_ros.tracking.reference import ReferenceCloud
from hoi_ros.tracking.target import AlignmentTarget

PRIOR = np.diag([0.03**-2] * 3 + [0.3**-2] * 3)
"""Information of the start itself, 3 cm and 17 degrees: decides only what the picture leaves open."""
STEP_DONE = (2e-4, 1e-4, 5e-5)
NORMAL_SIGMA = 0.07
"""Radians by which normals err."""
SHAPE_SHARE = 0.1
"""Share of the shape's information on a turn that is real: its errors are the same in frame and model."""


@dataclass(frozen=True)
class ExpectedTurn:
    """The rotation that a steady motion leads to, and how far it may be off."""

    rotation: np.ndarray
    """(3, 3) of T_camera_object."""
    sigma_rad: float


@dataclass(frozen=True)
class AlignmentResult:
    """Where the reference lies in the frame, and how sure that is."""

    T_camera_object: np.ndarray
    """(4, 4)."""
    converged: bool
    """False when the last step was still large or too little was matched to fix a pose."""
    inlier_fraction: float
    """Share of the points not hidden that fit in shape and colour, 0 to 1."""
    matched: int
    """Number of those points."""
    residual_m: float
    """Median point-to-plane distance of the matched points; NaN when none."""
    cost: float
    """Mean robust cost a point, 0 to MISSING_COST; comparable between starts."""
    information: np.ndarray
    """(6, 6) of the twist (translation, rotation about the cloud's centre) in the camera's axes."""


def align(
    reference: ReferenceCloud,
    target: AlignmentTarget,
    starts: Sequence[np.ndarray],
    config: TrackerConfig,
    expected: ExpectedTurn | None = None,
) -> AlignmentResult | None:
    """Move a reference surface onto a frame: point-to-plane distance and grey level, coarse to fine.

    Every start is tried at the coarse level with few points; the cheapest goes on. Directions that neither
    shape nor colour fixes stay where that start put them. Sources: Chen and Medioni 1992 (point to plane),
    Park, Zhou and Koltun 2017 (colour), projective association as in KinectFusion 2011.

    Args:
        reference: N points in the object frame.
        target: the frame, from `alignment_target`.
        starts: guesses of T_camera_object, (4, 4) each; the earliest wins ties.
        config: points, iterations, weights.
        expected: where the turn would be by itself, joined to what the picture says; None while nothing is known.

    Returns:
        The pose of the best start, or None without a start or with fewer than 20 points.
    """
    if len(reference) < 20 or not starts:
        return None
    few = level_cloud(reference.thinned(max(200, config.align_points // 4)), 0, config)
    poses, _ = _descend(few, target, np.stack(starts), config, expected)
    best = int(np.argmin(np.round(linearise(few, target, poses, config).cost, 3)))
    poses = poses[best : best + 1]
    for level in (1, 2):
        cloud = level_cloud(reference.thinned(config.align_points // (2 if level == 1 else 1)), level, config)
        poses, steps = _descend(cloud, target, poses, config, expected)
    end = linearise(cloud, target, poses, config)
    visible, matched = int((~end.hidden[0]).sum()), int(end.fits[0].sum())
    distances = np.abs(end.r_depth[0, end.matched[0]])
    return AlignmentResult(
        nearest_rigid(poses[0]),
        converged=bool(steps[0] < 0.003 and matched >= 30),
        inlier_fraction=matched / max(visible, 1),
        matched=matched,
        residual_m=float(np.median(distances)) if len(distances) else float("nan"),
        cost=float(end.cost[0]),
        information=end.hessian[0],
    )


def turn_information(
    reference: ReferenceCloud, target: AlignmentTarget, T_camera_object: np.ndarray, config: TrackerConfig
) -> np.ndarray:
    """What print and shape say of the turn at a pose: (3, 3) information in camera axes, shifts left free."""
    if not len(reference):  # no side that is known faces the camera
        return np.zeros((3, 3))
    cloud = level_cloud(reference, len(STEP_DONE) - 1, config)
    at = linearise(cloud, target, T_camera_object[None], config)
    noise = np.zeros((6, 6))
    noise[3:, 3:] = _turn_of_noise(cloud, T_camera_object, at)
    hessian = at.hessian[0] - (1 - SHAPE_SHARE) * at.shape_hessian[0] - SHAPE_SHARE * noise
    shift = hessian[:3, :3] + 1e-6 * np.eye(3)
    cross = hessian[3:, :3]
    return _positive(hessian[3:, 3:] - cross @ np.linalg.solve(shift, cross.T))


def _turn_of_noise(cloud: LevelCloud, pose: np.ndarray, at: Linearisation) -> np.ndarray:
    """(3, 3) information that noise of the normals feigns: on a round thing all of the shape's is such."""
    rows = at.matched[0]
    arm = (pose[:3, :3] @ cloud.points[:, rows] + (pose[:3, 3] - at.center[0])[:, None]).T
    normal = (pose[:3, :3] @ cloud.normals[:, rows]).T
    weight = NORMAL_SIGMA**2 * at.w_depth[0, rows].astype(np.float64)
    lever = np.cross(arm, normal)
    whole = (weight * np.einsum("nk,nk->n", arm, arm)).sum() * np.eye(3) - (arm * weight[:, None]).T @ arm
    return whole - (lever * weight[:, None]).T @ lever


def _positive(matrix: np.ndarray) -> np.ndarray:
    """A symmetric matrix without its negative part."""
    values, axes = np.linalg.eigh(matrix)
    return (axes * np.maximum(values, 0)) @ axes.T


def coarse_align(
    reference: ReferenceCloud, target: AlignmentTarget, start: np.ndarray, config: TrackerConfig
) -> tuple[np.ndarray, float]:
    """Align few points at the coarse level only: the pose (4, 4) and its mean robust cost a point."""
    few = level_cloud(reference.thinned(max(200, config.align_points // 4)), 0, config)
    poses, _ = _descend(few, target, start[None], config)
    return nearest_rigid(poses[0]), float(linearise(few, target, poses, config).cost[0])


def _descend(
    cloud: LevelCloud,
    target: AlignmentTarget,
    starts: np.ndarray,
    config: TrackerConfig,
    expected: ExpectedTurn | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Newton at a cloud's level from each of the starts (B, 4, 4), side by side.

    Returns:
        Poses (B, 4, 4), and the size (B,) of each one's last step, metres + 0.1 rad.
    """
    poses = np.array(starts, np.float64)
    moved, steps = np.zeros((len(poses), 6)), np.full(len(poses), np.inf)
    for _ in range(config.max_iterations):
        active = np.flatnonzero(steps >= STEP_DONE[cloud.level])
        if not len(active):
            break
        at = linearise(cloud, target, poses[active], config)
        hessians, gradients = at.hessian + PRIOR, at.gradient + moved[active] @ PRIOR
        for row, start in enumerate(active):
            hessian, gradient, pose = hessians[row], gradients[row], poses[start]
            if expected is not None:
                hessian[3:, 3:] += expected.sigma_rad**-2 * np.eye(3)
                gradient[3:] += expected.sigma_rad**-2 * so3_log(pose[:3, :3] @ expected.rotation.T)
            delta = -np.linalg.solve(hessian, gradient)
            steps[start] = np.abs(delta[:3]).max() + 0.1 * np.abs(delta[3:]).max()
            delta *= min(1.0, 0.03 / max(float(steps[start]), 1e-9))
            poses[start], moved[start] = _moved(pose, delta, at.center[row]), moved[start] + delta
    return poses, steps


def _moved(pose: np.ndarray, delta: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Apply a twist about a centre in camera axes to a pose."""
    rotation = cv2.Rodrigues(delta[3:])[0]
    return make_transform(rotation, delta[:3] + center - rotation @ center) @ pose
