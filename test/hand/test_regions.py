"""Regions: there and back, crops upright, the same hand gives the same region however it is turned."""

import math

import cv2
import numpy as np
import pytest

from hoi_ros.hand.regions import HandRegion, hand_size_px, region_from_landmarks, region_from_palm


def hand_points(seed: int = 0) -> np.ndarray:
    """(21, 2) points of an upright hand, fingers up."""
    points = np.zeros((21, 2))
    for finger, x in enumerate((-40, -20, 0, 20, 38)):
        for joint in range(4):
            points[1 + 4 * finger + joint] = (x * (1 + 0.1 * joint), -40 - 25 * joint)
    return points + np.random.default_rng(seed).normal(0, 1, (21, 2))


@pytest.mark.parametrize("angle", [0.0, 0.7, -2.9, math.pi])
@pytest.mark.parametrize("batch", [(), (1,), (3, 1)])
def test_there_and_back(angle, batch):
    region = HandRegion(np.array([100.0, -20.0]), 83.0, angle)
    points = np.random.default_rng(1).normal(0, 300, (*batch, 2))
    np.testing.assert_allclose(region.from_image(region.to_image(points)), points, atol=1e-9 * 300)


@pytest.mark.parametrize("angle", [0.0, 0.6, -1.9, 3.0])
def test_crop_shows_points_where_the_region_says(angle):
    region = HandRegion(np.array([150.0, 110.0]), 120.0, angle)
    inside = np.array([[0.3, 0.25], [0.75, 0.6]])
    picture = np.zeros((240, 320, 3), np.uint8)
    for x, y in region.to_image(inside):
        cv2.circle(picture, (round(float(x) * 16), round(float(y) * 16)), 3 * 16, (255, 255, 255), -1, cv2.LINE_AA, 4)
    crop = region.crop(picture, 224)[..., 0].astype(float)
    for u, v in inside * 224 - 0.5:
        x, y = np.meshgrid(np.arange(224) - u, np.arange(224) - v)
        weight = crop * (np.hypot(x, y) < 15)
        assert weight.sum() > 0
        assert abs((weight * x).sum() / weight.sum()) < 0.35
        assert abs((weight * y).sum() / weight.sum()) < 0.35


def test_crop_outside_the_picture_is_black():
    picture = np.full((20, 30, 3), 255, np.uint8)
    assert HandRegion(np.array([-500.0, 0.0]), 40.0, 0.3).crop(picture, 32).max() == 0
    half = HandRegion(np.array([0.0, 10.0]), 16.0, 0.0).crop(picture, 32)
    assert half[:, :12].max() == 0 and half[:, 20:].min() == 255


def test_crop_of_a_very_long_picture():
    picture = np.zeros((4, 40000, 3), np.uint8)
    picture[:, 35000:] = 200
    assert HandRegion(np.array([35100.0, 2.0]), 3.0, 0.0).crop(picture, 16)[8, 8, 0] == 200


@pytest.mark.parametrize("turn", np.linspace(-3, 3, 7))
def test_region_turns_with_the_hand(turn):
    points = hand_points()
    c, s = math.cos(turn), math.sin(turn)
    rotation = np.array([[c, -s], [s, c]])
    still, turned = region_from_landmarks(points), region_from_landmarks(points @ rotation.T + [300, 200])
    assert math.cos(turned.angle_rad - still.angle_rad - turn) == pytest.approx(1, abs=1e-9)
    assert turned.size_px == pytest.approx(still.size_px)
    np.testing.assert_allclose(turned.center_px, rotation @ still.center_px + [300, 200], atol=1e-6)


def test_region_holds_every_landmark_and_scales():
    points = hand_points()
    inside = region_from_landmarks(points).from_image(points)
    assert inside.min() > 0 and inside.max() < 1
    assert hand_size_px(points * 3) == pytest.approx(3 * hand_size_px(points))


def test_region_from_palm_reaches_over_the_fingers():
    keypoints = np.array([[50, 90], [35, 40], [50, 38], [60, 40], [70, 45], [30, 80], [20, 65]], float)
    region = region_from_palm(np.array([20.0, 35.0, 80.0, 95.0]), keypoints)
    assert region.angle_rad == pytest.approx(0, abs=1e-9)
    assert region.size_px == pytest.approx(2.6 * 60)
    np.testing.assert_allclose(region.center_px, [50, 65 - 30])


def test_landmarks_in_one_point_still_give_a_region():
    region = region_from_landmarks(np.full((21, 2), 7.0))
    assert region.size_px > 0 and np.isfinite(region.center_px).all()
