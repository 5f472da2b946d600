"""The virtual camera that looks at what is held."""

from __future__ import annotations

import numpy as np
import pytest

from hoi_ros.datatypes import CameraIntrinsics
from hoi_ros.errors import InputError
from hoi_ros.geometry import pointmap_from_depth, project
from hoi_ros.tracking.pointmap_crop import hide_background, look_at_box

CAMERA = CameraIntrinsics(320, 240, 300.0, 310.0, 159.5, 119.5)
BOX = np.array([200.0, 30.0, 300.0, 110.0])


def test_the_box_fits_and_its_middle_is_the_crop_s():
    crop = look_at_box(BOX, CAMERA, 64, margin=1.1)
    np.testing.assert_allclose(crop.R_camera_crop @ crop.R_camera_crop.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(crop.R_camera_crop) == pytest.approx(1)
    corners = np.array([[x, y, 1.0] for x in BOX[[0, 2]] for y in BOX[[1, 3]]]) @ np.linalg.inv(CAMERA.matrix).T
    inside = crop.crop_points(corners)
    reach = np.abs(inside[:, :2] / inside[:, 2:]).max() / crop.half_tangent
    assert reach == pytest.approx(1 / 1.1)
    middle = project(crop.camera_points(np.array([[0, 0, 1.0]])), CAMERA)[0]
    np.testing.assert_allclose(middle, [250, 70], atol=1e-9)


@pytest.mark.parametrize("roll", [0.0, 0.7, 3.0])
def test_pixels_and_points_go_together(roll):
    crop = look_at_box(BOX, CAMERA, 96, roll_rad=roll)
    v, u = np.mgrid[: CAMERA.height, : CAMERA.width].astype(np.float32)
    depth = 0.5 + 0.0004 * u + 0.0007 * v
    depth_crop = crop.depth_along_crop(crop.cut(depth))
    points = crop.camera_points(crop.pointmap(depth_crop))
    seen = project(points, CAMERA)
    place = np.stack([crop.cut(u), crop.cut(v)], -1)
    inside = ((seen > 1) & (seen < (CAMERA.width - 2, CAMERA.height - 2))).all(-1)
    assert inside.mean() > 0.7
    np.testing.assert_allclose(seen[inside], place[inside], atol=0.15)  # warping rounds to 1/32 pixel
    whole = pointmap_from_depth(depth, CAMERA)
    rounded = np.round(seen[inside]).astype(int)
    there = whole[rounded[:, 1], rounded[:, 0]]
    assert np.linalg.norm(points[inside] - there, axis=-1).max() < 0.003


def test_a_mask_comes_back_where_it_was():
    mask = np.zeros((240, 320), np.uint8)
    mask[50:90, 220:280] = 1
    crop = look_at_box(BOX, CAMERA, 128)
    back = crop.paste(crop.cut(mask, nearest=True))
    assert ((mask > 0) & (back > 0)).sum() / ((mask > 0) | (back > 0)).sum() > 0.95


def test_what_lies_beyond_the_image_takes_the_fill():
    crop = look_at_box(np.array([-60.0, -60, 40, 40]), CAMERA, 32)
    picture = crop.cut(np.zeros((240, 320, 3), np.uint8), fill=(9, 8, 7))
    assert tuple(picture[0, 0]) == (9, 8, 7) and tuple(picture[-1, -1]) == (0, 0, 0)


def test_hidden_background_is_grey():
    picture = np.zeros((4, 4, 3), np.uint8)
    hidden = hide_background(picture, np.eye(4, dtype=bool))
    assert (hidden[0, 1] == 128).all() and (hidden[1, 1] == 0).all()


def test_an_empty_box_is_refused():
    with pytest.raises(InputError, match="empty"):
        look_at_box(np.array([10.0, 10, 10, 20]), CAMERA, 32)
    with pytest.raises(InputError, match="empty"):
        look_at_box(np.array([10.0, np.nan, 20, 20]), CAMERA, 32)
