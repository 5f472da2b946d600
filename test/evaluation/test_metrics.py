"""Metrics: identity, invariances that hold and that must not, and agreement with other implementations."""

import numpy as np
import pytest
import trimesh
from scipy.spatial import procrustes
from scipy.spatial.transform import Rotation

from hoi_ros.evaluation import metrics as m
from hoi_ros.evaluation.alignment import align_surfaces
from hoi_ros.geometry import make_transform, so3_exp, transform_points

RANDOM = np.random.default_rng(5)
HANDS = RANDOM.normal(size=(8, 21, 3)) * 0.05 + (0, 0, 0.5)
NOISY = HANDS + RANDOM.normal(size=HANDS.shape) * 0.004
ROTATIONS = Rotation.random(8, random_state=1).as_matrix()
MOVED = 1.7 * HANDS @ np.swapaxes(ROTATIONS, 1, 2) + RANDOM.normal(size=(8, 1, 3))
MIRRORED = HANDS * (-1, 1, 1)
POSES = make_transform(ROTATIONS, RANDOM.normal(size=(8, 3)))
BALL = trimesh.creation.icosphere(3, 0.04)


def test_identity_gives_zero():
    for metric in (m.mpjpe, m.root_relative_mpjpe, m.pa_mpjpe, m.pa_mpjpe_reflecting):
        np.testing.assert_allclose(metric(HANDS, HANDS), 0, atol=1e-12)
    for metric in (m.rotation_errors_deg, m.translation_errors):
        np.testing.assert_allclose(metric(POSES, POSES), 0, atol=1e-5)
    assert m.add_errors(POSES, POSES, BALL.vertices).max() == 0
    assert m.add_s_errors(POSES, POSES, BALL.vertices).max() < 1e-12
    assert m.compare_surfaces(BALL.vertices, BALL.vertices).chamfer_mm == 0


def test_invariances():
    np.testing.assert_allclose(m.pa_mpjpe(MOVED, HANDS), 0, atol=1e-9)
    assert m.mpjpe(MOVED, HANDS).min() > 0.1 and m.root_relative_mpjpe(MOVED, HANDS).min() > 0.01
    shifted = HANDS + (0.3, 0, 0)
    np.testing.assert_allclose(m.root_relative_mpjpe(shifted, HANDS), 0, atol=1e-12)
    np.testing.assert_allclose(m.mpjpe(shifted, HANDS), 0.3)
    assert m.root_relative_mpjpe(1.1 * HANDS, HANDS).min() > 0.001


def test_mirrored_hand_is_wrong():
    assert m.pa_mpjpe(MIRRORED, HANDS).min() > 0.01
    np.testing.assert_allclose(m.pa_mpjpe_reflecting(MIRRORED, HANDS), 0, atol=1e-9)


def test_mpjpe_agrees_with_loops():
    brute = [np.mean([np.sqrt(((p - t) ** 2).sum()) for p, t in zip(a, b)]) for a, b in zip(NOISY, HANDS)]
    np.testing.assert_allclose(m.mpjpe(NOISY, HANDS), brute)
    np.testing.assert_allclose(m.mpjpe(NOISY[..., :2], HANDS[..., :2]).shape, (8,))


def test_reflecting_alignment_agrees_with_scipy():
    for a, b, own in zip(NOISY, HANDS, m.procrustes_align(NOISY, HANDS, allow_reflection=True)):
        _, _, disparity = procrustes(b, a)
        centred = b - b.mean(0)
        assert ((own - b) ** 2).sum() / (centred**2).sum() == pytest.approx(disparity, rel=1e-6)


def test_alignment_is_the_best_one():
    best = ((m.procrustes_align(NOISY, HANDS) - HANDS) ** 2).sum()
    for scale, angle in ((1.01, 0.0), (0.99, 0.0), (1.0, 0.02), (1.0, -0.02)):
        aligned = m.procrustes_align(NOISY, HANDS)
        center = HANDS.mean(1, keepdims=True)
        other = scale * (aligned - center) @ so3_exp(np.array([0, angle, 0])) + center
        assert ((other - HANDS) ** 2).sum() > best


def test_missed_frames_count():
    spoiled = NOISY.copy()
    spoiled[2], spoiled[5, 3] = np.nan, np.nan
    for metric in (m.mpjpe, m.root_relative_mpjpe, m.pa_mpjpe):
        errors = metric(spoiled, HANDS)
        assert np.isinf(errors[[2, 5]]).all() and np.isfinite(np.delete(errors, [2, 5])).all()
    summary = m.summarize(m.mpjpe(spoiled, HANDS))
    assert (summary.count, summary.missed) == (6, 2)
    nothing = m.summarize(np.full(3, np.inf), worst=0.2)
    assert (nothing.count, nothing.missed, nothing.median) == (0, 3, 0.2) and nothing.mean == pytest.approx(0.2)
    assert np.isnan(nothing.mean_found) and np.isnan(nothing.maximum_found)
    poses = POSES.copy()
    poses[0] = np.nan
    for errors in (m.add_errors(poses, POSES, BALL.vertices), m.rotation_errors_deg(poses, POSES)):
        assert np.isinf(errors[0]) and np.isfinite(errors[1:]).all()
    assert m.area_under_curve(m.add_errors(poses, POSES, BALL.vertices)) == pytest.approx(87.5)


def test_losing_a_frame_is_never_better_than_finding_it():
    errors = np.array([0.01, 0.02, 0.3])
    whole = m.summarize(errors, worst=0.1)
    for i in range(3):
        lost = errors.copy()
        lost[i] = np.inf
        summary = m.summarize(lost, worst=0.1)
        assert summary.missed == 1 and summary.frames == 3
        assert summary.mean >= whole.mean - 0.2 * (i == 2) and summary.mean >= np.delete(errors, i).mean()
    assert m.summarize(np.array([0.01, np.inf]), worst=0.1).mean == pytest.approx(0.055)
    assert m.summarize(np.array([0.5, np.nan]), worst=0.1).mean == pytest.approx(0.5)
    with pytest.raises(ValueError, match="no frames"):
        m.summarize(np.zeros(0))


def test_joints_without_truth_are_left_out():
    truth = HANDS.copy()
    truth[:, 20] = np.nan
    np.testing.assert_allclose(m.mpjpe(NOISY, truth), m.mpjpe(NOISY[:, :20], HANDS[:, :20]))
    np.testing.assert_allclose(m.pa_mpjpe(NOISY, truth), m.pa_mpjpe(NOISY[:, :20], HANDS[:, :20]))


def test_pose_errors_are_what_was_put_in():
    offset = make_transform(so3_exp(np.array([0, 0, np.radians(7.0)])), np.zeros(3))
    turned = POSES @ offset
    np.testing.assert_allclose(m.rotation_errors_deg(turned, POSES), 7, atol=1e-5)
    np.testing.assert_allclose(m.translation_errors(turned, POSES), 0, atol=1e-12)
    moved = POSES.copy()
    moved[:, 2, 3] += 0.02
    np.testing.assert_allclose(m.add_errors(moved, POSES, BALL.vertices), 0.02)
    assert (m.add_s_errors(moved, POSES, BALL.vertices) < 0.02).all()


def test_add_s_forgives_symmetry_and_add_does_not():
    turned = POSES @ make_transform(so3_exp(np.array([0, 0, np.pi])), np.zeros(3))
    box = trimesh.creation.box((0.06, 0.06, 0.1)).vertices
    assert m.add_s_errors(turned, POSES, box).max() < 1e-9
    assert m.add_errors(turned, POSES, box).min() > 0.05


def test_add_s_agrees_with_brute_force():
    points = BALL.vertices[:60]
    moved = POSES.copy()
    moved[:, :3, 3] += 0.01
    a, b = (points @ p[:3, :3].T + p[:3, 3] for p in (moved[3], POSES[3]))
    brute = np.linalg.norm(b[:, None] - a[None], axis=2).min(1).mean()
    assert m.add_s_errors(moved, POSES, points)[3] == pytest.approx(brute)


def test_area_under_curve_agrees_with_a_fine_sum():
    errors = np.array([0.0, 0.01, 0.05, 0.2, np.inf, np.nan])
    steps = (np.arange(100_000) + 0.5) / 100_000 * 0.1
    brute = 100 * np.mean([(np.nan_to_num(errors, nan=np.inf) < s).mean() for s in steps[::50]])
    assert m.area_under_curve(errors) == pytest.approx(brute, abs=0.05)
    assert m.area_under_curve(np.zeros(4)) == 100 and m.area_under_curve(np.full(4, np.inf)) == 0


def test_surfaces_agree_with_brute_force_and_open3d():
    open3d = pytest.importorskip("open3d")
    a, b = RANDOM.normal(size=(400, 3)) * 0.02, RANDOM.normal(size=(300, 3)) * 0.02
    between = np.linalg.norm(a[:, None] - b[None], axis=2)
    forward, backward = between.min(1), between.min(0)
    found = m.compare_surfaces(a, b)
    assert found.chamfer_mm == pytest.approx((forward.mean() + backward.mean()) / 2 * 1e3)
    assert found.chamfer_cm2 == pytest.approx(((forward * 100) ** 2).mean() + ((backward * 100) ** 2).mean())
    for distance, score in ((0.005, found.f5_percent), (0.010, found.f10_percent)):
        precision, recall = (forward < distance).mean(), (backward < distance).mean()
        assert score == pytest.approx(100 * 2 * precision * recall / (precision + recall))
    assert found.f5_percent < found.f10_percent - 5
    clouds = [open3d.geometry.PointCloud(open3d.utility.Vector3dVector(x)) for x in (a, b)]
    np.testing.assert_allclose(clouds[0].compute_point_cloud_distance(clouds[1]), m.nearest_distances(a, b))


def test_absent_mesh_is_worst():
    assert m.compare_surfaces(np.zeros((0, 3)), BALL.vertices) == m.ABSENT_SURFACE
    absent = m.ABSENT_SURFACE
    assert np.isinf((absent.accuracy_mm, absent.completeness_mm, absent.chamfer_mm, absent.chamfer_cm2)).all()
    assert absent.f5_percent == absent.f10_percent == 0
    with pytest.raises(ValueError, match="true surface"):
        m.compare_surfaces(BALL.vertices, np.zeros((0, 3)))


def test_sampling_is_even_by_area_and_repeats():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [3, 0, 0], [3, 3, 0], [0, 3, 0.0]])
    faces = np.array([[0, 1, 2], [3, 4, 5]])
    points = m.sample_surface(vertices, faces, 20_000, seed=3)
    np.testing.assert_array_equal(points, m.sample_surface(vertices, faces, 20_000, seed=3))
    small = points.sum(1) <= 1 + 1e-9
    assert small.mean() == pytest.approx(0.5 / 5.0, abs=0.01)
    np.testing.assert_allclose(points[small].mean(0), (1 / 3, 1 / 3, 0), atol=0.02)
    assert m.sample_surface(vertices, np.zeros((0, 3), int), 10).shape == (0, 3)


def test_handedness():
    assert m.handedness_accuracy(["left", None, "right", "left"], ["left", "left", "right", "right"]) == 0.5
    with pytest.raises(ValueError, match="handedness"):
        m.handedness_accuracy(["left"], [])


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="shape"):
        m.mpjpe(HANDS[:, :20], HANDS)
    with pytest.raises(ValueError, match="shape"):
        m.pa_mpjpe(HANDS[0], HANDS[0])


def test_icp_recovers_a_known_motion():
    box = trimesh.creation.box((0.05, 0.09, 0.14))
    target = m.sample_surface(box.vertices, box.faces, 8000, seed=1)
    truth = make_transform(so3_exp(np.array([0.04, -0.06, 0.05])), np.array([0.004, -0.003, 0.005]))
    source = transform_points(np.linalg.inv(truth), m.sample_surface(box.vertices, box.faces, 4000, seed=2))
    found = align_surfaces(source, target, np.eye(4))[None]
    assert m.rotation_errors_deg(found, truth[None])[0] < 0.5
    assert m.translation_errors(found, truth[None])[0] < 0.0005
