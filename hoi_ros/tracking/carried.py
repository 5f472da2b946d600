"""A held object whose known sides are hidden or turned away, while others are in sight: the hand carries it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hoi_ros.datatypes import HandEstimate
from hoi_ros.geometry import invert_transform, transform_points
from hoi_ros.tracking.config import TrackerConfig
from hoi_ros.tracking.masks import grasp_components
from hoi_ros.tracking.track import Track, View

MIN_LIKENESS = 0.3
"""Share of its colours that what is in the grasp must show, to be taken for the object's other sides."""


def carried_pose(track: Track, hands: Sequence[HandEstimate]) -> np.ndarray | None:
    """(4, 4) where the hand that held the object has carried it; None where no hand is known to hold it."""
    for hand in hands:
        before = track.wrists.get(hand.track_id)
        if before is not None and hand.track_id == track.hand_track_id:
            return hand.T_camera_wrist @ invert_transform(before) @ track.T_camera_object
    return None


def carried_mask(
    track: Track, hands: Sequence[HandEstimate], view: View, pose: np.ndarray, config: TrackerConfig
) -> np.ndarray:
    """(h, w) bool: what the holding hand touches where the object should be."""
    holder = [hand for hand in hands if hand.track_id == track.hand_track_id]
    mask = grasp_components(holder, view.candidates, view.patch, config)
    middle = transform_points(pose, track.middle[None])[0]
    away = view.patch.points[mask] - middle
    mask[mask] = np.einsum("nk,nk->n", away, away) < (track.radius_m + 0.03) ** 2
    return mask
