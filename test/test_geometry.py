"""Laws of rigid motion and projection."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hoi_ros.datatypes import CameraIntrinsics
from hoi_ros.geometry import (
    fit_similarity,
    invert_transform,
    make_transform,
    matrix_from_quaternion,
    nearest_rigid,
    pointmap_from_depth,
    project,
    quaternion_from_matrix,
    rotation_angle,
    se3_exp,
    se3_log,
    skew,
    so3_exp,
    so3_log,
    transform_points,
    unproject,
)

CAMERA = CameraIntrinsics(640, 480, 610.0, 605.0, 318.5, 241.0)
BATCHES = [(), (1,), (3, 1, 2)]
DTYPES = [np.float32, np.float64]
ANGLES = [0.0, 1e-12, 1e-7, 9e-5, 1.1e-4, 9e-4, 1.1e-3, 0.5, 2.0, np.pi - 1e-3, np.pi - 1e-6]


def tolerance(dtype) -> float:
    return 3e-6 if dtype == np.float32 else 1e-12


def rotation_vectors(batch, angle, dtype, seed=0) -> np.ndarray:
    axes = np.random.default_rng(seed).standard_normal((*batch, 3))
    return (angle * axes / np.linalg.norm(axes, axis=-1, keepdims=True)).astype(dtype)


def twists(batch, angle, dtype, seed=0) -> np.ndarray:
    rho = np.random.default_rng(seed + 1).uniform(-1, 1, (*batch, 3)).astype(dtype)
    return np.concatenate([rho, rotation_vectors(batch, angle, dtype, seed)], -1)


def test_skew_is_the_cross_product():
    a, b = np.random.default_rng(0).standard_normal((2, 5, 3))
    np.testing.assert_allclose((skew(a) @ b[..., None])[..., 0], np.cross(a, b), atol=1e-15)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("angle", ANGLES)
class TestLogOfExp:
    def test_so3(self, batch, dtype, angle):
        vectors = rotation_vectors(batch, angle, dtype)
        rotations = so3_exp(vectors)
        assert rotations.shape == (*batch, 3, 3) and rotations.dtype == dtype
        back = so3_log(rotations)
        assert back.shape == (*batch, 3) and back.dtype == dtype
        near_pi = max(1.0, 1e-3 / (np.pi - angle)) if dtype == np.float32 else 1.0
        if near_pi < 10:
            np.testing.assert_allclose(back, vectors, atol=tolerance(dtype) * near_pi)
        np.testing.assert_allclose(so3_exp(back), rotations, atol=tolerance(dtype))

    def test_so3_is_a_rotation_and_scipys(self, batch, dtype, angle):
        vectors = rotation_vectors(batch, angle, dtype)
        rotations = so3_exp(vectors)
        eye = np.broadcast_to(np.eye(3), rotations.shape)
        np.testing.assert_allclose(rotations @ np.swapaxes(rotations, -1, -2), eye, atol=tolerance(dtype))
        expected = Rotation.from_rotvec(vectors.reshape(-1, 3).astype(float)).as_matrix()
        np.testing.assert_allclose(rotations.reshape(-1, 3, 3), expected, atol=tolerance(dtype))

    def test_se3(self, batch, dtype, angle):
        vectors = twists(batch, angle, dtype)
        transforms = se3_exp(vectors)
        assert transforms.shape == (*batch, 4, 4) and transforms.dtype == dtype
        back = se3_log(transforms)
        assert back.shape == (*batch, 6) and back.dtype == dtype
        if np.pi - angle > 1e-4 or dtype == np.float64:
            np.testing.assert_allclose(back, vectors, atol=tolerance(dtype) * 3)
        np.testing.assert_allclose(se3_exp(back), transforms, atol=tolerance(dtype) * 3)

    def test_se3_is_the_matrix_exponential(self, batch, dtype, angle):
        from scipy.linalg import expm

        vectors = twists(batch, angle, dtype)
        generator = np.zeros((*batch, 4, 4))
        generator[..., :3, :3] = skew(vectors[..., 3:].astype(float))
        generator[..., :3, 3] = vectors[..., :3]
        np.testing.assert_allclose(se3_exp(vectors), expm(generator), atol=tolerance(dtype))

    def test_angle(self, batch, dtype, angle):
        angles = rotation_angle(so3_exp(rotation_vectors(batch, angle, dtype)))
        assert angles.shape == batch
        np.testing.assert_allclose(angles, angle, atol=tolerance(dtype))

    def test_quaternion(self, batch, dtype, angle):
        rotations = so3_exp(rotation_vectors(batch, angle, dtype))
        quaternions = quaternion_from_matrix(rotations)
        assert quaternions.shape == (*batch, 4) and quaternions.dtype == dtype
        assert (quaternions[..., 3] >= 0).all()
        np.testing.assert_allclose(matrix_from_quaternion(quaternions), rotations, atol=tolerance(dtype))
        expected = Rotation.from_matrix(rotations.reshape(-1, 3, 3).astype(float)).as_quat(canonical=True)
        np.testing.assert_allclose(quaternions.reshape(-1, 4), expected, atol=tolerance(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", np.vstack([np.eye(3), -np.eye(3), [[0.6, 0.8, 0], [0, -0.6, 0.8], [1, 1, 1]]]))
def test_half_turn_is_found_about_any_axis(axis, dtype):
    axis = axis / np.linalg.norm(axis)
    half_turn = (2 * np.outer(axis, axis) - np.eye(3)).astype(dtype)
    back = so3_log(half_turn)
    assert np.linalg.norm(back) == pytest.approx(np.pi, abs=1e-6)
    assert abs(back @ axis) == pytest.approx(np.pi, abs=1e-5)
    np.testing.assert_allclose(so3_exp(back), half_turn, atol=1e-6)


@pytest.mark.parametrize("size", [1e-9, 1e-7, 1e-6, 3e-6, 1e-5])
def test_small_rotations_keep_their_digits(size):
    vectors = np.array([0.3, -0.5, 0.8]) * size
    np.testing.assert_allclose(so3_log(so3_exp(vectors)), vectors, rtol=1e-9)
    small32 = vectors.astype(np.float32)
    np.testing.assert_allclose(so3_log(so3_exp(small32)), small32, rtol=1e-5)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("dtype", DTYPES)
class TestTransforms:
    def test_inverse(self, batch, dtype):
        T_a_b = se3_exp(twists(batch, 1.0, dtype))
        inverse = invert_transform(T_a_b)
        assert inverse.dtype == dtype
        eye = np.broadcast_to(np.eye(4), T_a_b.shape)
        np.testing.assert_allclose(inverse @ T_a_b, eye, atol=tolerance(dtype))
        np.testing.assert_allclose(inverse, np.linalg.inv(T_a_b), atol=tolerance(dtype))
        np.testing.assert_allclose(inverse, se3_exp(-twists(batch, 1.0, dtype)), atol=tolerance(dtype))

    def test_composition(self, batch, dtype):
        T_a_b, T_b_c = se3_exp(twists(batch, 1.0, dtype, 1)), se3_exp(twists(batch, 2.0, dtype, 5))
        points = np.random.default_rng(3).uniform(-1, 1, (*batch, 7, 3)).astype(dtype)
        stepwise = transform_points(T_a_b, transform_points(T_b_c, points))
        assert stepwise.shape == points.shape and stepwise.dtype == dtype
        np.testing.assert_allclose(transform_points(T_a_b @ T_b_c, points), stepwise, atol=3 * tolerance(dtype))

    def test_make_transform_broadcasts(self, batch, dtype):
        out = make_transform(np.eye(3, dtype=dtype), np.ones((*batch, 3), dtype))
        assert out.shape == (*batch, 4, 4) and out.dtype == dtype
        np.testing.assert_array_equal(out[..., 3, :], np.broadcast_to([0, 0, 0, 1], (*batch, 4)))

    def test_unproject_undoes_project(self, batch, dtype):
        rng = np.random.default_rng(0)
        points = np.concatenate([rng.uniform(-0.5, 0.5, (*batch, 9, 2)), rng.uniform(0.2, 3, (*batch, 9, 1))], -1)
        points = points.astype(dtype)
        pixels = project(points, CAMERA)
        assert pixels.shape == (*batch, 9, 2) and pixels.dtype == dtype
        back = unproject(pixels, points[..., 2], CAMERA)
        assert back.dtype == dtype
        np.testing.assert_allclose(back, points, atol=5 * tolerance(dtype))


def test_project_is_the_camera_matrix():
    points = np.random.default_rng(0).uniform([-1, -1, 0.5], [1, 1, 3], (20, 3))
    homogeneous = points @ CAMERA.matrix.T
    np.testing.assert_allclose(project(points, CAMERA), homogeneous[:, :2] / homogeneous[:, 2:], atol=1e-9)


def test_points_not_in_front_project_to_nan():
    pixels = project(np.array([[0.0, 0, -1], [0, 0, 0], [0, 0, 1]]), CAMERA)
    assert np.isnan(pixels[:2]).all()
    np.testing.assert_allclose(pixels[2], [CAMERA.cx, CAMERA.cy])


def test_pointmap_agrees_with_unproject_and_keeps_holes():
    depth = np.random.default_rng(0).uniform(0.3, 2, (480, 640)).astype(np.float32)
    depth[10:20, 30:60] = 0
    pointmap = pointmap_from_depth(depth, CAMERA)
    v, u = np.mgrid[:480, :640]
    np.testing.assert_allclose(pointmap, unproject(np.stack([u, v], -1), depth, CAMERA), atol=1e-6)
    assert pointmap.dtype == np.float32 and not pointmap[10:20, 30:60].any()
    cut = pointmap_from_depth(depth[100:150, 200:300], CAMERA, (200, 100))
    np.testing.assert_allclose(cut, pointmap[100:150, 200:300], atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("with_scale", [True, False])
def test_similarity_recovers_a_known_motion(dtype, with_scale):
    rng = np.random.default_rng(0)
    source = rng.standard_normal((30, 3)).astype(dtype)
    for _ in range(20):
        scale = rng.uniform(0.2, 5) if with_scale else 1.0
        rotation, t = so3_exp(rng.uniform(-2, 2, 3)), rng.uniform(-3, 3, 3)
        target = (scale * source @ rotation.T + t).astype(dtype)
        s, r, back_t = fit_similarity(source, target, with_scale=with_scale)
        assert s == pytest.approx(scale, rel=1e-5)
        np.testing.assert_allclose(r, rotation, atol=1e-5)
        np.testing.assert_allclose(back_t, t, atol=2e-5)


@pytest.mark.parametrize("shape", ["mirrored", "flat", "mirrored flat", "noisy", "line"])
def test_similarity_never_reflects_and_agrees_with_scipy(shape):
    rng = np.random.default_rng(4)
    for _ in range(50):
        source = rng.standard_normal((12, 3))
        if "flat" in shape:
            source[:, 2] = 0
        if shape == "line":
            source[:, 1:] = 0
        mirror = np.diag([1.0, 1, -1]) if "mirrored" in shape else np.eye(3)
        target = source @ mirror @ so3_exp(rng.uniform(-2, 2, 3)).T + 0.3 * rng.standard_normal((12, 3))
        weights = rng.uniform(0.1, 1, 12)
        s, r, t = fit_similarity(source, target, weights)
        assert np.linalg.det(r) == pytest.approx(1.0)
        assert s >= 0
        mean_source, mean_target = (np.average(x, axis=0, weights=weights) for x in (source, target))
        best, _ = Rotation.align_vectors(target - mean_target, source - mean_source, weights)
        if shape != "line":
            np.testing.assert_allclose(r, best.as_matrix(), atol=1e-6)
        cost = weights @ np.square(target - s * source @ r.T - t).sum(1)
        for _ in range(20):
            other_s, other_r = s * rng.uniform(0.99, 1.01), so3_exp(rng.normal(0, 0.01, 3)) @ r
            other_t = mean_target - other_s * other_r @ mean_source
            assert cost <= weights @ np.square(target - other_s * source @ other_r.T - other_t).sum(1) + 1e-12


def test_similarity_ignores_points_without_weight():
    rng = np.random.default_rng(0)
    source = rng.standard_normal((10, 3))
    target = source @ so3_exp(np.array([0.1, 0.2, 0.3])).T + 1
    target[7:] += 100
    weights = np.r_[np.ones(7), np.zeros(3)]
    s, r, t = fit_similarity(source, target, weights)
    np.testing.assert_allclose(s * source[:7] @ r.T + t, target[:7], atol=1e-12)


def test_similarity_of_coinciding_targets_has_scale_zero_and_a_rotation():
    s, r, t = fit_similarity(np.random.default_rng(0).standard_normal((5, 3)), np.ones((5, 3)))
    assert s == pytest.approx(0, abs=1e-12)
    assert np.linalg.det(r) == pytest.approx(1.0)
    np.testing.assert_allclose(t, 1)


@pytest.mark.parametrize(
    ("source", "target", "weights"),
    [
        (np.zeros((4, 3)), np.zeros((5, 3)), None),
        (np.zeros((4, 2)), np.zeros((4, 2)), None),
        (np.eye(3)[:2], np.eye(3)[:2], None),
        (np.ones((4, 3)), np.eye(4)[:, :3], None),
        (np.eye(3), np.eye(3), np.array([1.0, 1.0, 0.0])),
    ],
)
def test_similarity_refuses_what_has_no_answer(source, target, weights):
    with pytest.raises(ValueError, match="fit_similarity"):
        fit_similarity(source, target, weights)


def test_nearest_rigid_undoes_skew_and_keeps_rigid_motions():
    pose = se3_exp(np.array([0.1, 0.2, 0.3, 2.0, -1.0, 0.4]))
    np.testing.assert_allclose(nearest_rigid(pose), pose, atol=1e-12)
    skewed = pose.copy()
    skewed[:3, :3] += 1e-3 * np.arange(9).reshape(3, 3) / 9
    mended = nearest_rigid(skewed)
    np.testing.assert_allclose(mended[:3, :3] @ mended[:3, :3].T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(mended, pose, atol=2e-3)
