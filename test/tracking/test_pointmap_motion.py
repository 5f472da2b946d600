"""Motion from exact pointmaps with noise and outliers: laws, accuracy, honest uncertainty, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from hoi_ros.geometry import invert_transform, make_transform, rotation_angle, se3_exp, so3_exp
from hoi_ros.tracking.pointmap_motion import (
    MotionConfig,
    fit_motion,
    fuse_poses,
    similarity,
)

INDEPENDENT = MotionConfig(correlated_points=1.0)


def surface(count: int = 800, seed: int = 0) -> np.ndarray:
    """Points (N, 3) on the near side of an egg 8 cm long, half a metre away."""
    rng = np.random.default_rng([seed, 17])
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    direction[:, 2] = -np.abs(direction[:, 2])
    return direction * [0.03, 0.04, 0.025] + [0.02, -0.01, 0.5]


def motion(seed: int = 0, degrees: float = 40.0) -> np.ndarray:
    rng = np.random.default_rng([seed, 18])
    axis = rng.normal(size=3)
    rotation = so3_exp(np.radians(degrees) * axis / np.linalg.norm(axis))
    return make_transform(rotation, rng.normal(size=3) * 0.1)


def moved(points: np.ndarray, T: np.ndarray, scale: float = 1.0) -> np.ndarray:
    return scale * points @ T[:3, :3].T + T[:3, 3]


def errors(fit, truth: np.ndarray, points: np.ndarray) -> tuple[float, float]:
    """Degrees, and millimetres at the surface's middle."""
    angle = np.degrees(rotation_angle(fit.T_target_source[:3, :3] @ truth[:3, :3].T))
    middle = points.mean(0, keepdims=True)
    return float(angle), float(1e3 * np.linalg.norm(fit.apply(middle) - moved(middle, truth)))


@pytest.mark.parametrize("degrees", [0.0, 1e-4, 30.0, 120.0, 180.0])
@pytest.mark.parametrize("scale", [1.0, 3.7, 0.02])
def test_exact_points_give_the_exact_motion(degrees, scale):
    source, truth = surface(), motion(1, degrees)
    fit = fit_motion(source, moved(source, truth, scale), with_scale=True, config=MotionConfig(sigma=0.003 * scale))
    np.testing.assert_allclose(fit.T_target_source, truth, atol=1e-9)
    assert fit.scale == pytest.approx(scale, rel=1e-9) and fit.inlier_fraction == pytest.approx(1) and fit.converged


def test_there_and_back_and_in_steps_agree():
    a = surface()
    T_ba, T_cb = motion(2), motion(3)
    b, c = moved(a, T_ba), moved(moved(a, T_ba), T_cb)
    forward, back = fit_motion(a, b).T_target_source, fit_motion(b, a).T_target_source
    np.testing.assert_allclose(forward @ back, np.eye(4), atol=1e-9)
    np.testing.assert_allclose(fit_motion(b, c).T_target_source @ forward, fit_motion(a, c).T_target_source, atol=1e-9)


def test_there_and_back_agree_with_outliers_too():
    rng = np.random.default_rng(5)
    a, truth = surface(), motion(2)
    b = moved(a, truth) + rng.normal(size=a.shape) * 0.002
    b[:200] += rng.normal(size=(200, 3)) * 0.05
    product = fit_motion(a, b).T_target_source @ fit_motion(b, a).T_target_source
    assert np.degrees(rotation_angle(product[:3, :3])) < 0.05


def test_a_mirrored_surface_is_never_answered_with_a_reflection():
    source = surface()
    mirrored = source * [-1, 1, 1]
    for with_scale in (False, True):
        rotation, _, scale = similarity(source, mirrored, np.ones(len(source)), with_scale)
        assert np.linalg.det(rotation) == pytest.approx(1, abs=1e-9) and scale > 0
    fit = fit_motion(source, mirrored)
    assert fit.residual > 0.003 or not fit.converged or fit.inlier_fraction < 0.9


def test_flat_surfaces_keep_their_side():
    source = surface()
    source[:, 2] = 0.5
    truth = motion(4, 70)
    fit = fit_motion(source, moved(source, truth))
    np.testing.assert_allclose(fit.T_target_source, truth, atol=1e-9)
    assert fit.converged


@pytest.mark.parametrize(("share", "limit_deg", "limit_mm"), [(0.0, 0.55, 0.35), (0.3, 0.65, 0.4), (0.5, 0.8, 0.5)])
def test_noise_of_3_mm_and_many_outliers_cost_little(share, limit_deg, limit_mm):
    found = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        source, truth = surface(seed=seed), motion(seed, 60)
        target = moved(source, truth) + rng.normal(size=source.shape) * 0.003
        wrong = rng.random(len(source)) < share
        target[wrong] = moved(source, truth)[wrong] + rng.uniform(-0.12, 0.12, (int(wrong.sum()), 3))
        fit = fit_motion(source, target)
        assert fit.converged
        assert fit.inlier_fraction == pytest.approx(1 - share, abs=0.12)
        found.append(errors(fit, truth, source))
    degrees, millimetres = np.median(found, axis=0)
    assert degrees < limit_deg and millimetres < limit_mm


def test_outliers_that_agree_with_each_other_lose_to_the_majority():
    rng = np.random.default_rng(0)
    source, truth, other = surface(), motion(1, 30), motion(2, 80)
    target = moved(source, truth) + rng.normal(size=source.shape) * 0.002
    target[:300] = moved(source, other)[:300]
    assert errors(fit_motion(source, target), truth, source)[0] < 0.5


def test_least_squares_alone_would_fail_where_the_robust_fit_does_not():
    rng = np.random.default_rng(3)
    source, truth = surface(), motion(1, 30)
    target = moved(source, truth)
    target[:240] += [0.1, 0.05, 0] + rng.normal(size=(240, 3)) * 0.01
    rotation, translation, _ = similarity(source, target, np.ones(len(source)), False)
    plain = np.linalg.norm(source @ rotation.T + translation - moved(source, truth), axis=1).mean()
    assert plain > 0.02
    assert errors(fit_motion(source, target), truth, source)[1] < 0.5


def test_weights_speak():
    source, truth = surface(), motion(1)
    target = moved(source, truth)
    target[:600] = moved(source, motion(9))[:600]
    weights = np.where(np.arange(len(source)) < 600, 0.0, 1.0)
    np.testing.assert_allclose(fit_motion(source, target, weights).T_target_source, truth, atol=1e-9)


def test_the_stated_uncertainty_is_the_one_found():
    normalised = []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        source, truth = surface(200, seed), motion(seed, 50)
        target = moved(source, truth, 1.3) + rng.normal(size=source.shape) * 0.002
        fit = fit_motion(source, target, with_scale=True, config=INDEPENDENT)
        turn = rotation_angle_vector(fit.T_target_source[:3, :3] @ truth[:3, :3].T)
        middle = source.mean(0, keepdims=True)
        shift = (fit.apply(middle) - moved(middle, truth, 1.3))[0]
        error = np.concatenate([shift, turn, [np.log(fit.scale / 1.3)]])
        normalised.append(error @ np.linalg.solve(fit.covariance, error))
    assert 5.5 < np.mean(normalised) < 9.0  # chi squared of 7 degrees of freedom


def rotation_angle_vector(rotation: np.ndarray) -> np.ndarray:
    from hoi_ros.geometry import so3_log

    return so3_log(rotation)


def test_a_ball_of_one_colour_is_well_placed_but_a_line_is_not_believed():
    source = np.zeros((50, 3))
    source[:, 0] = np.linspace(-0.05, 0.05, 50)
    fit = fit_motion(source, moved(source, motion(1)))
    assert not fit.converged


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_points_are_no_motion(count):
    fit = fit_motion(np.zeros((count, 3)), np.zeros((count, 3)))
    assert not fit.converged and np.isnan(fit.T_target_source).all()


def test_nothing_in_common_is_not_believed():
    rng = np.random.default_rng(0)
    assert not fit_motion(surface(), rng.uniform(-1, 1, (800, 3))).converged


def test_rows_that_are_not_numbers_are_left_out():
    source, truth = surface(), motion(1)
    target = moved(source, truth)
    target[::3] = np.nan
    np.testing.assert_allclose(fit_motion(source, target).T_target_source, truth, atol=1e-9)


def test_wrong_shapes_and_weights_are_refused():
    points = surface(10)
    with pytest.raises(ValueError, match="need one shape"):
        fit_motion(points, points[:5])
    with pytest.raises(ValueError, match="weights"):
        fit_motion(points, points, np.full(10, -1.0))
    with pytest.raises(ValueError, match="no estimates"):
        fuse_poses([], [])


def test_poses_fuse_by_what_they_know_and_a_wrong_one_is_outvoted():
    truth = motion(0)
    good = np.diag([1e6, 1e6, 1e6, 1e4, 1e4, 1e4])
    rng = np.random.default_rng(1)
    poses = [truth @ se3_exp(rng.normal(size=6) * ([1e-3] * 3 + [1e-2] * 3)) for _ in range(4)]
    wrong = truth @ se3_exp(np.array([0.1, 0, 0, 0, 0.6, 0]))
    fused, information, weights = fuse_poses([wrong, *poses], [good] * 5)
    assert weights[0] < 0.01 and (weights[1:] > 0.5).all()
    assert np.degrees(rotation_angle(fused[:3, :3] @ truth[:3, :3].T)) < 1.0
    assert information[0, 0] > 2e6
    sure, _, _ = fuse_poses([poses[0], poses[1]], [good * 1e4, good * 1e-4])
    np.testing.assert_allclose(sure, poses[0], atol=1e-5)


def test_fits_are_the_same_every_time():
    rng = np.random.default_rng(0)
    source = surface()
    target = moved(source, motion(1)) + rng.normal(size=source.shape) * 0.003
    assert (fit_motion(source, target).T_target_source == fit_motion(source, target).T_target_source).all()
    assert (invert_transform(motion(1)) @ motion(1))[0, 0] == pytest.approx(1)
