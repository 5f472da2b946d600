"""The held object's tracker for any camera: by depth where there is any, from colour alone until the first comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from hoi_ros.datatypes import HandEstimate, ObjectObservation, RgbdFrame
from hoi_ros.tracking.config import TrackerConfig
from hoi_ros.tracking.pointmap_config import ColorTrackerConfig
from hoi_ros.tracking.pointmap_hull import ColorDepth
from hoi_ros.tracking.pointmap_intrinsics import FocalEstimate
from hoi_ros.tracking.pointmap_tracker import ColorTracker
from hoi_ros.tracking.tracker import ObjectTracker


class HeldObjectTracker:
    """`ObjectTracker` once a frame had depth, `ColorTracker` before; same face as both.

    A camera that gave depth and then fails to is waited for. Object ids go on from one tracker to the other.
    """

    def __init__(self, config: TrackerConfig | None = None, device: str = "auto", *, live: bool = False) -> None:
        """Prepare both trackers; `config` and `live` are of the one with depth, see `ObjectTracker`."""
        self.by_depth = ObjectTracker(config, device, live=live)
        self.from_color = ColorTracker(ColorTrackerConfig(network=config.pointmap_network if config else ""), device)
        self._color_depth = ColorDepth()
        self._depth_seen = False

    def reset(self) -> None:
        """Forget the object, and whether the camera gives depth; the next object gets a new id."""
        self.by_depth.reset()
        self.from_color.reset()
        self._color_depth.reset()
        self._depth_seen = False

    @property
    def focal(self) -> FocalEstimate | None:
        """What colour alone says of a guessed focal length; None where it was given, or nothing is known yet."""
        return self.from_color.focal

    def close(self) -> None:
        """End the threads."""
        self.by_depth.close()

    def track(
        self, frame: RgbdFrame, hands: Sequence[HandEstimate] = (), *,
        hand_faces: Mapping[str, np.ndarray] | None = None, init_mask: np.ndarray | None = None,
    ) -> ObjectObservation:  # fmt: skip
        """Find the object in the next frame; arguments, states and errors as `ObjectTracker.track`.

        From colour alone the observation brings, now and then, a depth of its own for what it tracks.
        """
        self._depth_seen |= frame.depth_m is not None
        if not self._depth_seen:
            seen = self.from_color.track(frame, hands, hand_faces=hand_faces, init_mask=init_mask)
            pointmap = self.from_color.pointmap() if seen.is_keyframe else None
            depth = self._color_depth.depth(frame, seen, self.from_color.middle_object, pointmap)
            return replace(seen, own_depth_m=depth)
        seen = self.by_depth.track(frame, hands, hand_faces=hand_faces, init_mask=init_mask)
        return replace(seen, object_id=seen.object_id + self.from_color.objects_met)
