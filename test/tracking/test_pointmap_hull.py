"""Shape from outlines: a ball and a box come back from their silhouettes; hands leave space undecided."""

from __future__ import annotations

import numpy as np
import pytest
from scenes import CAMERA, box_layer, pose

from hoi_ros.datatypes import ObjectObservation, RgbdFrame
from hoi_ros.geometry import transform_points
from hoi_ros.tracking.pointmap_hull import ColorDepth, SilhouetteHull, bent_to_points

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


def test_known_points_push_the_hull_back():
    depth = np.zeros((240, 320), np.float32)
    depth[80:160, 100:220] = 0.4
    point = np.array([[0.0, 0.0, 0.42]])
    bent = bent_to_points(depth, point, CAMERA)
    assert bent[119, 159] == pytest.approx(0.42, abs=0.005)
    assert bent[85, 105] == pytest.approx(0.4, abs=1e-3) and (bent[depth == 0] == 0).all()
    np.testing.assert_allclose(bent_to_points(depth, np.array([[0.0, 0, 0.3]]), CAMERA), depth)


def test_frames_get_depth_at_key_views_once_there_are_enough():
    maker, given = ColorDepth(), []
    for number, turn in enumerate(TURNS[:8]):
        T = pose(turn)
        true, color = box_layer(T, HALF)
        mask = np.isfinite(true)
        frame = RgbdFrame(np.clip(color, 0, 255).astype(np.uint8), CAMERA, number)
        seen = ObjectObservation("tracking", 0, T, mask=mask, is_keyframe=number != 5)
        depth = maker.depth(frame, seen, np.zeros(3), transform_points(T, np.zeros((0, 3))))
        given.append(depth is not None)
        if number == 7:
            assert np.median(np.abs(depth - true)[mask & (depth > 0)]) < 0.015
    assert given == [False, False, False, True, True, False, True, True]
