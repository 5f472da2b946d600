"""The mask of what is not followed yet: grown from the last frame's, found anew, or what moves: what shows most."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from scenes import CAMERA, box_layer, frame, hand, mask_of, pose

from hoi_ros.tracking.masks import SkinModel
from hoi_ros.tracking.pointmap_masks import ColorMasks, _moving, cut_view

HALF = (0.055, 0.06, 0.03)
ORANGE = 190, 80, 20
REST = pose((10, 20, 0), (0, -0.02, 0.42))


def view_of(T: np.ndarray, index: int = 0, thing=None, work_px: int = 160):
    """View, frame and hands of the box in a hand."""
    estimate, layers = hand(T)
    picture = replace(frame(thing or box_layer(T, HALF), *layers, index=index), depth_m=None)
    box = np.array([0, 0, CAMERA.width, CAMERA.height], float)
    view = cut_view(picture, box, [estimate], None, work_px)
    assert view is not None
    return view, picture, [estimate]


def plain_box(T: np.ndarray):
    """Nearly one colour: moved by less than its width, its middle looks as it did."""
    depth, color = box_layer(T, HALF)
    return depth, np.array(ORANGE) + 0.1 * (color - 128)


@pytest.mark.parametrize(("grown_px", "anew_px", "taken"), [(40, 90, "anew"), (90, 40, "grown"), (0, 0, "grown")])
def test_the_larger_mask_is_taken(monkeypatch, grown_px, anew_px, taken):
    view, picture, hands = view_of(REST)
    masks = {"moving": np.zeros(view.picture.shape[:2], bool)}
    for name, size in (("grown", grown_px), ("anew", anew_px)):
        masks[name] = np.zeros(view.picture.shape[:2], bool)
        masks[name].reshape(-1)[:size] = True
    asked = []

    def held(self, sight, expected, holder, *, moving=False):
        asked.append((expected is not None, holder, moving))
        return masks["moving" if moving else "anew" if expected is None else "grown"]

    monkeypatch.setattr(ColorMasks, "_held", held)
    expected = np.ones(view.picture.shape[:2], bool)
    assert ColorMasks().first_seen(view, picture, hands, expected)[0] is masks[taken]
    assert sorted(asked) == [(False, None, False), (False, None, True), (True, None, False)]
    masks["moving"][:] = True
    assert ColorMasks().first_seen(view, picture, hands, expected)[0] is masks["moving"]
    asked.clear()
    assert ColorMasks().first_seen(view, picture, hands, None)[0] is masks["anew"]
    assert asked == [(False, None, False)]


def test_a_frame_s_colours_are_learnt_once(monkeypatch):
    view, picture, hands = view_of(REST)
    learnt = []
    learn = SkinModel.learn
    monkeypatch.setattr(SkinModel, "learn", lambda self, *args: (learnt.append(1), learn(self, *args))[1])
    ColorMasks().first_seen(view, picture, hands, view.cut(mask_of(box_layer(REST, HALF))))
    assert len(learnt) == 1


def test_a_mask_that_stuck_to_a_patch_left_behind_is_given_up():
    masks, far = ColorMasks(), pose((0, 0, 0), (0.25, -0.02, 0.42))
    for k in range(8):  # the room, before anything is held
        estimate, layers = hand(far)
        masks.watch(replace(frame(*layers, index=k), depth_m=None), [estimate], None)
    stuck = np.zeros((CAMERA.height, CAMERA.width), bool)
    cv2.circle(stuck, (95, 150), 9, 1, -1)
    for k in range(8, 12):
        T = pose((10, 20, 0), (0.004 * (k - 8), -0.02, 0.42))
        view, picture, hands = view_of(T, k)
        masks.watch(picture, hands, None)
    true = view.cut(mask_of(box_layer(T, HALF)))
    found, _ = masks.first_seen(view, picture, hands, view.cut(stuck))
    assert (found & true).sum() > 0.5 * (found | true).sum()


def test_the_middle_of_a_plain_thing_that_lay_there_is_not_the_room():
    masks, far = ColorMasks(), pose((0, 0, 0), (0.25, -0.02, 0.42))
    for k in range(8):  # it lies there, no hand near
        estimate, layers = hand(far)
        masks.watch(replace(frame(plain_box(REST), *layers, index=k), depth_m=None), [estimate], None)
    before, found = None, None
    for k in range(8, 12):
        T = pose((10, 20, 0), (0.007 * (k - 7), -0.02, 0.42))
        view, picture, hands = view_of(T, k, plain_box(T), 320)
        masks.watch(picture, hands, None)
        anew, _ = masks.segment(view, picture, hands, None, before)
        found, _ = masks.first_seen(view, picture, hands, found if found is not None and found.any() else None, before)
        before = cv2.cvtColor(picture.color, cv2.COLOR_RGB2GRAY)
    fingers = np.min([depth for depth, _ in hand(T)[1]], axis=0)
    true = view.cut(box_layer(T, HALF)[0] < fingers)
    overlap = [(mask & true).sum() / (mask | true).sum() for mask in (anew, found)]
    assert overlap[0] < 0.3 and overlap[1] > 0.6, overlap


def test_what_something_left_behind_is_none_of_its_motion():
    flow, own, room = np.zeros((60, 80, 2), np.float32), np.zeros((60, 80), bool), np.zeros((60, 80), bool)
    thing = np.s_[20:40, 30:60]
    flow[thing] = -4, 0
    own[22:38, 60:78], own[22:38, 30:38], room[:15], room[45:] = True, True, True, True
    along, with_room = _moving(flow, own, room, all_move=True)
    true = np.zeros((60, 80), bool)
    true[thing] = True
    assert (along == true).all() and (with_room == ~true).all()
    along, _ = _moving(flow, own, room)
    assert (along & true).sum() < 0.5 * true.sum()
