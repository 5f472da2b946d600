"""Reports of whole sequences."""

import numpy as np
import pytest
import trimesh

from hoi_ros.evaluation.poses import align_first_pose
from hoi_ros.evaluation.report import hand_report, markdown_table, pose_report
from hoi_ros.geometry import make_transform, so3_exp

RANDOM = np.random.default_rng(2)
HANDS = RANDOM.normal(size=(5, 21, 3)) * 0.05 + (0, 0, 0.5)
POSES = make_transform(so3_exp(RANDOM.normal(size=(5, 3))), RANDOM.normal(size=(5, 3)))
POINTS = trimesh.creation.box((0.06, 0.08, 0.1)).vertices


def test_hand_report_counts_the_missed():
    found = HANDS + (0.01, 0, 0)
    found[3] = np.nan
    sides = ["left", "left", "right", None, "left"]
    report = hand_report(found, HANDS, sides=sides, truth_sides=["left"] * 5)
    assert report["hands"] == 5 and report["missed"] == 1
    assert report["mpjpe_mm"] == pytest.approx((4 * 10 + 100) / 5) and report["pa_mpjpe_mm"] == pytest.approx(50 / 5)
    assert report["pa_auc_percent"] == pytest.approx(80) and report["distance_median_mm"] == pytest.approx(0, abs=1e-9)
    relative = hand_report(found - 0.5, HANDS, absolute=False)
    assert "mpjpe_mm" not in relative and relative["pa_mpjpe_mm"] == pytest.approx(10)
    flat = hand_report(joints_px=found[..., :2], truth_px=HANDS[..., :2])
    assert flat["missed"] == 1 and flat["hands"] == 5 and "pa_mpjpe_mm" not in flat
    assert report["handedness_percent"] == pytest.approx(60)


def test_pose_report_forgives_the_object_frame_and_nothing_else():
    own_frame = make_transform(so3_exp(np.array([0.5, 1, -0.3])), np.array([0.1, 0.2, 0.3]))
    perfect = pose_report(POSES @ own_frame, POSES, POINTS)
    assert perfect["rotation_max_deg"] < 1e-4 and perfect["add_auc"] == pytest.approx(100)
    drifting = POSES.copy()
    drifting[-1, 0, 3] += 0.05
    drifting[2] = np.nan
    report = pose_report(drifting, POSES, POINTS)
    assert report["missed"] == 1 and report["translation_final_mm"] == pytest.approx(50)
    drifting[-1] = np.nan
    assert pose_report(drifting, POSES, POINTS)["rotation_final_deg"] == 180
    assert report["add_auc"] == pytest.approx((3 + 0.5) / 5 * 100)


def test_first_found_pose_is_the_one_that_is_aligned():
    poses = POSES @ make_transform(np.eye(3), np.array([0.1, 0, 0]))
    poses[0] = np.nan
    np.testing.assert_allclose(align_first_pose(poses, POSES)[1:], POSES[1:], atol=1e-12)
    lost = np.full_like(POSES, np.nan)
    assert np.isnan(align_first_pose(lost, POSES)).all()
    assert pose_report(lost, POSES, POINTS)["add_auc"] == 0


def test_table():
    table = markdown_table([{"name": "a|b", "mm": 1.234}, {"name": "c"}])
    assert table.splitlines() == ["| name | mm |", "|---|---|", "| a\\|b | 1.23 |", "| c | - |"]
    assert markdown_table([]) == ""
