"""Hand and object told apart where colour alone would mislead."""

import dataclasses

import numpy as np
import scenes

from hoi_ros.tracking import ObjectTracker, TrackerConfig

SKIN = (200, 140, 115)


def held_before_skin(index, shift_m=0.0):
    """A hand that holds a cylinder before a wall of its own colour; its estimate is off by `shift_m` sideways."""
    pose = scenes.pose((0, 0, 1.5 * index), (0, -0.02, 0.45))
    estimate, layers = scenes.hand(pose)
    thing = scenes.cylinder_layer(pose)
    picture = scenes.frame(thing, *layers, index=index)
    front = np.minimum.reduce([layer[0] for layer in (thing, *layers)])
    color = picture.color.copy()
    noise = np.random.default_rng(index).integers(-6, 7, color.shape)
    color[~np.isfinite(front)] = np.clip(np.array(SKIN) + noise, 0, 255)[~np.isfinite(front)]
    shift = np.array([shift_m, 0, 0], np.float32)
    estimate = dataclasses.replace(
        estimate, vertices_camera=estimate.vertices_camera + shift, joints_camera=estimate.joints_camera + shift
    )
    of_hand = np.minimum.reduce([layer[0] for layer in layers]) < thing[0]
    return dataclasses.replace(picture, color=color), estimate, of_hand


def test_a_wall_of_skin_colour_does_not_turn_the_hand_into_object():
    tracker = ObjectTracker(TrackerConfig())
    seen, of_hand = None, None
    for index in range(12):
        picture, estimate, of_hand = held_before_skin(index, shift_m=0.04)
        seen = tracker.track(picture, [estimate])
    assert seen is not None and seen.state == "tracking"
    assert (seen.mask & of_hand).sum() < 0.08 * seen.mask.sum()


def test_a_hand_that_is_no_longer_found_does_not_become_object():
    tracker, taken = ObjectTracker(TrackerConfig()), []
    for index in range(40):
        picture, estimate, of_hand = held_before_skin(index % 2)
        seen = tracker.track(picture, [estimate] if index < 12 else [])
        if index >= 12:
            assert seen.state == "tracking", (index, seen.message)
            taken.append((seen.mask & of_hand).sum() / seen.mask.sum())
    assert max(taken) < 0.1
