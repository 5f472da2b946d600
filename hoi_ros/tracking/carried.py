"""A held object whose known sides are hidden or turned away, while others are in sight: the hand carries it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hoi_ros.datatypes import HandEstimate
from hoi_ros.geometry import transform_points
from hoi_ros.tracking.config import TrackerConfig
from hoi_ros.tracking.likeness import MIN_LIKENESS
from hoi_ros.tracking.track import Track, View

CARRY_FRAMES, CARRIED_M = 60, 0.01
"""Frames in a row that the hand alone may carry an object, and how far off that is."""
CARRIED = "what is known of it is out of sight: the hand that shows other sides of it carries it"
BEYOND_M = 0.03
"""How far beyond the model its other sides may reach."""


def carried_view(
    track: Track, hands: Sequence[HandEstimate], view: View, config: TrackerConfig
) -> tuple[np.ndarray, np.ndarray] | None:
    """Pose (4, 4) and pixels (h, w) bool of an object that its hand has carried on.

    Args:
        track: the object as it was last seen.
        hands: hands of the frame.
        view: the frame's crop.
        config: smallest object.

    Returns:
        None where no hand is known to hold it, or has for too long, or shows nothing that looks like it there.
    """
    pose = track.carried_pose(hands)
    if pose is None or track.carried_frames >= CARRY_FRAMES:
        return None
    middle = transform_points(pose, track.middle[None])[0]
    mask = view.within(track.touched(hands, view), middle, track.radius_m + BEYOND_M)
    if mask.sum() * view.patch.stride**2 < config.min_object_px / 2:
        return None
    return (pose, mask) if track.likeness(view.patch.color, mask) >= MIN_LIKENESS else None
