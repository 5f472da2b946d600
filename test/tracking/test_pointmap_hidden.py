"""A thing that colour alone follows and its hand then hides: carried while the fingers keep still, else lost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pytest import approx
from scenes import CAMERA, box_layer, frame, hand, pose

from hoi_ros.geometry import invert_transform, make_transform, so3_exp
from hoi_ros.tracking.grip import CARRY_FRAMES, SURE_FRAMES
from hoi_ros.tracking.pointmap_config import ColorTrackerConfig
from hoi_ros.tracking.pointmap_object import COVERED_SHARE, HIDDEN, FollowedObject
from hoi_ros.tracking.pointmap_points import pose_covariance
from hoi_ros.tracking.pointmap_tracker import ColorTracker

LARGE = (0.055, 0.06, 0.03)
REST = pose((10, 20, 0), (0, -0.02, 0.42))


def held(frames: int = SURE_FRAMES) -> tuple[FollowedObject, np.ndarray]:
    """A thing that a resting hand has held for so many frames, and its pose."""
    track, (estimate, _) = FollowedObject(0, REST), hand(REST)
    for _ in range(frames):
        track.hold.learn(estimate, REST)
    track.holder, track.starved = 0, 1
    track.points = np.zeros((40, 3))
    return track, REST


def opened(estimate):
    """The same hand with all joints but the wrist three centimetres on."""
    joints = estimate.joints_camera.copy()
    joints[1:] += [0, 0.03, 0]
    return replace(estimate, joints_camera=joints)


def test_it_goes_where_still_fingers_take_it():
    track, at_rest = held()
    moved = pose((0, 50, 10), (0.1, 0.02, 0.5))
    estimate, _ = hand(moved)
    assert np.allclose(track.held_still([estimate]), moved @ invert_transform(REST) @ at_rest, atol=1e-6)


def test_fingers_that_move_another_hand_or_a_long_time_say_nothing():
    track, _ = held()
    estimate, _ = hand(REST)
    assert track.held_still([estimate]) is not None
    assert track.held_still([opened(estimate)]) is None
    assert track.held_still([replace(estimate, track_id=7)]) is None and track.held_still([]) is None
    track.starved = CARRY_FRAMES + 1
    assert track.held_still([estimate]) is None
    assert held(SURE_FRAMES - 1)[0].held_still([estimate]) is None


def test_most_of_its_points_must_lie_in_the_hand():
    track, at_rest = held()
    middle = np.rint(at_rest[:2, 3] / at_rest[2, 3] * [CAMERA.fx, CAMERA.fy] + [CAMERA.cx, CAMERA.cy]).astype(int)
    mask = np.zeros((CAMERA.height, CAMERA.width), bool)
    assert not track.lies_in(mask, at_rest, CAMERA)
    mask[middle[1] - 3 : middle[1] + 4, middle[0] - 3 : middle[0] + 4] = True
    assert track.lies_in(mask, at_rest, CAMERA)
    away = round(40 * (1 - COVERED_SHARE)) + 1
    track.points[:away] = [0.1, 0, 0]
    assert not track.lies_in(mask, at_rest, CAMERA)
    track.points = np.zeros((0, 3))
    assert not track.lies_in(mask, at_rest, CAMERA)


def test_being_carried_unseen_makes_the_turn_less_sure():
    track, at_rest = held()
    before = pose_covariance(track)[3, 3]
    for _ in range(10):
        track.carry(at_rest, [hand(REST)[0]])
    assert pose_covariance(track)[3, 3] > before and not track.alive.any()
    assert track.pose == approx(at_rest) and track.motion == approx(np.eye(4))


def test_a_turn_beyond_the_hands_is_less_sure():
    """Fingers may have made it, or following may have gone astray."""
    track, at_rest = held()
    held_by, sure = hand(REST)[0], pose_covariance(track)[3, 3]
    track.grip.averaged(at_rest, track.middle, [held_by], held_by.track_id)
    assert pose_covariance(track)[3, 3] == approx(sure)
    track.grip.averaged(at_rest @ make_transform(so3_exp(np.array([0, 1.2, 0])), np.zeros(3)), track.middle, [held_by],
                        held_by.track_id)  # fmt: skip
    assert np.sqrt(pose_covariance(track)[3, 3]) > 0.4
    track.grip.averaged(at_rest, track.middle, [held_by], held_by.track_id)
    assert pose_covariance(track)[3, 3] == approx(sure)


def test_a_thing_behind_its_hand_is_carried_and_one_that_shows_nothing_in_the_open_is_lost(monkeypatch):
    """The same picture without the thing: only what the hand covers decides."""
    for covered in (True, False):
        monkeypatch.setattr(FollowedObject, "lies_in", lambda self, mask, T, camera, answer=covered: answer)
        tracker, seen = ColorTracker(ColorTrackerConfig(network="none")), []
        for k in range(30):
            estimate, layers = hand(REST)
            bare = np.full((CAMERA.height, CAMERA.width, 3), (200, 150, 120), np.uint8)
            picture = replace(frame(*([box_layer(REST, LARGE)] if k < 12 else []), *layers, index=k), depth_m=None)
            seen.append(tracker.track(picture if k < 12 else replace(picture, color=bare), [estimate]))
        assert seen[11].state == "tracking"
        if covered:
            assert all(o.state == "tracking" for o in seen[12:]) and seen[-1].mask is None, [o.state for o in seen]
            assert seen[-1].message == HIDDEN and seen[-1].inlier_fraction == 0
            assert np.allclose(seen[-1].T_camera_object, seen[11].T_camera_object, atol=0.01)
        else:
            assert seen[-1].state in ("lost", "waiting") and seen[-1].T_camera_object is None
