"""ATE, RPE and relative errors of object motion."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hoi_ros.evaluation import metrics as m
from hoi_ros.geometry import fit_similarity, make_transform, so3_exp

RANDOM = np.random.default_rng(3)
TRUTH = make_transform(so3_exp(RANDOM.normal(size=(12, 3))), RANDOM.normal(size=(12, 3)) * 0.3)
OTHER_WORLD = make_transform(Rotation.random(random_state=2).as_matrix(), np.array([0.4, -1, 2]))
NOISY = TRUTH @ make_transform(so3_exp(RANDOM.normal(size=(12, 3)) * 0.02), RANDOM.normal(size=(12, 3)) * 0.01)


def scaled(poses: np.ndarray, factor: float) -> np.ndarray:
    """Poses with all positions multiplied."""
    out = poses.copy()
    out[:, :3, 3] *= factor
    return out


def test_identity_gives_zero():
    for alignment in ("none", "se3", "sim3"):
        errors = m.absolute_trajectory_errors(TRUTH, TRUTH, alignment)
        assert errors.rmse < 1e-9 and errors.rotation_deg.max() < 1e-4 and errors.missed == 0
        assert m.relative_trajectory_errors(TRUTH, TRUTH, 2, alignment).rmse < 1e-9
    rotation, translation = m.relative_errors(TRUTH, TRUTH)
    assert rotation.max() < 1e-4 and translation.max() < 1e-9


def test_each_alignment_forgives_what_it_should_and_no_more():
    moved = OTHER_WORLD @ TRUTH
    assert m.absolute_trajectory_errors(moved, TRUTH, "none").rmse > 1
    assert m.absolute_trajectory_errors(moved, TRUTH, "se3").rmse < 1e-9
    assert m.absolute_trajectory_errors(moved, TRUTH, "se3").rotation_deg.max() < 1e-4
    bigger = scaled(moved, 1.3)
    assert m.absolute_trajectory_errors(bigger, TRUTH, "se3").rmse > 0.05
    forgiven = m.absolute_trajectory_errors(bigger, TRUTH, "sim3")
    assert forgiven.rmse < 1e-9 and forgiven.scale == pytest.approx(1 / 1.3)
    mirrored = TRUTH.copy()
    mirrored[:, 0, 3] *= -1
    assert m.absolute_trajectory_errors(mirrored, TRUTH, "sim3").rmse > 0.05
    with pytest.raises(ValueError, match="alignment"):
        m.absolute_trajectory_errors(TRUTH, TRUTH, "so3")


def test_ate_agrees_with_the_textbook():
    scale, rotation, offset = fit_similarity(NOISY[:, :3, 3], TRUTH[:, :3, 3], with_scale=False)
    squares = [((scale * rotation @ p + offset - t) ** 2).sum() for p, t in zip(NOISY[:, :3, 3], TRUTH[:, :3, 3])]
    assert m.absolute_trajectory_errors(NOISY, TRUTH, "se3").rmse == pytest.approx(np.sqrt(np.mean(squares)))
    found, _ = Rotation.align_vectors(
        TRUTH[:, :3, 3] - TRUTH[:, :3, 3].mean(0), NOISY[:, :3, 3] - NOISY[:, :3, 3].mean(0)
    )
    np.testing.assert_allclose(found.as_matrix(), rotation, atol=1e-9)


def test_rpe_agrees_with_loops_and_ignores_the_world():
    step, brute = 3, []
    for i in range(len(TRUTH) - step):
        motion = np.linalg.inv(NOISY[i]) @ NOISY[i + step]
        true_motion = np.linalg.inv(TRUTH[i]) @ TRUTH[i + step]
        brute.append(np.linalg.norm((np.linalg.inv(true_motion) @ motion)[:3, 3]))
    errors = m.relative_trajectory_errors(NOISY, TRUTH, step)
    np.testing.assert_allclose(errors.translation, brute)
    np.testing.assert_allclose(m.relative_trajectory_errors(OTHER_WORLD @ NOISY, TRUTH, step).translation, brute)
    assert m.relative_trajectory_errors(scaled(TRUTH, 1.3), TRUTH, step).rmse > 0.05
    assert m.relative_trajectory_errors(scaled(TRUTH, 1.3), TRUTH, step, "sim3").rmse < 1e-9
    with pytest.raises(ValueError, match="over 12 frames"):
        m.relative_trajectory_errors(NOISY, TRUTH, 12)


def test_lost_frames_count_and_do_not_disturb_the_others():
    lost = NOISY.copy()
    lost[4] = np.nan
    errors = m.absolute_trajectory_errors(lost, TRUTH)
    assert errors.missed == 1 and np.isinf(errors.translation[4]) and errors.rmse_found < 0.05
    squares = np.append(np.delete(errors.translation, 4) ** 2, 0.1**2)
    assert errors.rmse == pytest.approx(np.sqrt(squares.mean())), "a lost frame is 10 cm off"
    assert m.relative_trajectory_errors(lost, TRUTH, 1).missed == 2
    rotation, translation = m.relative_errors(lost, TRUTH, steps=(1,))
    assert list(np.flatnonzero(np.isinf(rotation))) == [3, 4] and np.isinf(translation[[3, 4]]).all()
    nothing = m.absolute_trajectory_errors(np.full_like(TRUTH, np.nan), TRUTH, "none")
    assert nothing.rmse == pytest.approx(0.1) and np.isnan(nothing.rmse_found) and nothing.missed == 12
    half = TRUTH.copy()
    half[6:] = np.nan
    assert m.absolute_trajectory_errors(half, TRUTH).rmse == pytest.approx(0.1 * np.sqrt(0.5))


def test_losing_a_frame_is_never_better_than_finding_it_badly():
    bad = TRUTH.copy()
    bad[7, 0, 3] += 0.8
    bad[8, 0, 3] += 0.7
    lost = bad.copy()
    lost[8] = np.nan
    for errors in (lambda poses: m.absolute_trajectory_errors(poses, TRUTH, "none"),
                   lambda poses: m.relative_trajectory_errors(poses, TRUTH, 2)):  # fmt: skip
        assert errors(lost).rmse > errors(bad).rmse > errors(TRUTH).rmse


def test_relative_errors_ignore_the_object_frame_and_see_a_turn():
    own_frame = make_transform(so3_exp(np.array([0.5, 1, -0.3])), np.array([0.1, 0.2, 0.3]))
    rotation, translation = m.relative_errors(TRUTH @ own_frame, TRUTH)
    assert rotation.max() < 1e-4 and translation.max() < 1e-9
    turned = TRUTH.copy()
    turned[6:, :3, :3] = turned[6:, :3, :3] @ so3_exp(np.array([0, 0, np.radians(20)]))
    rotation, translation = m.relative_errors(turned @ own_frame, TRUTH)
    np.testing.assert_allclose(rotation, np.r_[np.zeros(5), np.full(6, 20)], atol=1e-4)
    assert translation.max() < 1e-9
    drift, _ = m.relative_errors(turned, TRUTH, steps=(1,))
    np.testing.assert_allclose(drift, np.eye(11)[5] * 20, atol=1e-4)
    with pytest.raises(ValueError, match="no pair"):
        m.relative_errors(TRUTH[:1], TRUTH[:1])
