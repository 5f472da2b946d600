"""A sleeve that fingers touch, or that moves along, is told from parts of the object by the colours of arms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scenes

from hoi_ros.tracking import TrackerConfig
from hoi_ros.tracking.beginning import first_track
from hoi_ros.tracking.likeness import color_shares
from hoi_ros.tracking.patch import clean_depth, cut_patch
from hoi_ros.tracking.segmentation import Segmentation
from hoi_ros.tracking.track import View

BLUE, PURPLE = np.array((40.0, 90.0, 200.0)), np.array((80.0, 50.0, 90.0))


def tinted(layer, tint):
    depth, color = layer
    return depth, 0.2 * color + 0.8 * tint


@pytest.fixture
def scene():
    """A view of two halves of an object and of a sleeve, and the masks (h, w) of all three."""
    places = [scenes.pose((0, 0, 0), (x, -0.04, 0.5)) for x in (-0.05, 0.05)]
    halves = [tinted(scenes.box_layer(place, (0.03, 0.03, 0.02)), BLUE) for place in places]
    sleeve = tinted(scenes.box_layer(scenes.pose((0, 0, 0), (0, 0.08, 0.5)), (0.06, 0.03, 0.02)), PURPLE)
    frame = scenes.frame(*halves, sleeve)
    patch = cut_patch(frame, clean_depth(frame), np.array([20.0, 20.0, 300.0, 220.0]), TrackerConfig().max_crop_px)
    assert patch is not None
    first, second, arm = (patch.cut(scenes.mask_of(layer)) for layer in (*halves, sleeve))
    nothing, everything = np.zeros(patch.shape, bool), np.ones(patch.shape, bool)
    return View(patch, nothing, everything, everything), first, second, arm


def parts_of(view, first, second, arm):
    """What of the other half and the sleeve is taken for parts of the first half."""
    begun = first_track(0, view, first, 0, TrackerConfig())
    assert begun is not None
    return begun[0]._own_parts(second | arm, view, first)


def test_a_sleeve_in_the_grasp_is_no_part(scene):
    view, first, second, arm = scene
    parts = parts_of(replace(view, arm_colors=color_shares(view.patch.color, arm)), first, second, arm)
    assert parts[second].mean() > 0.95 and not parts[arm].any()


def test_before_an_arm_was_seen_everything_may_be_a_part(scene):
    view, first, second, arm = scene
    parts = parts_of(view, first, second, arm)
    assert parts[second].all() and parts[arm].all()


def test_arms_are_learnt_where_they_leave_the_wrist():
    segmentation = Segmentation(TrackerConfig())
    at = scenes.pose((0, 0, 0), (0, -0.06, 0.5))
    hand, layers = scenes.hand(at)
    below = scenes.pose((0, 0, 0), (0, 0.14, 0.53))
    frame = scenes.frame(*layers, tinted(scenes.box_layer(below, (0.02, 0.07, 0.02)), PURPLE))
    depth = segmentation.take(frame, [hand])
    view = segmentation.view(frame, depth, None, np.array([0.0, 0.0, 320.0, 240.0]))
    assert view is not None and view.arm_colors is not None
    purple = color_shares(np.full((8, 8, 3), PURPLE, np.uint8), np.ones((8, 8), bool))
    assert np.minimum(view.arm_colors, purple).sum() > 0.2
