"""Poses and points from the paths of pixels: exact data come back exact, priors hold what nothing else fixes."""

from __future__ import annotations

import numpy as np
import pytest

from hoi_ros.datatypes import CameraIntrinsics
from hoi_ros.geometry import make_transform, rotation_angle, se3_exp, so3_exp
from hoi_ros.tracking.pointmap_structure import (
    Observations,
    PosePrior,
    bundle_adjust,
    depth_prior_information,
    fit_pose,
    projected,
)

CAMERA = CameraIntrinsics(640, 480, 600.0, 610.0, 320.0, 240.0)


def thing(count: int = 80) -> np.ndarray:
    rng = np.random.default_rng(3)
    direction = rng.normal(size=(count, 3))
    direction[:, 2] = -np.abs(direction[:, 2])
    return direction / np.linalg.norm(direction, axis=1, keepdims=True) * [0.03, 0.05, 0.03]


def course(count: int = 7, step_deg: float = 8.0) -> np.ndarray:
    turns = so3_exp(np.radians(step_deg) * np.arange(count)[:, None] * np.array([[0.3, 0.9, 0.1]]))
    shift = np.array([0.01, -0.02, 0.45]) + np.arange(count)[:, None] * [0.004, 0.002, -0.003]
    return make_transform(turns, shift)


def prior_at(pose: np.ndarray, looseness: float = 1.0) -> PosePrior:
    return PosePrior(pose, 0.1 * looseness, 0.006 * looseness * np.array([1.0, 1.0, 2.0]), np.zeros(3))


def degrees(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.degrees(rotation_angle(a[:3, :3] @ b[:3, :3].T)))


def test_a_pose_comes_back_from_its_pixels_despite_outliers():
    points, truth = thing(), course()[3]
    pixels, _ = projected(points, truth, CAMERA)
    rng = np.random.default_rng(0)
    pixels += rng.normal(0, 0.3, pixels.shape)
    pixels[:20] += rng.uniform(-40, 40, (20, 2))
    guess = se3_exp(np.array([0.004, -0.003, 0.006, 0.05, 0.06, -0.05])) @ truth
    fit = fit_pose(points, pixels, np.full(80, 0.5), prior_at(guess), CAMERA, guess)
    assert degrees(fit.T_camera_object, truth) < 0.5
    assert np.linalg.norm(fit.T_camera_object[:3, 3] - truth[:3, 3]) < 0.002
    assert np.median(fit.errors_px[20:]) < 1 < np.median(fit.errors_px[:20])


def test_without_pixels_the_prior_is_the_answer():
    guess = course()[2]
    fit = fit_pose(np.zeros((0, 3)), np.zeros((0, 2)), np.zeros(0), prior_at(guess), CAMERA, course()[1])
    np.testing.assert_allclose(fit.T_camera_object, guess, atol=1e-6)


@pytest.mark.parametrize("index", range(6))
def test_the_prior_s_derivative_is_its_difference(index):
    pose, prior = course()[3], prior_at(se3_exp(np.full(6, 0.01)) @ course()[3])
    prior = PosePrior(prior.T_camera_object, prior.rotation_sigma_rad, prior.translation_sigma_m, np.full(3, 0.02))
    step = np.zeros(6)
    step[index] = 1e-6
    numeric = (prior.residual(se3_exp(step) @ pose)[0] - prior.residual(se3_exp(-step) @ pose)[0]) / 2e-6
    np.testing.assert_allclose(prior.residual(pose)[1][:, index], numeric, rtol=0.05, atol=0.3)


def adjusted(noise_px: float, wrong_share: float = 0.0):
    """Seven views of a thing whose depth was taken for flat; poses as the hand would guess them."""
    rng = np.random.default_rng(1)
    points, poses = thing(), course()
    view, point = (a.ravel() for a in np.meshgrid(np.arange(len(poses)), np.arange(len(points)), indexing="ij"))
    pixels = np.concatenate([projected(points, pose, CAMERA)[0] for pose in poses])
    pixels += rng.normal(0, noise_px, pixels.shape)
    wrong = rng.random(len(pixels)) < wrong_share
    pixels[wrong] += rng.uniform(-30, 30, (int(wrong.sum()), 2))
    first = pixels[: len(points)]
    flat = poses[0][2, 3] - 0.02
    local = np.stack(
        [(first[:, 0] - CAMERA.cx) / CAMERA.fx, (first[:, 1] - CAMERA.cy) / CAMERA.fy, np.ones(len(first))], 1
    )
    start = (local * flat - poses[0][:3, 3]) @ poses[0][:3, :3]
    guesses = np.stack([poses[0], *(se3_exp(rng.normal(0, 1, 6) * ([0.004] * 3 + [0.05] * 3)) @ p for p in poses[1:])])
    firm = depth_prior_information(poses[0], start, CAMERA, 0.02)
    found, cloud, information = bundle_adjust(
        guesses, start, Observations(view, point, pixels), CAMERA, point_prior=start, point_information=firm,
        motion_priors=[prior_at(g) for g in guesses], iterations=25,
    )  # fmt: skip
    return poses, points, found, cloud, information, start


def test_flat_points_find_their_depth_and_poses_their_turn():
    poses, points, found, cloud, _, start = adjusted(0.3)
    assert max(degrees(a, b) for a, b in zip(found, poses)) < 2.5
    before, after = (shape_error(c, points) for c in (start, cloud))
    assert after < 0.0015 < before


def test_wrong_paths_are_borne():
    poses, points, found, cloud, _, _ = adjusted(0.3, 0.1)
    assert max(degrees(a, b) for a, b in zip(found, poses)) < 3.5
    assert shape_error(cloud, points) < 0.004


def shape_error(cloud: np.ndarray, truth: np.ndarray) -> float:
    """Median distance in metres after the best similarity: the scale is the prior's."""
    from hoi_ros.tracking.pointmap_motion import similarity

    rotation, translation, scale = similarity(cloud, truth, np.ones(len(cloud)), True)
    assert 0.85 < scale < 1.15
    return float(np.median(np.linalg.norm(scale * cloud @ rotation.T + translation - truth, axis=1)))


def test_the_first_view_stays():
    poses, _, found, _, _, _ = adjusted(0.3)
    np.testing.assert_array_equal(found[0], poses[0])


def test_a_first_view_is_sure_across_its_rays_and_unsure_along_them():
    pose = course()[4]
    firm = depth_prior_information(pose, thing(), CAMERA, 0.02)
    _, seen = projected(thing(), pose, CAMERA)
    rays = seen @ pose[:3, :3] / np.linalg.norm(seen, axis=1, keepdims=True)
    np.testing.assert_allclose(np.einsum("ni,nij,nj->n", rays, firm, rays), 1 / 0.02**2, rtol=1e-6)
    assert np.linalg.eigvalsh(firm)[:, 1].min() > 1e6
