"""One tracker for cameras with depth and without."""

from __future__ import annotations

import dataclasses

import numpy as np
import scenes

from hoi_ros.reconstruction.reconstructor import ObjectReconstructor
from hoi_ros.tracking import HeldObjectTracker


def held(index, with_depth):
    """A printed cylinder, turned in a hand."""
    pose = scenes.pose((0, 2.0 * index, 0), (0, -0.02, 0.45))
    estimate, layers = scenes.hand(scenes.pose((0, 2.0 * index, 0), (0, -0.02, 0.45)))
    picture = scenes.frame(scenes.cylinder_layer(pose), *layers, index=index)
    return (picture if with_depth else dataclasses.replace(picture, depth_m=None)), [estimate]


def test_colour_alone_until_depth_comes_and_ids_go_on():
    tracker, seen = HeldObjectTracker(), []
    for index in range(24):
        seen.append(tracker.track(*held(index, with_depth=index >= 14)))
    first, second = seen[13], seen[23]
    assert first.state == "tracking" and first.object_id == 0 and "from colour alone" in first.message
    assert second.state == "tracking" and second.object_id == 1 and "colour" not in second.message
    assert all(one.own_depth_m is None for one in seen[14:])
    missing = tracker.track(*held(24, with_depth=False))
    assert missing.state == "no_depth" and missing.object_id == 1 and missing.T_camera_object is None
    tracker.reset()
    assert tracker.track(*held(25, with_depth=False)).state == "waiting", "a reset forgets that the camera had depth"
    tracker.close()


def test_depth_of_its_own_is_fused_where_the_camera_gives_none():
    tracker, fuser, fused, given = HeldObjectTracker(), ObjectReconstructor(device="cpu"), 0, 0
    for index in range(60):
        frame, hands = held(index, with_depth=False)
        seen = tracker.track(frame, hands)
        if seen.own_depth_m is not None:
            given += 1
            assert seen.own_depth_m.shape == frame.color.shape[:2] and not seen.own_depth_m[~seen.mask].any()
            near = np.median(seen.own_depth_m[seen.own_depth_m > 0])
            assert 0.3 < near < 0.55
        fused += fuser.integrate(frame, seen)
    assert given > 0 and fused > 0 and fuser.extract_mesh() is not None
    tracker.close()
    fuser.close()
