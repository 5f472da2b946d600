"""Palm detector: anchors, suppression, views, and where it sees a drawn palm."""

import numpy as np
import pytest
from drawn_hand import draw_hand

from hoi_ros.hand.detector import (
    PalmDetector,
    intersection_over_union,
    make_anchors,
    merge_overlapping,
    views_of,
)


@pytest.fixture(scope="module")
def detector():
    return PalmDetector()


def test_anchors_are_2016_in_order():
    anchors = make_anchors(192)
    assert anchors.shape == (2016, 2)
    np.testing.assert_allclose(anchors[:4], np.array([[4, 4], [4, 4], [12, 4], [12, 4]]) / 192, atol=1e-7)
    np.testing.assert_allclose(anchors[2 * 576], np.array([8, 8]) / 192, atol=1e-7)
    assert len(np.unique(anchors[2 * 576 :], axis=0)) == 144


def test_overlap_of_boxes():
    box = np.array([0.0, 0.0, 2.0, 2.0])
    others = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6], [0.5, 0.5, 1.5, 1.5]])
    np.testing.assert_allclose(intersection_over_union(box, others), [1, 1 / 3, 0, 1 / 4])


def test_overlapping_boxes_are_averaged_by_score():
    scores = np.array([0.5, 0.9, 0.6])
    boxes = np.array([[0.1, 0, 1.1, 1], [0, 0, 1, 1], [4, 4, 5, 5]])
    keypoints = np.arange(6, dtype=float).reshape(3, 1, 2)
    merged = merge_overlapping(scores, boxes, keypoints)
    assert [round(score, 3) for score, _, _ in merged] == [0.9, 0.6]
    np.testing.assert_allclose(merged[0][1], (0.9 * boxes[1] + 0.5 * boxes[0]) / 1.4)
    np.testing.assert_allclose(merged[0][2], (0.9 * keypoints[1] + 0.5 * keypoints[0]) / 1.4)
    np.testing.assert_allclose(merged[1][1], boxes[2])


def test_boxes_without_area_do_not_loop():
    merged = merge_overlapping(np.array([0.9, 0.8]), np.zeros((2, 4)), np.zeros((2, 7, 2)))
    assert len(merged) == 2


@pytest.mark.parametrize("size", [(480, 640), (720, 1280), (1280, 720), (480, 480), (100, 2000), (1, 1)])
def test_views_cover_the_picture_and_stay_inside(size):
    height, width = size
    views = views_of(height, width)
    assert views[0] == (0, 0, width, height)
    assert (len(views) == 1) == (max(size) < 1.25 * min(size))
    for x0, y0, x1, y1 in views[1:]:
        assert x1 - x0 == y1 - y0 == min(size)
        assert x0 >= 0 and y0 >= 0 and x1 <= width and y1 <= height
    if max(size) < 2 * min(size):
        seen = np.zeros(size, bool)
        for x0, y0, x1, y1 in views[1:] or views:
            seen[y0:y1, x0:x1] = True
        assert seen.all()


def test_palm_is_found_where_it_is(detector):
    for center in ((320, 240), (150, 300), (520, 200)):
        palm = detector.detect(draw_hand("right", center=center))[0]
        assert palm.score > 0.8
        middle = (palm.box_px[:2] + palm.box_px[2:]) / 2
        assert np.abs(middle - np.array(center)).max() < 60
        assert palm.keypoints_px[0, 1] > palm.keypoints_px[2, 1] + 30, "wrist below the knuckles"


def test_border_and_view_keep_pixels(detector):
    picture, knuckles = draw_hand("right"), slice(1, 5)
    plain = detector.detect(picture)[0].keypoints_px[knuckles]
    for options in ({"border_fraction": 0.2}, {"view": (80, 0, 560, 480)}, {"view": (160, 80, 480, 400)}):
        assert np.abs(detector.detect(picture, **options)[0].keypoints_px[knuckles] - plain).max() < 12


def test_nothing_in_empty_pictures(detector):
    for shape in ((480, 640, 3), (1, 1, 3), (3, 900, 3), (0, 4, 3)):
        assert detector.detect(np.zeros(shape, np.uint8)) == []
    assert detector.detect(draw_hand(), threshold=1.0) == []
