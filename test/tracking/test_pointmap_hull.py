"""Shape from outlines: a ball and a box come back from their silhouettes; hands leave space undecided."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scenes import CAMERA, box_layer, pose

from hoi_ros.datatypes import ObjectObservation, RgbdFrame
from hoi_ros.tracking.pointmap_hull import ColorDepth, SilhouetteHull
from hoi_ros.tracking.pointmap_relief import ConfidentDepth

HALF = np.array([0.05, 0.035, 0.025])
TURNS = [(0, 0, 0), (0, 60, 0), (0, 120, 0), (60, 0, 0), (120, 0, 0), (0, 90, 0), (90, 0, 0), (0, 30, 0), (30, 0, 0),
         (0, -30, 0), (0, -60, 0), (-30, 0, 0), (0, 150, 0), (150, 0, 0), (40, 40, 0), (-40, 40, 0)]  # fmt: skip


def carved(turns, hidden: np.ndarray | None = None) -> SilhouetteHull:
    hull = SilhouetteHull(np.zeros(3), extent_m=0.16, cells=40)
    for turn in turns:
        T = pose(turn)
        hull.carve(np.isfinite(box_layer(T, HALF)[0]), hidden, T, CAMERA)
    return hull


def test_a_box_comes_back_from_its_outlines():
    points = carved(TURNS).points()
    true_cells = np.prod(2 * HALF) / (0.16 / 40) ** 3
    inside = (np.abs(points) <= HALF + 0.004).all(1)
    assert inside.sum() > 0.9 * true_cells
    assert len(points) < 1.55 * true_cells
    assert inside.mean() > 0.75


def test_more_views_leave_less_space():
    sizes = [carved(TURNS[:count]).occupied_mask.sum() for count in (1, 3, 7)]
    assert sizes[0] > 1.5 * sizes[1] > 1.5 * sizes[2] > 0


def test_the_depth_of_the_hull_is_the_surface_s():
    hull, T = carved(TURNS), pose((10, 45, 0))
    true = box_layer(T, HALF)[0]
    mask = np.isfinite(true)
    depth = hull.depth(mask, T, CAMERA)
    met = mask & (depth > 0)
    assert met.sum() > 0.9 * mask.sum() and (depth[~mask] == 0).all()
    assert np.median(np.abs(depth - true)[met]) < 0.006
    assert np.percentile((depth - true)[met], 90) < 0.006  # a hull lies before the surface, not behind


def test_what_a_hand_hides_is_not_carved_away():
    T = pose()
    mask = np.isfinite(box_layer(T, HALF)[0])
    hand = np.zeros_like(mask)
    hand[:, 160:] = True
    plain, careful = (SilhouetteHull(np.zeros(3), 0.16, 32) for _ in range(2))
    for turn in TURNS:
        T = pose(turn)
        cut = np.isfinite(box_layer(T, HALF)[0]) & ~hand
        plain.carve(cut, None, T, CAMERA)
        careful.carve(cut, hand, T, CAMERA)
    assert careful.occupied_mask.sum() > 1.5 * plain.occupied_mask.sum()


def test_one_wrong_outline_in_many_does_not_cut_the_shape():
    hull = carved(TURNS)
    before = hull.occupied_mask.sum()
    hull.carve(np.zeros((CAMERA.height, CAMERA.width), bool), None, pose(), CAMERA)
    assert hull.occupied_mask.sum() > 0.7 * before


def tracked(number: int, turn, is_keyframe: bool = True):
    """Frame, observation and true depth (H, W), inf beside the box."""
    T = pose(turn)
    true, color = box_layer(T, HALF)
    frame = RgbdFrame(np.clip(color, 0, 255).astype(np.uint8), CAMERA, number)
    return frame, ObjectObservation("tracking", 0, T, mask=np.isfinite(true), is_keyframe=is_keyframe), true


def test_key_views_get_depth_from_their_outline_alone():
    maker, given = ColorDepth(), []
    for number, turn in enumerate(TURNS[:8]):
        frame, seen, true = tracked(number, turn, is_keyframe=number != 5)
        depth = maker.depth(frame, seen, np.zeros(3))
        given.append(depth is not None)
        if depth is not None:
            assert ((depth > 0) == seen.mask).all()
            assert np.median(np.abs(depth - true)[seen.mask]) < 0.025
    assert given == [True, True, True, True, True, False, True, True]


def test_a_confident_pointmap_gives_a_key_view_its_relief():
    errors = {}
    for sigma in (0.001, 0.1):
        frame, seen, true = tracked(0, (15, 40, 0))
        known = ConfidentDepth(np.where(seen.mask, true, 0).astype(np.float32), np.full(true.shape, np.float32(sigma)))
        depth = ColorDepth().depth(frame, seen, np.zeros(3), known)
        off = (depth - true)[seen.mask]
        errors[sigma] = np.abs(off - np.median(off)).mean()
    assert errors[0.001] < 0.0005 and errors[0.1] > 0.002


def test_nothing_lies_before_the_hull():
    maker = ColorDepth()
    for number, turn in enumerate(TURNS):
        frame, seen, _ = tracked(number, turn)
        maker.depth(frame, seen, np.zeros(3))
    frame, seen, true = tracked(20, (10, 45, 0))
    near = ConfidentDepth(np.where(seen.mask, true - 0.1, 0).astype(np.float32), np.full(true.shape, np.float32(1e-3)))
    depth = maker.depth(frame, seen, np.zeros(3), near)
    assert np.median((depth - true)[seen.mask]) > -0.006  # else it would be five centimetres too near
    assert (depth[~seen.mask] == 0).all()


def test_another_object_has_a_hull_of_its_own():
    maker = ColorDepth()
    for number, turn in enumerate(TURNS[:6]):
        frame, seen, _ = tracked(number, turn)
        maker.depth(frame, seen, np.zeros(3))
    old = maker._hull
    frame, seen, _ = tracked(7, TURNS[0])
    maker.depth(frame, replace(seen, object_id=1), np.zeros(3))
    assert maker._hull is not old and maker._hull.views == 1
    maker.reset()
    assert maker._hull is None
