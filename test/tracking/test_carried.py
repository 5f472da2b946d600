"""The hand carries an object whose known sides are out of sight, as long as it looks like it."""

from __future__ import annotations

import numpy as np
import pytest
import scenes

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
