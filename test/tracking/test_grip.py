"""A grip is known once frames agree, and no longer when the hand, its fingers or the object say otherwise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scenes

from hoi_ros.geometry import rotation_angle
from hoi_ros.tracking.grip import SURE_FRAMES, Grip


def learnt(frames: int = SURE_FRAMES, track_id: int = 0) -> Grip:
    """A grip of an object 3 cm beside the hand's origin, seen while the hand turns and moves."""
    grip = Grip()
    for index in range(frames):
        at = scenes.pose((0, 5 * index, 0), (0.01 * index, 0, 0.5))
        grip.learn(scenes.hand(at, track_id)[0], at @ scenes.pose((0, 0, 20), (0.03, 0, 0)))
    return grip


AWAY = scenes.pose((40, 30, -20), (0.1, 0.05, 0.6))


def test_the_object_goes_where_the_hand_goes():
    found = learnt().pose([scenes.hand(AWAY)[0]])
    true = AWAY @ scenes.pose((0, 0, 20), (0.03, 0, 0))
    assert found is not None and np.allclose(found, true, atol=1e-6)


def test_few_frames_are_not_enough():
    assert learnt(SURE_FRAMES - 1).pose([scenes.hand(AWAY)[0]]) is None


def test_another_hand_does_not_hold_it():
    assert learnt(track_id=3).pose([scenes.hand(AWAY, 4)[0]]) is None
    assert learnt(track_id=3).pose([]) is None


def test_fingers_that_moved_hold_it_no_longer():
    estimate = scenes.hand(AWAY)[0]
    spread = estimate.joints_camera + np.float32(0.03) * (np.arange(21) > 4)[:, None].astype(np.float32)
    assert learnt().pose([replace(estimate, joints_camera=spread)]) is None


def test_whose_poses_waver_more_is_believed_within_more():
    slipped = AWAY @ scenes.pose((0, 0, 20), (0.05, 0, 0))
    for same_m, known in ((0.015, False), (0.03, True)):
        grip = Grip(same_m, np.radians(25.0))
        for index in range(SURE_FRAMES):
            at = scenes.pose((0, 5 * index, 0), (0.01 * index, 0, 0.5))
            grip.learn(scenes.hand(at)[0], at @ scenes.pose((0, 0, 20), (0.03, 0, 0)))
        grip.learn(scenes.hand(AWAY)[0], slipped)
        assert (grip.pose([scenes.hand(AWAY)[0]]) is not None) == known


def test_what_slips_is_learnt_anew():
    grip, hand = learnt(), scenes.hand(AWAY)[0]
    slipped = AWAY @ scenes.pose((0, 0, 60), (0.03, 0, 0))
    grip.learn(hand, slipped)
    assert grip.pose([hand]) is None
    for _ in range(SURE_FRAMES - 1):
        grip.learn(hand, slipped)
    found = grip.pose([hand])
    assert found is not None and rotation_angle(found[:3, :3].T @ slipped[:3, :3]) < 1e-6


def test_a_few_frames_far_off_are_not_a_slip_to_the_patient_unless_fingers_move():
    hand, true = scenes.hand(AWAY)[0], AWAY @ scenes.pose((0, 0, 20), (0.03, 0, 0))
    spread = hand.joints_camera + np.float32(0.03) * (np.arange(21) > 4)[:, None].astype(np.float32)
    for frames, fingers, known in ((1, hand, True), (3, hand, True), (4, hand, False), (1, None, False)):
        grip = Grip(patience=3)
        for index in range(SURE_FRAMES):
            at = scenes.pose((0, 5 * index, 0), (0.01 * index, 0, 0.5))
            grip.learn(scenes.hand(at)[0], at @ scenes.pose((0, 0, 20), (0.03, 0, 0)))
        for _ in range(frames):
            grip.learn(fingers or replace(hand, joints_camera=spread), AWAY @ scenes.pose((0, 0, 60), (0.03, 0, 0)))
        found = grip.pose([hand])
        assert (found is not None) == known
        assert found is None or np.allclose(found, true, atol=1e-6)


def test_a_corrected_object_frame_is_taken_over():
    grip, hand, change = learnt(), scenes.hand(AWAY)[0], scenes.pose((0, 3, 0), (0.002, 0, 0))
    before = grip.pose([hand])
    grip.correct(change)
    assert np.allclose(grip.pose([hand]), before @ change)


def test_a_hand_that_lets_go_is_forgotten():
    grip = learnt()
    grip.learn(None, np.eye(4))
    assert grip.pose([scenes.hand(AWAY)[0]]) is None
