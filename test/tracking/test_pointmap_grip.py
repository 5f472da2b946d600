"""Where the hand carries what colour alone follows: its frame, and the tracked pose averaged with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scenes
from pytest import approx

from hoi_ros.geometry import make_transform, rotation_angle, so3_exp, transform_points
from hoi_ros.tracking.pointmap_grip import APART_RAD, SHARE, GraspFrames, RigidGrip

MIDDLE = np.array([0.01, -0.02, 0.03])
START = make_transform(so3_exp(np.array([0.2, 0.1, -0.3])), np.array([0.05, 0.0, 0.6]))
HAND = make_transform(so3_exp(np.array([-0.4, 0.3, 0.1])), np.array([0.02, 0.08, 0.55]))


def moved(pose, turn, shift):
    return make_transform(so3_exp(np.array(turn)), np.array(shift)) @ pose


def turn_between(first, second):
    return float(rotation_angle(first[:3, :3] @ second[:3, :3].T))


def test_as_tracked_while_hand_and_object_move_as_one():
    grip = RigidGrip()
    for turn, shift in (((0, 0, 0), (0, 0, 0)), ((0.5, -0.2, 0.1), (0.02, 0.01, -0.05))):
        pose = moved(START, turn, shift)
        found = grip.averaged(pose, MIDDLE, [scenes.hand(moved(HAND, turn, shift), 3)[0]], 3)
        assert np.allclose(found, pose, atol=1e-9)


def test_on_the_way_to_where_the_hand_would_have_carried_it():
    grip = RigidGrip()
    grip.averaged(START, MIDDLE, [scenes.hand(HAND, 3)[0]], 3)
    tracked, carried = moved(START, (0.4, 0, 0), (0, 0, 0.02)), moved(START, (0, 0, 0), (0, 0, 0.04))
    found = grip.averaged(tracked, MIDDLE, [scenes.hand(moved(HAND, (0, 0, 0), (0, 0, 0.04)), 3)[0]], 3)
    assert turn_between(found, tracked) == approx(0.4 * SHARE)
    assert turn_between(found, carried) == approx(0.4 * (1 - SHARE))
    middles = [transform_points(pose, MIDDLE[None])[0] for pose in (found, tracked, carried)]
    assert np.allclose(middles[0], middles[1] + SHARE * (middles[2] - middles[1]))


def test_what_fingers_turn_is_left_as_tracked():
    grip = RigidGrip()
    grip.averaged(START, MIDDLE, [scenes.hand(HAND, 3)[0]], 3)
    tracked = moved(START, (0, APART_RAD + 0.01, 0), (0.01, 0, 0))
    assert np.allclose(grip.averaged(tracked, MIDDLE, [scenes.hand(HAND, 3)[0]], 3), tracked)


def test_a_new_holder_holds_it_as_it_is_tracked_then():
    grip = RigidGrip()
    grip.averaged(START, MIDDLE, [scenes.hand(HAND, 3)[0]], 3)
    tracked = moved(START, (0.4, 0, 0), (0, 0.03, 0))
    other = scenes.hand(moved(HAND, (0, 0, 1.0), (0.1, 0, 0)), 4)[0]
    assert np.allclose(grip.averaged(tracked, MIDDLE, [scenes.hand(HAND, 3)[0], other], 4), tracked)


def test_without_the_hand_as_tracked():
    grip = RigidGrip()
    grip.averaged(START, MIDDLE, [scenes.hand(HAND, 3)[0]], 3)
    tracked = moved(START, (0.4, 0, 0), (0, 0.03, 0))
    found = grip.averaged(tracked, MIDDLE, [], 3)
    assert np.allclose(found, tracked) and found is not tracked


def with_fingers_turned(hand, turn, share):
    """The wrist stays; each joint goes `share` of the way to where a turn about the joints' middle would take it."""
    middle = hand.joints_camera.mean(0)
    away = (hand.joints_camera - middle) @ so3_exp(np.array(turn)).T + middle - hand.joints_camera
    away[0] = 0
    return replace(hand, joints_camera=hand.joints_camera + share * away)


def test_a_hand_that_keeps_its_shape_moves_as_its_wrist():
    frames = GraspFrames()
    for turn, shift in (((0, 0, 0), (0, 0, 0)), ((0.9, -0.4, 0.2), (0.1, 0.02, 0.3))):
        hand = scenes.hand(moved(HAND, turn, shift), 3)[0]
        (found,) = frames.of([hand], holding=True)
        assert np.allclose(found.T_camera_wrist, hand.T_camera_wrist, atol=1e-6)
        assert found.joints_camera is hand.joints_camera and hand.T_camera_wrist is not found.T_camera_wrist


def test_a_grasp_turns_with_its_fingers_where_the_wrist_stays():
    frames, hand = GraspFrames(), scenes.hand(HAND, 3)[0]
    (before,) = frames.of([hand], holding=True)
    (after,) = frames.of([with_fingers_turned(hand, (0, 0.3, 0), 1.0)], holding=True)
    turn = so3_exp(np.array((0, 0.3, 0)))
    assert turn_between(after.T_camera_wrist, before.T_camera_wrist) > 0.2
    assert turn_between(turn @ before.T_camera_wrist[:3, :3], after.T_camera_wrist) < 0.1


def test_the_shape_of_a_grasp_begins_with_it_and_each_hand_has_its_own():
    frames, hand = GraspFrames(), scenes.hand(HAND, 3)[0]
    frames.of([hand], holding=False)
    closed = with_fingers_turned(hand, (0, 0.3, 0), 1.0)
    (free,) = frames.of([closed], holding=False)
    assert np.allclose(free.T_camera_wrist, hand.T_camera_wrist, atol=1e-6)
    other = replace(hand, track_id=4)
    first, second = frames.of([closed, other], holding=True)
    for found in (first, second):
        assert np.allclose(found.T_camera_wrist, hand.T_camera_wrist, atol=1e-6)


def test_hands_that_come_and_go_do_not_pile_up_nor_push_out_the_one_that_stays():
    frames, hand = GraspFrames(), scenes.hand(HAND, 3)[0]
    frames.of([hand], holding=True)
    closed = with_fingers_turned(hand, (0, 0.3, 0), 1.0)
    for track_id in range(10, 50):
        stays, _ = frames.of([closed, replace(hand, track_id=track_id)], holding=True)
    assert len(frames._joints) < 10
    assert turn_between(stays.T_camera_wrist, hand.T_camera_wrist) > 0.2
