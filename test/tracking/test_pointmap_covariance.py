"""What colour alone states of its doubt about the place: the hand's distance, when met and now."""

from __future__ import annotations

import numpy as np
import scenes
from pytest import approx

from hoi_ros.tracking.pointmap_object import FollowedObject
from hoi_ros.tracking.pointmap_points import pose_covariance

AWAY_M, SHARE = 0.6, 0.1


def sigmas(turn_deg: float) -> np.ndarray:
    """(3,) metres along the camera's axes, of a thing straight ahead that has turned about the vertical."""
    track = FollowedObject(0, scenes.pose((0, 0, 0), (0, 0, AWAY_M)))
    track.pose = scenes.pose((0, turn_deg, 0), (0, 0, AWAY_M))
    covariance = pose_covariance(track)[:3, :3]
    assert np.linalg.eigvalsh(covariance).min() > 0 and np.allclose(covariance, covariance.T)
    return np.sqrt(np.diag(covariance))


def test_as_met_the_doubt_lies_along_the_ray():
    across, up, along = sigmas(0)
    assert along == approx(SHARE * AWAY_M, rel=0.02) and max(across, up) < 0.2 * along


def test_after_half_a_turn_both_errors_add_up_along_the_ray():
    across, up, along = sigmas(180)
    assert along == approx(np.sqrt(3) * SHARE * AWAY_M, rel=0.02) and max(across, up) < 0.2 * along


def test_a_quarter_turn_shows_the_first_distance_s_error_as_a_shift():
    across, up, along = sigmas(90)
    assert across == approx(along, rel=0.02) and up < 0.2 * across
