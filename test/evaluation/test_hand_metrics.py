"""F-scores, PCK, jitter and flips: laws, and agreement with slow or foreign versions."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hoi_ros.evaluation import metrics as m

RANDOM = np.random.default_rng(11)
HANDS = RANDOM.normal(size=(6, 21, 3)) * 0.05 + (0, 0, 0.5)
NOISY = HANDS + RANDOM.normal(size=HANDS.shape) * 0.01
MIRRORED = HANDS * (-1, 1, 1)


def test_identity_is_perfect():
    np.testing.assert_array_equal(m.mesh_f_scores(HANDS, HANDS, 0.005), 1)
    assert m.pck(HANDS, HANDS, 1e-9) == 1 and m.pck_auc(HANDS, HANDS) == 1
    np.testing.assert_allclose(m.acceleration_errors(HANDS, HANDS, 30.0), 0)
    np.testing.assert_allclose(m.pa_mpvpe(HANDS, HANDS), 0, atol=1e-12)


def test_aligned_vertices_forgive_place_turn_and_size():
    turn = Rotation.random(6, random_state=4).as_matrix()
    moved = 1.4 * HANDS @ np.swapaxes(turn, 1, 2) + RANDOM.normal(size=(6, 1, 3))
    np.testing.assert_allclose(m.pa_mpvpe(moved, HANDS), 0, atol=1e-9)
    assert m.mpjpe(moved, HANDS).min() > 0.1 and m.pa_mpvpe(NOISY, HANDS).min() > 0.001


def test_a_mirrored_hand_is_not_perfect():
    assert m.pa_mpvpe(MIRRORED, HANDS).min() > 0.01
    aligned = m.procrustes_align(MIRRORED, HANDS)
    assert m.mesh_f_scores(aligned, HANDS, 0.005).max() < 0.9
    assert m.pck(aligned, HANDS, 0.01) < 0.9


def test_f_score_agrees_with_brute_force_and_needs_no_order():
    for predicted, truth, score in zip(NOISY, HANDS, m.mesh_f_scores(NOISY, HANDS, 0.015)):
        between = np.linalg.norm(predicted[:, None] - truth[None], axis=2)
        precision, recall = (between.min(1) < 0.015).mean(), (between.min(0) < 0.015).mean()
        assert score == pytest.approx(2 * precision * recall / (precision + recall))
    shuffled = HANDS[:, RANDOM.permutation(21)]
    np.testing.assert_array_equal(m.mesh_f_scores(shuffled, HANDS, 0.005), 1)
    assert m.mpjpe(shuffled, HANDS).min() > 0.005
    assert m.mesh_f_scores(HANDS + 0.02, HANDS, 0.005).max() < 1


def test_pck_agrees_with_counting_and_its_area_with_a_fine_sum():
    distances = np.linalg.norm(NOISY - HANDS, axis=2)
    assert m.pck(NOISY, HANDS, 0.015) == pytest.approx(sum(d < 0.015 for d in distances.ravel()) / distances.size)
    steps = 0.02 + (np.arange(3000) + 0.5) / 3000 * 0.03
    assert m.pck_auc(NOISY, HANDS, 0.02, 0.05) == pytest.approx(
        np.mean([(distances < s).mean() for s in steps]), abs=1e-4
    )
    scale = np.arange(1.0, 7.0)
    scaled = np.mean(distances / scale[:, None] < 0.008)
    assert m.pck(NOISY, HANDS, 0.008, scale) == pytest.approx(scaled) and scaled != m.pck(NOISY, HANDS, 0.008)


def test_missed_hands_and_unknown_joints():
    missed, truth = NOISY.copy(), HANDS.copy()
    missed[1] = np.nan
    assert m.mesh_f_scores(missed, HANDS, 0.05)[1] == 0
    assert m.pck(missed, HANDS, 10.0) == pytest.approx(5 / 6) and m.pck_auc(missed, HANDS, 0, 10) < 5 / 6
    truth[:, 4] = np.nan
    assert m.pck(missed, truth, 10.0) == pytest.approx(5 / 6)
    with pytest.raises(ValueError, match="no joint"):
        m.pck(NOISY, np.full_like(HANDS, np.nan), 0.1)
    with pytest.raises(ValueError, match="enclose"):
        m.pck_auc(NOISY, HANDS, 0.05, 0.05)


def test_jitter_of_a_known_motion():
    time = np.arange(10)[:, None, None] / 30.0
    truth = HANDS[:1] + 0 * time
    pushed = truth + 0.5 * 2.0 * time**2 * np.array([1.0, 0, 0])
    np.testing.assert_allclose(m.acceleration_errors(pushed, truth, 30.0), 2.0, rtol=1e-9)
    steady = truth + 0.7 * time
    np.testing.assert_allclose(m.acceleration_errors(steady, truth, 30.0), 0, atol=1e-9)
    broken = pushed.copy()
    broken[5] = np.nan
    assert list(np.flatnonzero(np.isinf(m.acceleration_errors(broken, truth, 30.0)))) == [3, 4, 5]
    with pytest.raises(ValueError, match="at least 3"):
        m.acceleration_errors(pushed[:2], truth[:2], 30.0)


def test_jitter_forgives_a_constant_offset_and_not_noise():
    np.testing.assert_allclose(m.acceleration_errors(HANDS + 0.3, HANDS, 30.0), 0, atol=1e-9)
    turned = HANDS @ Rotation.from_euler("y", 40, degrees=True).as_matrix().T
    assert m.acceleration_errors(turned, HANDS, 30.0).min() > 1
    assert m.acceleration_errors(NOISY, HANDS, 30.0).min() > 1


def test_flips():
    assert m.handedness_flips([0, 1, 0, 1], ["left", "right", "left", "right"]) == 0
    assert m.handedness_flips([0, 0, 0, 1], ["left", "right", "left", "right"]) == 2
    with pytest.raises(ValueError, match="track ids"):
        m.handedness_flips([0], [])
