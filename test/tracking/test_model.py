"""The model keeps what little is sure of a thing seen from afar."""

import numpy as np
import pytest
import scenes
from scenes import CAMERA

from hoi_ros.tracking import TrackerConfig
from hoi_ros.tracking import model as model_module
from hoi_ros.tracking.features import feature_images
from hoi_ros.tracking.model import SURE, SurfelModel, _grouped
from hoi_ros.tracking.patch import cut_patch


def model_with(confidence: np.ndarray) -> SurfelModel:
    model = SurfelModel(TrackerConfig())
    count = len(confidence)
    model._points[:count] = np.random.default_rng(0).uniform(-0.05, 0.05, (count, 3))
    model._confidence[:count], model._used = confidence, count
    return model


def test_a_few_sure_surfels_do_not_drop_the_others():
    young = np.full(3000, 0.6)
    assert len(model_with(young).points) == 3000
    young[:150] = SURE + 0.1
    assert len(model_with(young).points) == 3000


def test_a_grown_model_leaves_out_what_is_unsure():
    grown = np.concatenate([np.full(2000, 3 * SURE), np.full(500, 0.5)])
    assert len(model_with(grown).points) == 2000
    assert len(model_with(np.zeros(0)).points) == 0


def fused(views: int) -> tuple[SurfelModel, int]:
    """A box near the camera, seen so often from one place; and the pixels that it covers."""
    T = scenes.pose((10, 20, 5), (0.0, 0.0, 0.3))
    frame = scenes.frame(scenes.box_layer(T))
    patch = cut_patch(frame, frame.depth_m, np.array([0, 0, CAMERA.width, CAMERA.height], float), 10**6)
    mask = (patch.depth_m > 0) & (patch.depth_m < 0.5)
    model = SurfelModel(TrackerConfig())
    for _ in range(views):
        model.fuse(patch, mask, feature_images(patch, mask, 0.3), T)
    return model, int(mask.sum())


def test_of_a_large_mask_some_pixels_are_fused_in_turn_and_all_of_the_surface_comes(monkeypatch):
    few, pixels = fused(6)
    assert pixels > model_module.FUSED_PIXELS
    monkeypatch.setattr(model_module, "FUSED_PIXELS", 10**6)
    every, _ = fused(6)
    assert len(few) > 0.97 * len(every)
    apart = np.linalg.norm(few.points[:, None] - every.points[None, ::20], axis=2).min(0)
    assert np.median(apart) < 0.0005
    assert few._confidence.max() == pytest.approx(every._confidence.max(), rel=0.05), "a view counts once"


def test_rows_are_grouped_as_unique_does():
    rows = np.random.default_rng(2).integers(0, 50, 200)
    touched, index = _grouped(rows, 60)
    expected = np.unique(rows, return_inverse=True)
    np.testing.assert_array_equal(touched, expected[0])
    np.testing.assert_array_equal(index, expected[1])
