"""The hand carries an object whose known sides are out of sight, as long as it looks like it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scenes

from hoi_ros.geometry import unproject
from hoi_ros.tracking import ObjectTracker, TrackerConfig


def turned_away(shown: str, count: int = 14):
    """A thin board in the hand, turned by its hand so fast that no known side stays in sight; then what is `shown`."""
    tracker, seen, true = ObjectTracker(TrackerConfig()), [], []
    for index in range(count):
        turn = 0.0 if index < 8 else 75.0 if index == 8 else 150.0
        pose = scenes.pose((0, turn, 0), (0, -0.02, 0.45))
        estimate, layers = scenes.hand(pose)
        depth, color = scenes.box_layer(pose, (0.06, 0.08, 0.008))
        if index >= 8 and shown == "nothing":
            depth = np.full_like(depth, np.inf)
        if index >= 8 and shown == "another":
            color = np.broadcast_to(np.array([30.0, 200.0, 40.0]), color.shape)
        seen.append(tracker.track(scenes.frame((depth, color), *layers, index=index), [estimate]))
        true.append(pose)
    return seen, true


def test_the_hand_carries_what_shows_other_sides():
    seen, true = turned_away("itself")
    assert [o.state for o in seen[4:]] == ["tracking"] * 10, [o.message for o in seen]
    carried = [o for o in seen[8:] if o.inlier_fraction == 0]
    assert carried and "carries it" in carried[0].message
    error = scenes.errors([o.T_camera_object for o in seen[4:]], true[4:])
    assert error[-1, 0] < 8 and error[-1, 1] < 6
    sigmas = [np.degrees(np.sqrt(o.covariance[3:, 3:].max())) for o in seen[4:]]
    assert sigmas[3] < 2 and sigmas[4] > 3.9


@pytest.mark.parametrize("shown", ["nothing", "another"])
def test_the_hand_does_not_carry_what_is_gone_or_another_thing(shown):
    seen, _ = turned_away(shown)
    assert seen[7].state == "tracking"
    assert all(o.state == "lost" and o.T_camera_object is None for o in seen[8:12])


def hidden_in_the_hand(after: str, count: int = 30):
    """A board carried and turned by a hand that closes around it for frames 12 to 23; then it shows what is `after`."""
    tracker, seen, true = ObjectTracker(TrackerConfig()), [], []
    for index in range(count):
        pose = scenes.pose((0, 2.0 * index, 0), (0.003 * index - 0.04, -0.02, 0.45))
        estimate, layers = scenes.hand(pose)
        depth, color = scenes.box_layer(pose, (0.03, 0.045, 0.008))
        if 12 <= index < 24:
            fist = scenes.sphere_layer(pose[:3, 3], 0.065)
            rows, columns = np.nonzero(scenes.mask_of(fist))
            skin = unproject(np.stack([columns, rows], 1), fist[0][rows, columns], scenes.CAMERA).astype(np.float32)
            vertices = np.concatenate([estimate.vertices_camera, skin[::3]])
            estimate, layers = replace(estimate, vertices_camera=vertices), [*layers, fist]
        if index >= 24 and after == "nothing":
            depth = np.full_like(depth, np.inf)
        seen.append(tracker.track(scenes.frame((depth, color), *layers, index=index), [estimate]))
        true.append(pose)
    return seen, true


def test_a_hand_that_hides_it_wholly_still_holds_it():
    seen, true = hidden_in_the_hand("itself")
    assert [o.state for o in seen[3:]] == ["tracking"] * 27, [o.message for o in seen]
    assert all("hides it" in o.message and not o.mask.any() for o in seen[13:23])
    error = scenes.errors([o.T_camera_object for o in seen[3:]], true[3:])
    assert error[:, 0].max() < 6 and error[:, 1].max() < 6 and error[-1, 1] < 3
    sigmas = [np.degrees(np.sqrt(o.covariance[3:, 3:].max())) for o in seen[3:]]
    assert sigmas[19] > 10 > 4 > sigmas[8]


def test_a_hand_that_opens_empty_does_not_hold_it():
    seen, _ = hidden_in_the_hand("nothing")
    assert seen[20].state == "tracking"
    assert all(o.state == "lost" for o in seen[24:])
