"""Depth from the network's pointmap and the outline: each pixel's by its confidence, nothing beside the mask."""

from __future__ import annotations

import numpy as np
import pytest
from scenes import CAMERA, box_layer, pose

from hoi_ros.tracking.pointmap_crop import look_at_box
from hoi_ros.tracking.pointmap_relief import (
    CONFIDENCE_ALPHA,
    HAND_SHARE,
    ConfidentDepth,
    joined_depth,
    outline_depth,
    pointmap_depth,
)
from hoi_ros.tracking.pointmap_stream import StreamView

HALF = np.array([0.05, 0.035, 0.025])


def seen_box():
    true = box_layer(pose((15, 40, 10), (0.05, -0.02, 0.45)), HALF)[0]
    return np.isfinite(true), np.where(np.isfinite(true), true, 0.45).astype(np.float32)


def view_of(mask: np.ndarray, depth_m: float = 0.45) -> StreamView:
    rows, columns = np.nonzero(mask)
    crop = look_at_box(np.array([columns.min(), rows.min(), columns.max(), rows.max()]), CAMERA, 128, margin=1.2)
    return StreamView(1, crop, np.zeros((128, 128, 3), np.uint8), crop.cut(mask.astype(np.uint8)) > 0, depth_m)


def test_a_pointmap_comes_back_where_it_was_seen():
    mask, true = seen_box()
    view = view_of(mask)
    along = view.crop.depth_along_crop(view.crop.cut(true))
    half_m = view.depth_m * view.crop.half_tangent
    found = pointmap_depth(view, (along - view.depth_m) / half_m, np.full((128, 128), 4.0))
    assert np.percentile(np.abs(found.depth_m - true)[mask], 95) < 0.002
    np.testing.assert_allclose(found.sigma_m[mask], CONFIDENCE_ALPHA / 4 * half_m, rtol=1e-4)
    assert found.depth_m[0, 0] == 0, "nothing is known outside of the crop"


def test_each_pixel_has_the_relief_of_the_more_confident():
    mask, true = seen_box()
    left = mask & (np.arange(mask.shape[1]) < np.median(np.nonzero(mask)[1]))
    network = ConfidentDepth(true, np.where(left, 0.001, 1.0).astype(np.float32))
    outline = outline_depth(mask, 0.46, CAMERA)
    depth = joined_depth(network, outline, mask)
    for part, owner in ((left, network.depth_m), (mask & ~left, outline.depth_m)):
        assert np.ptp((depth - owner)[part]) < 0.001
    assert (depth[~mask] == 0).all(), "what is no object has no depth"


def test_the_distance_lies_between_the_hand_s_and_the_tracked_one():
    mask, true = seen_box()
    outline = outline_depth(mask, 0.5, CAMERA)
    depth = joined_depth(ConfidentDepth(true, np.full(mask.shape, np.float32(0.001))), outline, mask)
    apart = np.median((outline.depth_m - true)[mask])
    assert apart > 0.01
    assert np.median((depth - true)[mask]) == pytest.approx((1 - HAND_SHARE) * apart, abs=1e-3)


def test_where_the_network_says_nothing_the_outline_does():
    mask, true = seen_box()
    outline = outline_depth(mask, 0.45, CAMERA)
    silent = ConfidentDepth(np.zeros_like(true), np.zeros_like(true))
    np.testing.assert_array_equal(joined_depth(silent, outline, mask), outline.depth_m)
    half = ConfidentDepth(np.where(np.arange(mask.shape[0])[:, None] < 100, true, 0), silent.sigma_m)
    depth = joined_depth(half, outline, mask)
    assert ((depth > 0.3) == mask).all() and np.isfinite(depth).all()


def test_an_outline_is_rounded_towards_the_camera():
    mask, _ = seen_box()
    depth = outline_depth(mask, 0.45, CAMERA).depth_m
    assert (depth[~mask] == 0).all() and depth[mask].max() <= 0.45
    rows, columns = np.nonzero(mask)
    middle = depth[int(rows.mean()), int(columns.mean())]
    assert 0.01 < 0.45 - middle < 0.06 and middle == pytest.approx(depth[mask].min(), abs=0.005)
