"""Reports of whole sequences."""

import re
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import trimesh

from hoi_ros.evaluation.poses import align_first_pose
from hoi_ros.evaluation.report import hand_report, markdown_table, mesh_report, pose_report
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
    assert pose_report(drifting, POSES, POINTS)["translation_final_mm"] == 100
    assert report["add_auc"] == pytest.approx((3 + 0.5) / 5 * 100)


def test_a_lost_last_frame_is_no_better_than_a_bad_one():
    drifting = POSES.copy()
    drifting[-2:, 0, 3] += (0.4, 0.42)
    found = pose_report(drifting, POSES, POINTS)["translation_final_mm"]
    drifting[-1] = np.nan
    lost = pose_report(drifting, POSES, POINTS)
    assert found == pytest.approx(420) and lost["translation_final_mm"] == pytest.approx(400)
    assert lost["translation_final_mm"] >= lost["translation_max_mm"]


def test_ate_of_a_film_counts_what_is_lost():
    own_frame = make_transform(so3_exp(np.array([0.5, 1, -0.3])), np.array([0.1, 0.2, 0.3]))
    assert pose_report(POSES @ own_frame, POSES, POINTS)["ate_mm"] < 1e-6
    shifted = POSES.copy()
    shifted[1:, 0, 3] += 0.1
    assert pose_report(shifted, POSES, POINTS)["ate_mm"] < 41, "one rigid motion is forgiven: 40 mm are left of 100"
    lost = POSES.copy()
    lost[1] = np.nan
    assert pose_report(lost, POSES, POINTS)["ate_mm"] == pytest.approx(100 * np.sqrt(1 / 5))
    drifting = POSES.copy()
    drifting[:, 0, 3] += np.linspace(0, 0.1, 5)
    assert 1 < pose_report(drifting, POSES, POINTS)["ate_mm"] < 50
    for few in (1, 2):
        lost[few:] = np.nan
        lost[:few] = POSES[:few]
        figures = pose_report(lost, POSES, POINTS)
        assert figures["ate_mm"] == pytest.approx(100 * np.sqrt((5 - few) / 5)), "too few to be moved: as they lie"
    still = np.repeat(POSES[:1], 5, 0)
    assert pose_report(still, still, POINTS)["ate_mm"] == pytest.approx(0, abs=1e-9)
    assert pose_report(np.full_like(POSES, np.nan), POSES, POINTS)["ate_mm"] == pytest.approx(100)


def test_a_missed_hand_is_off_by_its_own_longer_side_in_the_picture():
    truth = np.zeros((3, 21, 2))
    truth[:, 0], truth[0, 1], truth[1, 1], truth[2, 1] = 50, (80, 60), (150, 90), (450, 90)
    found = truth + (3, 0)
    found[2] = np.nan
    assert hand_report(joints_px=found, truth_px=truth)["error_2d_px"] == pytest.approx((3 + 3 + 450) / 3)
    found[:2] += (900, 0)
    assert hand_report(joints_px=found, truth_px=truth)["error_2d_px"] == pytest.approx(903), "the largest error found"


def test_vertices_are_judged_after_the_alignment():
    truth = RANDOM.normal(size=(5, 60, 3)) * 0.05 + (0, 0, 0.5)
    found = 1.1 * truth + (0.3, 0, 0) + RANDOM.normal(size=truth.shape) * 0.0005
    found[3] = np.nan
    report = mesh_report(found, truth)
    assert report["pa_mpvpe_mm"] == pytest.approx((4 * 0.7 + 50) / 5, abs=0.2)
    assert report["pa_f5_percent"] == report["pa_f15_percent"] == pytest.approx(80)
    blurred = mesh_report(truth + RANDOM.normal(size=truth.shape) * 0.005, truth)
    assert 20 < blurred["pa_f5_percent"] < blurred["pa_f15_percent"] < 100.1
    mirrored = mesh_report(truth * (-1, 1, 1), truth)
    assert mirrored["pa_mpvpe_mm"] > 10 and mirrored["pa_f5_percent"] < 50


def test_first_found_pose_is_the_one_that_is_aligned():
    poses = POSES @ make_transform(np.eye(3), np.array([0.1, 0, 0]))
    poses[0] = np.nan
    np.testing.assert_allclose(align_first_pose(poses, POSES)[1:], POSES[1:], atol=1e-12)
    lost = np.full_like(POSES, np.nan)
    assert np.isnan(align_first_pose(lost, POSES)).all()
    assert pose_report(lost, POSES, POINTS)["add_auc"] == 0


def test_every_figure_is_explained():
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    explained = re.findall(r"`([\w.*]+)`", page)
    pixels = HANDS[..., :2]
    figures = {
        **hand_report(HANDS, HANDS, joints_px=pixels, truth_px=pixels, sides=["left"], truth_sides=["left"]),
        **mesh_report(HANDS, HANDS), **pose_report(POSES, POSES, POINTS),
    }  # fmt: skip
    unexplained = [name for name in figures if not any(fnmatch(name, pattern) for pattern in explained)]
    assert unexplained == ["hands", "frames"], "what these two count is plain"


def test_table():
    table = markdown_table([{"name": "a|b", "mm": 1.234}, {"name": "c"}])
    assert table.splitlines() == ["| name | mm |", "|---|---|", "| a\\|b | 1.23 |", "| c | - |"]
    assert markdown_table([]) == ""
