"""A held object whose known sides are hidden or turned away, while others are in sight: the hand carries it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hoi_ros.datatypes import HandEstimate
from hoi_ros.geometry import transform_points
from hoi_ros.tracking.config import TrackerConfig
from hoi_ros.tracking.grip import CARRY_FRAMES
from hoi_ros.tracking.likeness import MIN_LIKENESS
from hoi_ros.tracking.model import Rendering
from hoi_ros.tracking.track import Track, View

CARRIED_M = 0.01
"""How far off an object is that the hand alone carries."""
CARRIED = "what is known of it is out of sight: the hand that shows other sides of it carries it"
HIDDEN = "the hand hides it: it is where the hand held it"
HIDDEN_SHARE = 0.12
"""Share of the known surface in sight, below which the hand knows better where it is."""
SEEN_THROUGH_M, SEEN_THROUGH = 0.02, 0.3
"""So far behind the object the picture shows something else at so large a share of its place: there it is not."""
BEYOND_M = 0.03
"""How far beyond the model its other sides may reach."""


def carried_view(
    track: Track, hands: Sequence[HandEstimate], view: View, config: TrackerConfig
) -> tuple[np.ndarray, np.ndarray, str] | None:
    """Pose (4, 4) and pixels (h, w) bool of an object that its hand has carried on, and a word on why it had to.

    Args:
        track: the object as it was last seen.
        hands: hands of the frame.
        view: the frame's crop.
        config: smallest object.

    Returns:
        None where no hand is known to hold it, or has for too long, or neither hides it nor shows what looks like it.
    """
    pose, held = track.carried_pose(hands), track.grip.pose(hands)
    if pose is None or track.carried_frames >= CARRY_FRAMES:
        return None
    mask = _touched(track, hands, view, pose)
    hidden = held is not None and is_hidden(track.model.render(held, view.patch), mask, view)
    if hidden and held is not None:  # what little shows would let it drift from frame to frame
        pose, mask = held, _touched(track, hands, view, held)
    shows = mask.sum() * view.patch.stride**2 >= config.min_object_px / 2
    if shows and track.likeness(view.patch, mask) >= MIN_LIKENESS:
        return pose, mask, HIDDEN if hidden else CARRIED
    return (pose, np.zeros_like(mask), HIDDEN) if hidden else None


def is_hidden(rendering: Rendering, mask: np.ndarray, view: View) -> bool:
    """Does the hand cover nearly all of the known surface, with hardly any of the object (h, w) bool in sight?

    Not where the picture shows what lies behind: there the object has gone.
    """
    there = np.isfinite(rendering.depth_m)
    beyond = there & ~view.hand_mask & (view.patch.depth_m > rendering.depth_m + SEEN_THROUGH_M)
    count = int(there.sum())
    return count > 0 and bool(mask.sum() < HIDDEN_SHARE * count and beyond.sum() < SEEN_THROUGH * count)


def _touched(track: Track, hands: Sequence[HandEstimate], view: View, pose: np.ndarray) -> np.ndarray:
    """(h, w) bool: what the holding hand touches where the object should be."""
    middle = transform_points(pose, track.middle[None])[0]
    return view.within(track.touched(hands, view), middle, track.radius_m + BEYOND_M)
