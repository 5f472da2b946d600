"""Recovery of known motion, honest loss, and survival of bad frames."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scenes

from hoi_ros.errors import InputError
from hoi_ros.geometry import invert_transform, make_transform, so3_exp
from hoi_ros.tracking import ObjectTracker, TrackerConfig
from hoi_ros.tracking.model import Rendering
from hoi_ros.tracking.patch import clean_depth, cut_patch
from hoi_ros.tracking.recovery import looks_like
from hoi_ros.tracking.track import View


def follow(layer_of, poses, tracker=None, **options):
    """Track a thing drawn at the poses from a mask on the first frame; every frame must be tracked."""
    tracker = tracker or ObjectTracker(TrackerConfig())
    found = []
    for index, pose in enumerate(poses):
        layer = layer_of(pose)
        mask = scenes.mask_of(layer) if index == 0 else None
        seen = tracker.track(scenes.frame(layer, index=index, **options), [], init_mask=mask)
        assert seen.state == "tracking", (index, seen.message)
        found.append(seen.T_camera_object)
    return found


@pytest.mark.parametrize("sign", [1, -1])
def test_textured_box_is_followed_both_ways(sign):
    poses = [scenes.pose((sign * 20, sign * 2.0 * i, 0), (sign * 0.002 * i, 0.001 * i, 0.5)) for i in range(20)]
    error = scenes.errors(follow(scenes.box_layer, poses), poses)
    assert error[-1, 0] < 3 and error[-1, 1] < 2


def test_first_pose_is_a_pure_translation_to_the_middle_of_the_cloud():
    pose = scenes.pose((10, 30, 0), (0.03, -0.02, 0.6))
    found = follow(scenes.box_layer, [pose])[0]
    np.testing.assert_array_equal(found[:3, :3], np.eye(3))
    assert np.linalg.norm(found[:3, 3] - pose[:3, 3]) < 0.04


def test_texture_tells_how_a_cylinder_turns_and_shape_alone_cannot():
    poses = [scenes.pose((0, 2.5 * i, 0)) for i in range(12)]
    textured = scenes.errors(follow(scenes.cylinder_layer, poses), poses)
    plain = scenes.errors(follow(lambda pose: scenes.cylinder_layer(pose, textured=False), poses), poses)
    assert textured[-1, 1] < 3
    assert plain[-1, 1] > 10


def test_a_steady_turn_goes_on_where_nothing_tells_of_it():
    """A plain cylinder after a printed one: what held still before now turns on for as long as it turned steadily."""
    poses = [scenes.pose((0, 2.0 * i, 0)) for i in range(16)]
    turns = {}
    for change in (5400.0, 1e9):
        tracker, found = ObjectTracker(TrackerConfig(turn_change_deg_s2=change)), []
        for index, pose in enumerate(poses):
            layer = scenes.cylinder_layer(pose, textured=index < 10)
            mask = scenes.mask_of(layer) if index == 0 else None
            found.append(tracker.track(scenes.frame(layer, index=index), [], init_mask=mask).T_camera_object)
        assert all(pose is not None for pose in found)
        turns[change] = scenes.errors(found, poses)[-1, 1]
    assert turns[5400.0] < turns[1e9] - 3


def test_shape_tells_how_a_plain_box_turns():
    poses = [scenes.pose((25, 25 + 2.0 * i, 0)) for i in range(15)]
    error = scenes.errors(follow(lambda pose: scenes.box_layer(pose, textured=False), poses), poses)
    assert error[-1, 0] < 4 and error[-1, 1] < 3


def test_vanished_object_is_lost_without_a_pose_and_found_again_elsewhere():
    tracker = ObjectTracker(TrackerConfig())
    start = [scenes.pose((20, 25 + i, 0)) for i in range(8)]
    first = follow(scenes.box_layer, start, tracker)[0]
    for index in range(8, 11):
        seen = tracker.track(scenes.frame(index=index), [])
        assert seen.state == "lost" and seen.T_camera_object is None and seen.mask is None
        assert "lost" in seen.message
    back = scenes.pose((20, 38, 0), (0.06, 0.03, 0.55))
    states = []
    for index in range(11, 19):
        seen = tracker.track(scenes.frame(scenes.box_layer(back), index=index), [])
        states.append(seen.state)
    assert states[-1] == "tracking", states
    assert seen.object_id == 0
    error = scenes.errors([first, seen.T_camera_object], [start[0], back])[1]
    assert error[0] < 5 and error[1] < 4


@pytest.mark.parametrize("axis, degrees", [(1, 45), (1, -45), (2, 60), (2, -60), (2, 100), (2, -135), (2, 180)])
def test_a_lost_object_is_found_again_turned_either_way_and_rolled_all_around(axis, degrees):
    tracker = ObjectTracker(TrackerConfig())
    start = [scenes.pose((20, 25 + 3 * i, 0)) for i in range(14)]
    first = follow(scenes.box_layer, start, tracker)[0]
    tracker.track(scenes.frame(index=14), [])
    turn = so3_exp(np.radians(degrees) * np.eye(3)[axis]) @ start[7][:3, :3]
    back = make_transform(turn, np.array([0.05, 0.02, 0.52]))
    for index in range(15, 25):
        seen = tracker.track(scenes.frame(scenes.box_layer(back), index=index), [])
    assert seen.state == "tracking" and seen.object_id == 0
    error = scenes.errors([first, seen.T_camera_object], [start[0], back])[1]
    assert error[0] < 5 and error[1] < 5


def test_another_thing_is_not_taken_for_the_lost_one():
    tracker = ObjectTracker(TrackerConfig())
    follow(scenes.box_layer, [scenes.pose((20, 25, 0))] * 3, tracker)
    tracker.track(scenes.frame(index=3), [])
    for index in range(4, 14):
        other = scenes.cylinder_layer(scenes.pose((0, 0, 80), (0.03, 0, 0.5)), radius=0.02, half_height=0.1)
        assert tracker.track(scenes.frame(other, index=index), []).state == "lost"


def grip_frame(T_camera_object, index, T_camera_hand=None, thing=True):
    estimate, layers = scenes.hand(T_camera_object if T_camera_hand is None else T_camera_hand)
    layers = ([scenes.cylinder_layer(T_camera_object)] if thing else []) + layers
    return scenes.frame(*layers, index=index), [estimate]


def test_what_a_hand_holds_is_found_followed_and_tied_to_the_hand():
    tracker = ObjectTracker(TrackerConfig())
    poses = [scenes.pose((0, 0, 1.5 * i), (0.002 * i, -0.02, 0.45)) for i in range(16)]
    found, true, seen = [], [], None
    for index, pose in enumerate(poses):
        picture, hands = grip_frame(pose, index)
        seen = tracker.track(picture, hands)
        if seen.state == "tracking":
            found.append(seen.T_camera_object)
            true.append(pose)
    assert len(found) >= 13 and seen is not None and seen.hand_track_id == 0
    error = scenes.errors(found, true)
    assert error[-1, 0] < 4 and error[-1, 1] < 4
    expected = invert_transform(hands[0].T_camera_wrist) @ seen.T_camera_object
    np.testing.assert_allclose(seen.T_hand_object, expected, atol=1e-9)
    thing = scenes.cylinder_layer(poses[-1])[0]
    alone = np.isfinite(thing) & (np.abs(picture.depth_m - thing) < 0.004)
    assert (seen.mask & alone).sum() > 0.75 * alone.sum()
    assert (seen.mask & ~alone).sum() < 0.08 * seen.mask.sum()
    assert not (seen.mask & seen.hand_mask).any()


def test_an_unsure_turn_stops_learning_of_a_known_thing_but_not_of_one_hardly_known():
    tracker = ObjectTracker(TrackerConfig(max_turn_sigma_deg=0.5))
    still = scenes.pose((0, 0, 0), (0, -0.02, 0.45))
    estimate, hand_layers = scenes.hand(still)
    depth, color = scenes.cylinder_layer(still, textured=False)
    rows = np.flatnonzero(np.isfinite(depth).any(1))
    hidden = depth.copy()
    hidden[: int(rows[0] + 0.6 * (rows[-1] - rows[0]))] = np.inf
    sizes = []
    for index in range(30):
        thing = (hidden if index < 10 else depth, color)
        seen = tracker.track(scenes.frame(thing, *hand_layers, index=index), [estimate])
        sizes.append(len(tracker.model) if tracker.model else 0)
    assert "not seen" in seen.message
    assert sizes[9] == sizes[4] > 0, "what is known well is left alone"
    shown = np.isfinite(depth)
    assert sizes[-1] > 1.5 * sizes[9] and (seen.mask & shown).sum() > 0.6 * shown.sum()


def test_a_bare_hand_holds_nothing():
    tracker = ObjectTracker(TrackerConfig())
    for index in range(8):
        picture, hands = grip_frame(scenes.pose((0, 0, index), (0, -0.02, 0.45)), index, thing=False)
        seen = tracker.track(picture, hands)
        assert seen.state == "waiting" and seen.T_camera_object is None


def test_an_object_let_go_stays_tracked():
    tracker = ObjectTracker(TrackerConfig())
    still = scenes.pose((0, 0, 0), (0, -0.02, 0.45))
    for index in range(14):
        away = still.copy()
        away[:3, 3] += np.array([0.0, 0.03, 0.0]) * max(0, index - 6)
        picture, hands = grip_frame(still, index, away)
        seen = tracker.track(picture, hands)
    assert seen.state == "tracking" and seen.hand_track_id is None and seen.T_hand_object is None


def test_without_depth_it_says_what_it_waits_for_and_goes_on_later():
    tracker = ObjectTracker(TrackerConfig())
    pose = scenes.pose((20, 25, 0))
    follow(scenes.box_layer, [pose] * 3, tracker)
    picture = scenes.frame(scenes.box_layer(pose), index=3)
    seen = tracker.track(dataclasses.replace(picture, depth_m=None), [])
    assert seen.state == "no_depth" and "depth" in seen.message and seen.T_camera_object is None
    assert tracker.track(dataclasses.replace(picture, index=4), []).state == "tracking"


@pytest.mark.parametrize("bad", ["nan", "zeros", "infinite", "negative", "far"])
def test_bad_depth_loses_the_track_and_nothing_else(bad):
    value = {"nan": np.nan, "zeros": 0.0, "infinite": np.inf, "negative": -1.0, "far": 60.0}[bad]
    tracker = ObjectTracker(TrackerConfig())
    pose = scenes.pose((20, 25, 0))
    follow(scenes.box_layer, [pose] * 3, tracker)
    picture = scenes.frame(scenes.box_layer(pose), index=3)
    broken = dataclasses.replace(picture, depth_m=np.full_like(picture.depth_m, value))
    assert tracker.track(broken, []).state == "lost"
    states = [tracker.track(dataclasses.replace(picture, index=4 + i), []).state for i in range(4)]
    assert states[-1] == "tracking"


def test_holes_and_nan_speckles_do_not_stop_it():
    poses = [scenes.pose((20, 25 + 1.5 * i, 0)) for i in range(8)]
    tracker, found = ObjectTracker(TrackerConfig()), []
    for index, pose in enumerate(poses):
        layer = scenes.box_layer(pose)
        picture = scenes.frame(layer, index=index)
        depth = picture.depth_m.copy()
        speckle = np.random.default_rng(index).uniform(size=depth.shape)
        depth[speckle < 0.05], depth[speckle > 0.97] = 0, np.nan
        mask = scenes.mask_of(layer) if index == 0 else None
        found.append(tracker.track(dataclasses.replace(picture, depth_m=depth), [], init_mask=mask).T_camera_object)
    error = scenes.errors(found, poses)
    assert error[-1, 0] < 4 and error[-1, 1] < 3


def test_hands_with_nan_joints_or_behind_the_camera_are_left_out():
    estimate, _ = scenes.hand(scenes.pose())
    nan = dataclasses.replace(estimate, joints_camera=np.full((21, 3), np.nan))
    behind = dataclasses.replace(estimate, joints_camera=estimate.joints_camera - [0, 0, 2])
    seen = ObjectTracker(TrackerConfig()).track(scenes.frame(), [nan, behind])
    assert seen.state == "waiting"


def test_same_input_same_output():
    poses = [scenes.pose((20, 25 + 2 * i, 0)) for i in range(5)]
    first = follow(scenes.box_layer, poses)
    second = follow(scenes.box_layer, poses)
    np.testing.assert_array_equal(np.stack(first), np.stack(second))


def test_reset_forgets_and_the_next_object_has_a_new_id():
    tracker = ObjectTracker(TrackerConfig())
    poses = [scenes.pose((20, 25, 0))] * 2
    follow(scenes.box_layer, poses, tracker)
    tracker.reset()
    assert tracker.model is None
    assert tracker.track(scenes.frame(), []).state == "waiting"
    follow(scenes.box_layer, poses, tracker)
    seen = tracker.track(scenes.frame(scenes.box_layer(poses[0]), index=2), [])
    assert seen.object_id == 1


def test_model_is_bounded_over_two_hundred_frames():
    config = TrackerConfig(align_points=600, max_iterations=3, max_keyframes=5)
    tracker, sizes = ObjectTracker(config), []
    for index in range(200):
        layer = scenes.box_layer(scenes.pose((25 + 12 * np.sin(index / 9), 25 + 12 * np.cos(index / 9), 0)))
        mask = scenes.mask_of(layer) if index == 0 else None
        seen = tracker.track(scenes.frame(layer, index=index), [], init_mask=mask)
        assert seen.state == "tracking", index
        sizes.append(len(tracker.model))
    assert sizes[-1] < 1.1 * sizes[100]
    assert len(tracker._track.keyframes.keyframes) <= 5


def test_masks_of_the_wrong_size_and_empty_ones_are_refused():
    tracker = ObjectTracker(TrackerConfig())
    picture = scenes.frame(scenes.box_layer(scenes.pose()))
    with pytest.raises(InputError, match="size"):
        tracker.track(picture, [], init_mask=np.ones((10, 10), bool))
    with pytest.raises(InputError, match="pixels"):
        tracker.track(picture, [], init_mask=np.zeros(picture.color.shape[:2], bool))


def test_a_hopelessly_lost_object_gives_way_to_what_is_held_now():
    tracker = ObjectTracker(TrackerConfig(give_up_frames=5))
    follow(scenes.box_layer, [scenes.pose((20, 25, 0))] * 3, tracker)
    ids = []
    for index in range(3, 18):
        picture, hands = grip_frame(scenes.pose((0, 0, 0), (0, -0.02, 0.45)), index)
        seen = tracker.track(picture, hands)
        ids.append((seen.state, seen.object_id))
    assert ("lost", 0) in ids and ids[-1] == ("tracking", 1), ids


def test_a_larger_plain_thing_of_fitting_shape_is_not_taken_for_the_lost_one():
    tracker = ObjectTracker(TrackerConfig())
    follow(lambda pose: scenes.box_layer(pose, textured=False), [scenes.pose((0, 0, 0))] * 3, tracker)
    tracker.track(scenes.frame(index=3), [])
    for index in range(4, 12):
        board = scenes.box_layer(scenes.pose((0, 0, 0), (0.0, 0.0, 0.5)), half=(0.13, 0.09, 0.025), textured=False)
        assert tracker.track(scenes.frame(board, index=index), []).state == "lost"


def test_a_leap_is_not_believed():
    tracker = ObjectTracker(TrackerConfig(max_speed_m_s=0.3, max_turn_deg_s=60.0))
    pose = scenes.pose((20, 25, 0))
    follow(scenes.box_layer, [pose] * 4, tracker)
    leap = scenes.box_layer(scenes.pose((20, 30, 0), (0.012, 0, 0.5)))
    seen = tracker.track(scenes.frame(leap, index=4), [])
    assert seen.state == "lost" and "plausible" in seen.message and seen.T_camera_object is None


def held(layer_of, pose, index):
    """Frame and hands of a thing, or of nothing, in a hand that moves with it."""
    estimate, layers = scenes.hand(pose)
    return scenes.frame(*([layer_of(pose)] if layer_of else []), *layers, index=index), [estimate]


def green_box(pose):
    depth, color = scenes.box_layer(pose, half=(0.03, 0.06, 0.03))
    return depth, color * [0.3, 1.0, 0.4]


def test_a_new_object_gets_a_new_id_and_the_old_one_its_own_back_when_it_returns():
    tracker = ObjectTracker(TrackerConfig(give_up_frames=6, recognition_frames=4))
    still = scenes.pose((0, 0, 0), (0, -0.02, 0.45))
    turned = scenes.pose((0, 8, 10), (0.02, -0.02, 0.46))
    parts = [(scenes.cylinder_layer, still)] * 10 + [(None, still)] * 3 + [(green_box, still)] * 22
    parts += [(None, still)] * 3 + [(scenes.cylinder_layer, turned)] * 25
    seen = [tracker.track(*held(layer, pose, i)) for i, (layer, pose) in enumerate(parts)]
    ids = [o.object_id if o.state == "tracking" else None for o in seen]
    assert ids[9] == 0 and ids[34] == 1 and ids[-1] == 0, ids
    assert [i for i in ids[38:] if i is not None].count(1) == 0 and max(i for i in ids if i is not None) == 1, ids
    error = scenes.errors([seen[9].T_camera_object, seen[-1].T_camera_object], [still, turned])[1]
    assert error[0] < 5 and error[1] < 6
    assert seen[-1].T_hand_object is not None


def test_remembered_objects_are_bounded_and_reset_forgets_them():
    tracker = ObjectTracker(TrackerConfig(max_objects=3))
    for index in range(5):
        layer = scenes.box_layer(scenes.pose((20, 25, 0)))
        seen = tracker.track(scenes.frame(layer, index=index), [], init_mask=scenes.mask_of(layer))
        assert seen.object_id == index
    assert [track.object_id for track in tracker._remembered] == [2, 3]
    tracker.reset()
    assert not tracker._remembered


def test_an_object_put_down_and_picked_up_by_the_other_hand_keeps_its_id():
    tracker, states = ObjectTracker(TrackerConfig()), []
    for index in range(30):
        pose = scenes.pose((0, 0, 0), (0.002 * max(0, index - 20), -0.02, 0.45))
        first, layers = scenes.hand(pose)
        second, others = scenes.hand(pose, track_id=7)
        if index < 8:
            hands, drawn = [first], layers
        elif index < 16:
            hands, drawn = [], []
        else:
            hands, drawn = [second], others
        picture = scenes.frame(scenes.cylinder_layer(pose), *drawn, index=index)
        seen = tracker.track(picture, hands)
        states.append((seen.state, seen.object_id, seen.hand_track_id))
    assert states[7] == ("tracking", 0, 0) and states[15] == ("tracking", 0, None), states
    assert states[-1] == ("tracking", 0, 7), states
    assert all(state == "tracking" for state, _, _ in states[4:])


@pytest.mark.parametrize(
    "columns, agreement, right", [(80, 0.9, True), (46, 0.64, False), (30, 0.95, False), (90, 0.5, False)]
)
def test_what_is_found_must_end_where_the_object_ends_and_have_its_colours(columns, agreement, right):
    """A part of 100 columns in view, of which the model explains some."""
    picture = scenes.frame(scenes.box_layer(scenes.pose(), half=(0.08, 0.05, 0.02), textured=False))
    patch = cut_patch(picture, clean_depth(picture), np.array([0, 0, 320, 240.0]), 10**6)
    candidates = np.zeros(patch.shape, bool)
    candidates[100:140, 110:210] = True
    rendered = np.full(patch.shape, np.inf, np.float32)
    rendered[100:140, 110 : 110 + columns] = patch.depth_m[100:140, 110 : 110 + columns]

    class Model:
        def render(self, pose, patch):
            return Rendering(rendered, np.zeros(0, np.int64))

        def color_agreement(self, *_):
            return agreement

    view = View(patch, np.zeros(patch.shape, bool), candidates, candidates)
    assert looks_like(Model(), view, np.eye(4)) is right
