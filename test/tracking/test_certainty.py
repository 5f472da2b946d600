"""How surely a turn is known: laws of its covariance, and honesty while the label of a round thing is hidden."""

from __future__ import annotations

import dataclasses

import numpy as np
import scenes

from hoi_ros.geometry import rotation_angle, so3_exp
from hoi_ros.tracking import ObjectTracker, TrackerConfig
from hoi_ros.tracking.certainty import LEAST_RAD, MOST_RAD, TurnCertainty

ROTATION = so3_exp(np.array([0.3, -0.5, 0.9]))
BLIND_Y = ROTATION @ np.diag([1e6, 0.0, 1e6]) @ ROTATION.T
SEEING = 1e6 * np.eye(3)


def test_an_axis_that_nothing_shows_grows_unsure_and_the_others_stay_sure():
    certainty = TurnCertainty()
    for _ in range(50):
        certainty.step(ROTATION, BLIND_Y, BLIND_Y)
    assert certainty.worst_rad > np.radians(8)
    assert abs(certainty.worst_axis @ [0, 1, 0]) > 0.999
    values = np.sqrt(np.linalg.eigvalsh(certainty.covariance(ROTATION)))
    assert values[1] < np.radians(1)


def test_the_covariance_turns_with_the_object():
    certainty = TurnCertainty()
    for _ in range(20):
        certainty.step(ROTATION, BLIND_Y, BLIND_Y)
    expected = ROTATION.T @ certainty.covariance(ROTATION) @ ROTATION
    np.testing.assert_allclose(certainty.covariance(np.eye(3)), expected, atol=1e-12)


def test_it_is_bounded_and_sight_of_the_model_makes_it_sure_again():
    certainty = TurnCertainty()
    for _ in range(20000):
        certainty.step(ROTATION, np.zeros((3, 3)), np.zeros((3, 3)))
    np.testing.assert_allclose(certainty.worst_rad, MOST_RAD)
    certainty.step(ROTATION, SEEING, SEEING)
    assert certainty.worst_rad < np.radians(1)


def test_nothing_is_known_better_than_what_it_is_seen_against():
    certainty = TurnCertainty()
    certainty.step(ROTATION, SEEING, SEEING, np.radians(7.0))
    np.testing.assert_allclose(certainty.worst_rad, np.radians(7.0))
    certainty.step(ROTATION, SEEING, SEEING)
    assert LEAST_RAD <= certainty.worst_rad < np.radians(1)


def test_after_a_loss_only_sight_makes_it_sure():
    certainty = TurnCertainty()
    certainty.forget()
    certainty.step(ROTATION, SEEING, BLIND_Y)
    assert certainty.worst_rad > np.radians(90) and abs(certainty.worst_axis @ [0, 1, 0]) > 0.999
    certainty.step(ROTATION, SEEING, SEEING)
    assert certainty.worst_rad < np.radians(1)


def turned(index: int, textured: bool, tracker: ObjectTracker, degrees: float = 1.0):
    layer = scenes.cylinder_layer(scenes.pose((0, degrees * index, 0)), textured=textured)
    mask = scenes.mask_of(layer) if index == 0 else None
    return tracker.track(scenes.frame(layer, index=index), [], init_mask=mask)


def test_a_plain_round_thing_is_never_claimed_to_be_known_about_its_axis():
    tracker = ObjectTracker(TrackerConfig())
    for index in range(25):
        seen = turned(index, False, tracker)
    sigma_deg = np.degrees(np.sqrt(np.linalg.eigvalsh(seen.covariance[3:, 3:])))
    assert seen.state == "tracking" and sigma_deg[-1] > 6
    assert "not seen" in seen.message and not seen.is_keyframe
    axis = np.linalg.eigh(seen.covariance[3:, 3:])[1][:, -1]
    assert abs(axis[1]) > 0.9


def test_print_makes_the_same_turn_known():
    tracker = ObjectTracker(TrackerConfig())
    for index in range(12):
        seen = turned(index, True, tracker)
        assert seen.message == ""
    assert np.degrees(np.sqrt(np.linalg.eigvalsh(seen.covariance[3:, 3:])[-1])) < 4


def test_a_label_hidden_while_the_thing_turns_is_taken_up_again():
    """A sleeve hides all but the plain ends; meanwhile the turn is not claimed, and nothing wrong is learnt."""
    tracker = ObjectTracker(TrackerConfig())
    poses = [scenes.pose((0, 1.0 * min(index, 14), 0)) for index in range(30)]
    first, sigmas = None, []
    for index, pose in enumerate(poses):
        layer = scenes.cylinder_layer(pose)
        picture = scenes.frame(layer, index=index)
        mask = scenes.mask_of(layer) if index == 0 else None
        if 10 <= index < 20:
            depth, color = picture.depth_m.copy(), picture.color.copy()
            color[scenes.mask_of(layer)] = 128
            picture = dataclasses.replace(picture, depth_m=depth, color=color)
        seen = tracker.track(picture, [], init_mask=mask)
        assert seen.state == "tracking", (index, seen.message)
        first = seen.T_camera_object if first is None else first
        sigmas.append(np.degrees(np.sqrt(np.linalg.eigvalsh(seen.covariance[3:, 3:])[-1])))
    turn = seen.T_camera_object[:3, :3] @ first[:3, :3].T @ poses[0][:3, :3] @ poses[-1][:3, :3].T
    assert sigmas[19] > sigmas[9] + 2 and sigmas[-1] < sigmas[19]
    assert np.degrees(rotation_angle(turn)) < 4


def test_looking_often_at_the_same_print_makes_nothing_surer_than_one_look():
    """Errors against the model last: they do not average out over frames."""
    weak = np.radians(6.0) ** -2 * np.eye(3)
    certainty = TurnCertainty()
    for _ in range(30):
        certainty.step(ROTATION, 1e4 * np.eye(3), np.zeros((3, 3)))
    for _ in range(300):
        certainty.step(ROTATION, 1e4 * np.eye(3), weak)
    assert np.degrees(certainty.worst_rad) > 5.0
