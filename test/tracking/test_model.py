"""The model keeps what little is sure of a thing seen from afar."""

import numpy as np

from hoi_ros.tracking import TrackerConfig
from hoi_ros.tracking.model import SURE, SurfelModel


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
