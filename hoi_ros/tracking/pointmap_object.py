"""What is known of an object that is followed by colour alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hoi_ros.tracking.pointmap_grip import RigidGrip
from hoi_ros.tracking.pointmap_stream import StreamView
from hoi_ros.tracking.pointmap_structure import PosePrior


@dataclass
class KeyView:
    """A view whose observations are adjusted."""

    T_camera_object: np.ndarray
    prior: PosePrior
    points: np.ndarray
    """(M,) numbers of the points seen."""
    pixels: np.ndarray
    """(M, 2)."""
    view: StreamView | None = None
    """What the pairwise network is shown of it."""


class FollowedObject:
    """The followed thing: points with their certainty, where they were last seen, and key views."""

    def __init__(self, object_id: int, pose: np.ndarray) -> None:
        self.object_id, self.pose = object_id, pose
        self.met_at = pose
        """(4, 4) its first pose."""
        self.points, self.prior = np.zeros((0, 3)), np.zeros((0, 3))
        self.information, self.prior_information = np.zeros((0, 3, 3)), np.zeros((0, 3, 3))
        self.pixels = np.zeros((0, 2))
        self.alive = np.zeros(0, bool)
        self.keyframes: list[KeyView] = []
        """The last ones, which are adjusted together."""
        self.sides: list[KeyView] = []
        """Those that showed a new side, for the network."""
        self.mask: np.ndarray | None = None
        self.motion = np.eye(4)
        self.carried = pose
        """(4, 4) where the hand alone would have carried it in the last frame."""
        self.travelled = 0.0
        """Radians of all its turning since it was met, forth and back."""
        self.spin = np.zeros(3)
        """(3,) radians a frame that it lately turned beyond the hand, camera axes."""
        self.shares = np.zeros(0)
        """Its colours, see `color_shares`."""
        self.wrists: dict[int, np.ndarray] = {}
        self.holder: int | None = None
        self.anchor: np.ndarray | None = None
        """(3,) where the middle lies in the holder's wrist frame; a thing turned by the fingers keeps it."""
        self.grip = RigidGrip()
        self.starved, self.missing, self.followed = 0, 0, 0
        """Frames in a row with too few followed points, and without a mask; all frames with enough points."""
        self.lost, self.lost_frames = False, 0
        self.middle = np.zeros(3)
        """(3,) the object's middle, half its width behind its first surface; object frame."""
        self.centroid = np.zeros(2)
        """(2,) middle of the last mask, pixels."""
