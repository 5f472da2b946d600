"""Normal equations: the moments are J^T W J of every residual, the costs fall along them, and poses do not mix."""

from __future__ import annotations

import numpy as np
import pytest
import scenes
from scenes import CAMERA

from hoi_ros.geometry import invert_transform, se3_exp
from hoi_ros.tracking.alignment import turn_information
from hoi_ros.tracking.config import TrackerConfig
from hoi_ros.tracking.features import feature_images
from hoi_ros.tracking.keyframes import view_cloud
from hoi_ros.tracking.linearisation import PAIRS, _normal_equations, level_cloud, linearise
from hoi_ros.tracking.patch import cut_patch
from hoi_ros.tracking.target import alignment_target

CONFIG = TrackerConfig()
POSE = scenes.pose((10, 20, 5), (0.02, -0.01, 0.5))


def printed_box(T: np.ndarray):
    """A cloud of a printed box as one frame shows it, and that frame as a target."""
    frame = scenes.frame(scenes.box_layer(T))
    patch = cut_patch(frame, frame.depth_m, np.array([0, 0, CAMERA.width, CAMERA.height], float), 10**6)
    mask = (patch.depth_m > 0) & (patch.depth_m < 0.7)
    cloud = view_cloud(patch, mask, feature_images(patch, mask, 0.5), T, 1500)
    return cloud, alignment_target(patch, mask, np.zeros_like(mask), 0.5)


def test_the_moments_are_the_sum_over_all_residuals():
    random = np.random.default_rng(0)
    count, weight = 50, random.random(50)
    arms, slope, residual = random.normal(size=(2, 3, count)), random.normal(size=(2, 3, count)), random.normal(size=50)
    packed = np.stack([weight * slope[:, i] * slope[:, j] for i, j in PAIRS], 1)
    sums = np.concatenate([packed, weight * residual * slope], 1)
    hessians, gradient = _normal_equations(arms, [sums, 2 * sums])
    for start in range(2):
        jacobian = np.concatenate([slope[start], np.cross(arms[start].T, slope[start].T).T]).T
        np.testing.assert_allclose(hessians[0][start], jacobian.T @ (weight[:, None] * jacobian), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(hessians[1][start], 2 * hessians[0][start])
        np.testing.assert_allclose(gradient[start], 3 * jacobian.T @ (weight * residual), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("level", range(3))
def test_a_step_along_the_normal_equations_goes_back_to_the_truth(level):
    """From two millimetres and a degree off one step leaves no more than 0.6 of the way, shape and colour together."""
    cloud, target = printed_box(POSE)
    moved = se3_exp(np.array([0.002, -0.0015, 0.001, 0.01, -0.012, 0.008])) @ POSE
    at = linearise(level_cloud(cloud, level, CONFIG), target, moved[None], CONFIG)
    step = -np.linalg.solve(at.hessian[0] + 1e-3 * np.eye(6), at.gradient[0])
    back = se3_exp(np.r_[np.zeros(3), step[3:]])
    back[:3, 3] = step[:3] + at.center[0] - back[:3, :3] @ at.center[0]
    before, after = (np.linalg.norm(T @ invert_transform(POSE) - np.eye(4)) for T in (moved, back @ moved))
    assert after < 0.6 * before
    assert at.cost[0] > linearise(level_cloud(cloud, level, CONFIG), target, POSE[None], CONFIG).cost[0]


def test_poses_side_by_side_do_not_mix():
    cloud, target = printed_box(POSE)
    poses = np.stack(
        [POSE, se3_exp(np.array([0.01, 0, 0.01, 0.1, 0, 0])) @ POSE, scenes.pose((0, 0, 0), (2.0, 0, 0.5))]
    )
    few = level_cloud(cloud, 1, CONFIG)
    together = linearise(few, target, poses, CONFIG)
    for row, pose in enumerate(poses):
        alone = linearise(few, target, pose[None], CONFIG)
        for name in ("matched", "fits", "hidden", "cost", "center", "shape_hessian", "hessian", "gradient"):
            np.testing.assert_allclose(getattr(together, name)[row], getattr(alone, name)[0], rtol=1e-6, err_msg=name)
    assert together.matched[0].sum() > 800 and not together.matched[2].any(), "the last lies beside the picture"
    assert not together.hessian[2].any() and not together.gradient[2].any()


def test_colours_that_are_not_known_and_what_has_no_shape_to_say_count_for_nothing():
    cloud, target = printed_box(POSE)
    few = level_cloud(cloud, 2, CONFIG)
    assert few.known.any() and not few.known.all() and np.isfinite(few.features).all()
    blind = level_cloud(cloud.taken(np.flatnonzero(~few.known.any(0))), 2, CONFIG)
    moved = se3_exp(np.array([0.001, 0, 0, 0, 0.01, 0])) @ POSE
    at = linearise(blind, target, moved[None], CONFIG)
    assert at.matched.any()
    np.testing.assert_array_equal(at.hessian, at.shape_hessian)


def test_a_surface_of_which_nothing_faces_the_camera_says_nothing_of_the_turn():
    cloud, target = printed_box(POSE)
    assert np.linalg.eigvalsh(turn_information(cloud, target, POSE, CONFIG))[0] > 100
    nothing = cloud.taken(np.zeros(0, np.int64))
    np.testing.assert_array_equal(turn_information(nothing, target, POSE, CONFIG), np.zeros((3, 3)))
