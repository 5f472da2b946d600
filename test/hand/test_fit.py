"""The fit: recovery of known hands, limits, mirror law, steadiness over a track, refusals."""

import numpy as np
import pytest
from hand_scenes import CAMERA, Seen, see, some_angles

from hoi_ros.errors import InputError
from hoi_ros.geometry import transform_points
from hoi_ros.hand.fit import FitConfig, HandFitter, straighten
from hoi_ros.hand.fit_problem import Misfit, Pose
from hoi_ros.hand_model import HandModel

SHARP = FitConfig(ray_sigma_m=2e-4, direction_sigma_rad=0.01, iterations=40, tolerance=1e-9)


@pytest.fixture(scope="module")
def model() -> HandModel:
    return HandModel.load()


def joint_error(joints: np.ndarray, seen: Seen) -> float:
    """Mean distance in metres after the wrists are put together."""
    return float(np.linalg.norm((joints - joints[0]) - (seen.joints - seen.joints[0]), axis=1).mean())


@pytest.mark.parametrize("side", ["right", "left"])
def test_recovers_known_hands(model, side):
    rng = np.random.default_rng(1)
    fitter = HandFitter(model, SHARP)
    errors = []
    for _ in range(12):
        seen = see(model, some_angles(model, rng), rng, side)
        errors.append(joint_error(fitter.fit(seen.pixels, seen.world, side, CAMERA).joints_camera, seen))
    assert np.max(errors) < 1.5e-3


def test_everyday_settings_stay_near_the_truth(model):
    rng = np.random.default_rng(2)
    fitter = HandFitter(model)
    errors, misses = [], []
    for _ in range(20):
        seen = see(model, some_angles(model, rng), rng)
        fit = fitter.fit(seen.pixels + rng.normal(0, 1, (21, 2)), seen.world, "right", CAMERA)
        errors.append(joint_error(fit.joints_camera, seen))
        misses.append(np.linalg.norm(fit.joints_camera - seen.joints, axis=1).mean() / seen.joints[:, 2].mean())
    assert np.mean(errors) < 5e-3
    assert np.median(misses) < 0.03  # of the distance: no depth, a hand of average size


def test_better_than_the_landmarks_it_was_given(model):
    rng = np.random.default_rng(3)
    fitter = HandFitter(model)
    before, after = [], []
    for _ in range(20):
        seen = see(model, some_angles(model, rng), rng)
        noisy = seen.world + rng.normal(0, 0.006, (21, 3))
        fit = fitter.fit(seen.pixels + rng.normal(0, 2, (21, 2)), noisy, "right", CAMERA)
        before.append(joint_error(fit.landmarks_camera, seen))
        after.append(joint_error(fit.joints_camera, seen))
    assert np.mean(after) < 0.8 * np.mean(before)


def test_angles_keep_their_limits_even_for_nonsense(model):
    rng = np.random.default_rng(4)
    fitter = HandFitter(model)
    for _ in range(10):
        fit = fitter.fit(rng.uniform(200, 300, (21, 2)), rng.normal(0, 0.05, (21, 3)), "right", CAMERA)
        assert (fit.joint_angles >= model.joint_limits[:, 0]).all()
        assert (fit.joint_angles <= model.joint_limits[:, 1]).all()
        assert np.isfinite(fit.vertices_camera).all() and (fit.joints_camera[:, 2] > 0).all()


def test_a_mirrored_image_gives_the_mirrored_mesh(model):
    rng = np.random.default_rng(5)
    seen = see(model, some_angles(model, rng), rng)
    fitter = HandFitter(model)
    right = fitter.fit(seen.pixels, seen.world, "right", CAMERA)
    pixels = seen.pixels * [-1, 1] + [2 * CAMERA.cx, 0]
    left = fitter.fit(pixels, seen.world * [-1, 1, 1], "left", CAMERA)
    np.testing.assert_allclose(left.vertices_camera * [-1, 1, 1], right.vertices_camera, atol=1e-5)
    np.testing.assert_allclose(left.joint_angles, right.joint_angles, atol=1e-6)


@pytest.mark.parametrize("side", ["right", "left"])
def test_parts_of_the_answer_agree(model, side):
    rng = np.random.default_rng(6)
    seen = see(model, some_angles(model, rng), rng, side)
    fit = HandFitter(model).fit(seen.pixels, seen.world, side, CAMERA)
    posed = model.pose(fit.joint_angles[None], fit.shape[None], side, fit.scale)
    np.testing.assert_allclose(transform_points(fit.T_camera_wrist, posed.joints[0]), fit.joints_camera, atol=1e-9)
    np.testing.assert_allclose(transform_points(fit.T_camera_wrist, posed.vertices[0]), fit.vertices_camera, atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(fit.bone_rotations), 1, atol=1e-6)
    bone = fit.joints_camera[10] - fit.joints_camera[9]
    assert fit.bone_rotations[9][:, 1] @ bone / np.linalg.norm(bone) > 0.99


def test_jacobian_agrees_with_differences(model):
    rng = np.random.default_rng(7)
    seen = see(model, some_angles(model, rng), rng)
    rays, _ = straighten(seen.pixels, CAMERA)
    target = HandFitter(model)._target(rays, seen.world, None)
    pose = Pose(some_angles(model, rng), rng.normal(size=10), np.diag([1.0, -1.0, -1.0]), np.array([0, 0.05, 0.4]))
    jacobian = Misfit(model, pose, target).jacobian()
    wide = np.array([[-9.0, 9.0]] * 22)
    for column in range(jacobian.shape[1]):
        if column == 37:
            continue  # the ray weights follow the distance and count as constant
        step = np.zeros(38)
        step[column] = 1e-6
        ahead, behind = (Misfit(model, pose.moved(sign * step, wide), target).r for sign in (1, -1))
        np.testing.assert_allclose(jacobian[:, column], (ahead - behind) / 2e-6, atol=2e-4)


def test_shape_settles_over_a_track(model):
    rng = np.random.default_rng(8)
    fitter, state, shapes = HandFitter(model), None, []
    angles = some_angles(model, rng)
    for _ in range(25):
        seen = see(model, angles + rng.normal(0, 0.03, 22), np.random.default_rng(9))
        fit = fitter.fit(seen.pixels + rng.normal(0, 1.5, (21, 2)), seen.world, "right", CAMERA, state=state)
        state = fit.state
        shapes.append(fit.shape)
    steps = np.linalg.norm(np.diff(shapes, axis=0), axis=1)
    assert steps[-5:].mean() < 0.4 * steps[:3].mean()
    assert state.frames == 25


def test_a_track_survives_a_sudden_change(model):
    rng = np.random.default_rng(10)
    fitter = HandFitter(model)
    first, second = see(model, some_angles(model, rng), rng), see(model, some_angles(model, rng), rng)
    state = fitter.fit(first.pixels, first.world, "right", CAMERA).state
    fresh = fitter.fit(second.pixels, second.world, "right", CAMERA)
    tracked = fitter.fit(second.pixels, second.world, "right", CAMERA, state=state)
    assert joint_error(tracked.joints_camera, second) < joint_error(fresh.joints_camera, second) + 0.004


def test_refusals(model):
    fitter = HandFitter(model)
    pixels, world = np.zeros((21, 2)), np.zeros((21, 3))
    with pytest.raises(InputError, match="hand side"):
        fitter.fit(pixels, world, "both", CAMERA)
    with pytest.raises(InputError, match="landmarks"):
        fitter.fit(pixels[:20], world, "left", CAMERA)
    with pytest.raises(InputError, match="finite"):
        fitter.fit(pixels * np.nan, world, "left", CAMERA)
