"""What is known of an object that is followed by colour alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hoi_ros.datatypes import CameraIntrinsics, HandEstimate
from hoi_ros.geometry import invert_transform, nearest_rigid, rotation_angle
from hoi_ros.tracking.grip import CARRY_FRAMES, SURE_FRAMES, Grip
from hoi_ros.tracking.pointmap_grip import RigidGrip
from hoi_ros.tracking.pointmap_loops import FoundAgain, OldViews
from hoi_ros.tracking.pointmap_places import mask_at, middle_and_width, shown_at
from hoi_ros.tracking.pointmap_scale import HeldScale
from hoi_ros.tracking.pointmap_stream import StreamView
from hoi_ros.tracking.pointmap_structure import PosePrior, projected

PLAIN = "from colour alone: size and distance are the hand's"
CARRIED = "from colour alone: too plain or too fast to be followed itself, taken to move with the hand"
HIDDEN = "from colour alone: the hand hides it, and its fingers keep still: taken to be where it held it"
AGREE_PX = 3.0
"""How far from an old view's pose a followed point may show to be followed on."""
SAME_HOLD = 0.03, np.radians(25.0)
"""How far apart (m, rad) it may be tracked in fingers that keep still: farther than with depth."""
COVERED_SHARE, DOUBT_RAD = 0.5, 0.02
"""Of the points of a hidden thing as many lie behind its hand; the turn is less sure by so much each such frame."""


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
        self.scale = HeldScale()
        self.shape_begun = False
        """Whether a key view was told to those who fuse shape: not before the scale stays."""
        self.points, self.prior = np.zeros((0, 3)), np.zeros((0, 3))
        self.information, self.prior_information = np.zeros((0, 3, 3)), np.zeros((0, 3, 3))
        self.pixels = np.zeros((0, 2))
        self.alive = np.zeros(0, bool)
        self.keyframes: list[KeyView] = []
        """The last ones, which are adjusted together."""
        self.sides: list[KeyView] = []
        """Those that showed a new side, for the network."""
        self.old_views = OldViews()
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
        """(3,) where the middle lies in the frame of the holder's grasp; a thing turned by the fingers keeps it."""
        self.grip = RigidGrip()
        self.hold = Grip(*SAME_HOLD, patience=SURE_FRAMES)
        self.starved, self.missing, self.followed = 0, 0, 0
        """Frames in a row with too few followed points, and without a mask; all frames with enough points."""
        self.plain = 0
        """Frames in which it showed and still fingers alone said where it was, since they hid it or it was followed."""
        self.lost, self.lost_frames = False, 0
        self.middle = np.zeros(3)
        """(3,) the object's middle, half its width behind its first surface; object frame."""
        self.centroid = np.zeros(2)
        """(2,) middle of the last mask, pixels."""

    def held_still(self, hands: Sequence[HandEstimate]) -> np.ndarray | None:
        """(4, 4) where the fingers have it that held it when last followed; None: they moved, or it is too long ago."""
        return None if self.starved > CARRY_FRAMES else self.hold.pose(hands)

    def strayed(self, prior: PosePrior, mask: np.ndarray, camera: CameraIntrinsics) -> bool:
        """True when a mask (H, W) lies farther from where its middle should show than it is wide."""
        middle, width_px = middle_and_width(mask)
        return bool(np.linalg.norm(shown_at(prior.T_camera_object, prior.middle_object, camera) - middle) > width_px)

    def lies_in(self, mask: np.ndarray, pose: np.ndarray, camera: CameraIntrinsics) -> bool:
        """Whether most of its points show in a mask (H, W) bool under a pose (4, 4)."""
        if not len(self.points):
            return False
        return bool(mask_at(mask, projected(self.points, pose, camera)[0]).mean() >= COVERED_SHARE)

    def seen_before(
        self, pose: np.ndarray, gray: np.ndarray, where: np.ndarray, camera: CameraIntrinsics
    ) -> FoundAgain | None:
        """Where old points show that can be followed no longer; arguments as `OldViews.find`."""
        return self.old_views.find(pose, self.middle, self.points, self.alive, gray, where, camera, lost=True)

    def close_loop(self, gray: np.ndarray, where: np.ndarray, camera: CameraIntrinsics) -> bool:
        """Go by an old view's points from here on, should one show again; true if so.

        Args:
            gray: (H, W) uint8 of this frame, whose pose and pixels are known as followed.
            where: (H, W) bool where the points may show.
            camera: intrinsics.
        """
        found = self.old_views.find(self.pose, self.middle, self.points, self.alive, gray, where, camera)
        if found is None:
            return False
        drift = float(rotation_angle(found.T_camera_object[:3, :3] @ self.pose[:3, :3].T))
        self.travelled = min(self.travelled, found.view.travelled + drift)
        self.pose = found.T_camera_object
        # What was met since lies where the drift put it: only what agrees stays.
        shown = projected(self.points, self.pose, camera)[0]
        self.alive &= np.linalg.norm(shown - self.pixels, axis=1) < AGREE_PX
        self.alive[found.points], self.pixels[found.points] = True, found.pixels
        then = found.view.T_camera_object
        firm = PosePrior(then, 1e-4, np.full(3, 1e-5), self.middle)
        self.keyframes = [KeyView(then, firm, found.view.points, found.view.pixels)]
        return True

    def carry(self, pose: np.ndarray, hands: Sequence[HandEstimate]) -> None:
        """Move to a pose (4, 4) that only the hand knows; no point is followed on."""
        self.motion = pose @ invert_transform(self.pose)
        self.travelled += float(rotation_angle(self.motion[:3, :3])) + DOUBT_RAD
        self.pose = self.carried = nearest_rigid(pose)
        self.spin, self.alive = np.zeros(3), np.zeros(len(self.points), bool)
        self.lost, self.lost_frames, self.plain = False, 0, 0
        self.remember_wrists(hands)

    def remember_wrists(self, hands: Sequence[HandEstimate]) -> None:
        """Where the hands are, for the next frame's steps."""
        self.wrists = {hand.track_id: np.asarray(hand.T_camera_wrist, np.float64) for hand in hands}
