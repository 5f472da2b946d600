"""Skin told by its hue: in shade as in light, against colours never seen, and on fingers off their mesh."""

import dataclasses

import numpy as np
import scenes

from hoi_ros.tracking import ObjectTracker, TrackerConfig
from hoi_ros.tracking.masks import SkinModel, skin_bins

SKIN, BLUE, WHITE = (200, 140, 115), (40, 60, 140), (235, 233, 230)


def bins(color, seed=0, noise=4) -> np.ndarray:
    """(40, 40) skin bins of one colour with noise."""
    grain = np.random.default_rng(seed).integers(-noise, noise + 1, (40, 40, 3))
    return skin_bins(np.clip(np.array(color) + grain, 0, 255).astype(np.uint8))


def taught() -> SkinModel:
    skin, everywhere = SkinModel(), np.ones((40, 40), bool)
    skin.learn(bins(SKIN), everywhere, ~everywhere)
    return skin


def test_nothing_is_known_before_skin_was_seen():
    assert not SkinModel().learnt
    np.testing.assert_array_equal(SkinModel().probability(bins(SKIN)), 0.5)


def test_shaded_skin_is_still_skin():
    assert np.median(taught().probability(bins(np.array(SKIN) * 0.7, 1))) > 0.8


def test_a_colour_never_seen_is_no_skin():
    for color in (BLUE, WHITE, (60, 150, 70)):
        assert taught().probability(bins(color, 2)).mean() < 0.1, color


def test_a_thing_of_the_same_colour_makes_it_unsure():
    skin, everywhere = taught(), np.ones((40, 40), bool)
    skin.learn(bins(SKIN, 3), ~everywhere, everywhere)
    assert 0.3 < np.median(skin.probability(bins(SKIN, 4))) < 0.7


def test_fingers_well_off_their_mesh_do_not_become_object():
    """The estimate is shifted by 1.8 cm; the held thing is small, all of it near the hand."""
    tracker, seen = ObjectTracker(TrackerConfig()), None
    for index in range(10):
        pose = scenes.pose((0, 0, 1.5 * index), (0, -0.02, 0.45))
        estimate, layers = scenes.hand(pose)
        depth, color = scenes.cylinder_layer(pose, half_height=0.045)
        thing = depth, np.where(color > 128, np.array(WHITE), np.array(BLUE))
        frame = scenes.frame(thing, *layers, index=index)
        shift = np.array([0.018, 0, 0], np.float32)
        estimate = dataclasses.replace(
            estimate, vertices_camera=estimate.vertices_camera + shift, joints_camera=estimate.joints_camera + shift
        )
        seen = tracker.track(frame, [estimate])
    of_hand = np.minimum.reduce([layer[0] for layer in layers]) < depth
    assert seen is not None and seen.state == "tracking"
    assert (seen.mask & of_hand).sum() < 0.05 * seen.mask.sum()
