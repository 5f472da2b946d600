"""Structure and motion of a held thing from the paths of its pixels: poses by reprojection, points by adjustment.

Points lie on a regular grid over the object's pixels; no keypoint is detected or described.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hoi_ros.datatypes import CameraIntrinsics
from hoi_ros.geometry import invert_transform, se3_exp, se3_log, skew


@dataclass(frozen=True)
class PosePrior:
    """What is believed of a pose before looking: a pose and how far it may be off, about the object's middle."""

    T_camera_object: np.ndarray
    """(4, 4)."""
    rotation_sigma_rad: float
    translation_sigma_m: np.ndarray
    """(3,) along the camera's axes."""
    middle_object: np.ndarray
    """(3,) metres, object frame: the point that the translation is meant for."""

    def residual(self, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Whitened error (6,) and its derivative (6, 6) by a left twist of the pose about the camera."""
        rotation = pose[:3, :3] @ self.T_camera_object[:3, :3].T
        turn = se3_log(np.block([[rotation, np.zeros((3, 1))], [np.zeros((1, 3)), np.ones((1, 1))]]))[3:]
        here = pose[:3, :3] @ self.middle_object + pose[:3, 3]
        there = self.T_camera_object[:3, :3] @ self.middle_object + self.T_camera_object[:3, 3]
        error = np.concatenate([(here - there) / self.translation_sigma_m, turn / self.rotation_sigma_rad])
        jacobian = np.zeros((6, 6))
        jacobian[:3, :3] = np.diag(1 / self.translation_sigma_m)
        jacobian[:3, 3:] = -skew(here) / self.translation_sigma_m[:, None]
        jacobian[3:, 3:] = np.eye(3) / self.rotation_sigma_rad
        return error, jacobian


@dataclass(frozen=True)
class PoseFit:
    """A pose from the places of known points."""

    T_camera_object: np.ndarray
    errors_px: np.ndarray
    """(N,) distance of each point from where it was seen."""
    information: np.ndarray
    """(6, 6) of a left twist, prior included."""


def projected(points: np.ndarray, pose: np.ndarray, camera: CameraIntrinsics) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, 2), and points (N, 3) in the optical frame, of object points; depth is kept from zero."""
    seen = points @ pose[:3, :3].T + pose[:3, 3]
    z = np.maximum(seen[:, 2], 1e-3)
    pixels = np.stack([camera.fx * seen[:, 0] / z + camera.cx, camera.fy * seen[:, 1] / z + camera.cy], 1)
    return pixels, seen


def pixel_jacobians(seen: np.ndarray, camera: CameraIntrinsics) -> np.ndarray:
    """(N, 2, 3) derivative of pixels by points (N, 3) in the optical frame."""
    z = np.maximum(seen[:, 2], 1e-3)
    out = np.zeros((len(seen), 2, 3))
    out[:, 0, 0], out[:, 1, 1] = camera.fx / z, camera.fy / z
    out[:, 0, 2], out[:, 1, 2] = -camera.fx * seen[:, 0] / z**2, -camera.fy * seen[:, 1] / z**2
    return out


def fit_pose(
    points: np.ndarray, pixels: np.ndarray, sigma_px: np.ndarray, prior: PosePrior, camera: CameraIntrinsics,
    start: np.ndarray, iterations: int = 12,
) -> PoseFit:  # fmt: skip
    """Pose that brings points to where they were seen, held to a prior; Gauss-Newton with Cauchy weights.

    Args:
        points: (N, 3) metres, object frame.
        pixels: (N, 2) where they were seen.
        sigma_px: (N,) how far off each may be, its own uncertainty included.
        prior: what is believed already.
        camera: intrinsics.
        start: (4, 4) T_camera_object to begin at.
        iterations: at most.
    """
    pose = start.copy()
    information = np.eye(6)
    for _ in range(iterations):
        found, seen = projected(points, pose, camera)
        error = found - pixels
        jacobian_point = pixel_jacobians(seen, camera)
        jacobian = np.concatenate([jacobian_point, -jacobian_point @ skew(seen)], 2)
        weight = 1 / (sigma_px**2 + (error**2).sum(1) / 4)
        prior_error, prior_jacobian = prior.residual(pose)
        information = prior_jacobian.T @ prior_jacobian + np.einsum("n,nij,nik->jk", weight, jacobian, jacobian)
        right = prior_jacobian.T @ prior_error + np.einsum("n,nij,ni->j", weight, jacobian, error)
        step = -np.linalg.solve(information, right)
        pose = se3_exp(step) @ pose
        if np.abs(step).max() < 1e-6:
            break
    found, _ = projected(points, pose, camera)
    return PoseFit(pose, np.linalg.norm(found - pixels, axis=1), information)


@dataclass
class Observations:
    """Which view saw which point where."""

    view: np.ndarray
    """(M,) int."""
    point: np.ndarray
    """(M,) int."""
    pixels: np.ndarray
    """(M, 2)."""


def bundle_adjust(
    poses: np.ndarray, points: np.ndarray, seen: Observations, camera: CameraIntrinsics, *,
    point_prior: np.ndarray, point_information: np.ndarray, motion_priors: list[PosePrior | None],
    sigma_px: float = 1.0, iterations: int = 15,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Poses and points that explain all observations together; the points are eliminated (Schur complement).

    Args:
        poses: (K, 4, 4) T_camera_object; the first stays.
        points: (N, 3) metres, object frame.
        seen: observations.
        camera: intrinsics.
        point_prior: (N, 3) where each point is believed to be.
        point_information: (N, 3, 3) how firmly.
        motion_priors: what is believed of each pose, None for nothing.
        sigma_px: usual error of an observation.
        iterations: damped Gauss-Newton steps.

    Returns:
        Poses (K, 4, 4), points (N, 3), information (N, 3, 3) of the points with the poses held.
    """
    poses, points = poses.copy(), points.copy()
    damping, best = 1e-3, np.inf
    kept = (poses.copy(), points.copy())
    size = 6 * (len(poses) - 1)
    hessian_points = point_information
    for _ in range(iterations):
        local = np.einsum("mij,mj->mi", poses[seen.view, :3, :3], points[seen.point]) + poses[seen.view, :3, 3]
        z = np.maximum(local[:, 2], 1e-3)
        found = np.stack([camera.fx * local[:, 0] / z + camera.cx, camera.fy * local[:, 1] / z + camera.cy], 1)
        error = (found - seen.pixels) / sigma_px
        square = (error**2).sum(1)
        gap = points - point_prior
        cost = float(4 * np.log1p(square / 4).sum() + np.einsum("ni,nij,nj->", gap, point_information, gap))
        prior_terms = [(k, *p.residual(poses[k])) for k, p in enumerate(motion_priors) if p is not None and k > 0]
        cost += sum(float(e @ e) for _, e, _ in prior_terms)
        if cost > best:
            poses, points = kept[0].copy(), kept[1].copy()
            damping = min(damping * 10, 1e3)
            continue
        kept, best, damping = (poses.copy(), points.copy()), cost, max(damping / 3, 1e-6)
        weight = 1 / (1 + square / 4)
        by_point_camera = pixel_jacobians(local, camera) / sigma_px
        by_pose = np.concatenate([by_point_camera, -by_point_camera @ skew(local)], 2)
        by_point = by_point_camera @ poses[seen.view, :3, :3]
        hessian_points = point_information.copy()
        np.add.at(hessian_points, seen.point, np.einsum("m,mij,mik->mjk", weight, by_point, by_point))
        right_points = -np.einsum("nij,nj->ni", point_information, gap)
        np.add.at(right_points, seen.point, -np.einsum("m,mij,mi->mj", weight, by_point, error))
        system, right = np.zeros((len(poses), 6, len(poses), 6)), np.zeros((len(poses), 6))
        blocks = np.einsum("m,mij,mik->mjk", weight, by_pose, by_pose)
        for k in range(1, len(poses)):
            mine = seen.view == k
            system[k, :, k] = blocks[mine].sum(0)
            right[k] = -np.einsum("m,mij,mi->j", weight[mine], by_pose[mine], error[mine])
        for k, e, jacobian in prior_terms:
            system[k, :, k] += jacobian.T @ jacobian
            right[k] -= jacobian.T @ e
        blocks_between = np.zeros((len(points), len(poses), 6, 3))
        np.add.at(blocks_between, (seen.point, seen.view), np.einsum("m,mij,mik->mjk", weight, by_pose, by_point))
        cross = blocks_between[:, 1:].reshape(len(points), size, 3)
        damped = hessian_points + damping * np.einsum("nii->n", hessian_points)[:, None, None] / 3 * np.eye(3)
        inverse = np.linalg.inv(damped)
        carried = cross @ inverse
        reduced = system[1:, :, 1:].reshape(size, size) - np.einsum("nij,nkj->ik", carried, cross)
        reduced += damping * np.diag(np.maximum(np.diag(system[1:, :, 1:].reshape(size, size)), 1e-9))
        right_reduced = right[1:].reshape(-1) - np.einsum("nij,nj->i", carried, right_points)
        step = np.linalg.lstsq(reduced, right_reduced, rcond=None)[0]
        points = points + np.einsum("nij,nj->ni", inverse, right_points - np.einsum("nij,i->nj", cross, step))
        poses[1:] = se3_exp(step.reshape(-1, 6)) @ poses[1:]
    return kept[0], kept[1], hessian_points


def depth_prior_information(
    T_camera_object: np.ndarray,
    points: np.ndarray,
    camera: CameraIntrinsics,
    depth_sigma_m: float,
    sigma_px: float = 1.0,
) -> np.ndarray:
    """(N, 3, 3) how firmly points stay where a first view put them: sure across its rays, unsure along them."""
    _, seen = projected(points, T_camera_object, camera)
    rays = seen / np.linalg.norm(seen, axis=1, keepdims=True)
    across = camera.fx / np.maximum(seen[:, 2], 1e-3) / sigma_px
    along = np.einsum("ni,nj->nij", rays, rays)
    local = along / depth_sigma_m**2 + (np.eye(3) - along) * (across**2)[:, None, None]
    rotation = invert_transform(T_camera_object)[:3, :3]
    return rotation @ local @ rotation.T
