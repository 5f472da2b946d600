"""Where a held object should be in the next frame, before its own pixels are followed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hoi_ros.datatypes import CameraIntrinsics, HandEstimate
from hoi_ros.geometry import invert_transform, make_transform, nearest_rigid, so3_exp, transform_points
from hoi_ros.tracking.pointmap_config import ColorTrackerConfig
from hoi_ros.tracking.pointmap_object import FollowedObject
from hoi_ros.tracking.pointmap_places import middle_and_width, shown_at, unprojected
from hoi_ros.tracking.pointmap_structure import PosePrior

GRASP_PULL, MASK_STEP, MASK_PULL, SPIN_KEPT = 0.9, 0.3, 0.1, 0.8


def first_guess(
    track: FollowedObject, hands: Sequence[HandEstimate], mask: np.ndarray, camera: CameraIntrinsics,
    config: ColorTrackerConfig,
) -> PosePrior:  # fmt: skip
    """Carried by the hand that holds it, else moving on as before; its middle follows the mask's.

    Args:
        track: the object as of the last frame; where the hand alone carries it, and the mask's middle, are noted there.
        hands: of this frame.
        mask: (H, W) bool pixels of the object in this frame.
        camera: intrinsics.
        config: settings.
    """
    pose, holder = track.motion @ track.pose, None
    for hand in hands:
        before = track.wrists.get(hand.track_id)
        if before is not None and hand.track_id == track.holder:
            pose, holder = hand.T_camera_wrist @ invert_transform(before) @ track.pose, hand
    middle = transform_points(pose, track.middle[None])[0]
    track.carried, turn = pose, so3_exp(SPIN_KEPT * track.spin)
    pose = make_transform(turn @ pose[:3, :3], turn @ (pose[:3, 3] - middle) + middle)
    wanted = middle.copy()
    if holder is not None and track.anchor is not None:  # steps alone would drift away from the grasp
        wanted += GRASP_PULL * (transform_points(holder.T_camera_wrist, track.anchor[None])[0] - middle)
    if mask.sum() >= config.min_object_px:
        # A thing that turns on the spot keeps its outline: this tells a turn from a shift.
        centroid, _ = middle_and_width(mask)
        moved = shown_at(track.pose, track.middle, camera) + centroid - track.centroid
        carried = shown_at(np.eye(4), wanted, camera)
        aim = carried + MASK_STEP * (moved - carried)
        aim = aim + MASK_PULL * (centroid - aim)
        wanted = unprojected(aim[None], wanted[2], camera)[0]
        track.centroid = centroid
    pose = pose.copy()
    pose[:3, 3] += wanted - middle
    return pose_prior(track, pose, config)


def pose_prior(
    track: FollowedObject, pose: np.ndarray, config: ColorTrackerConfig, looseness: float = 1.0
) -> PosePrior:
    """Belief in a pose (4, 4), as loose as a hand's step from frame to frame is, or `looseness` times that."""
    shift = config.hand_shift_m * looseness * np.array([1.0, 1.0, 2.0])
    return PosePrior(nearest_rigid(pose), float(np.radians(config.hand_turn_deg) * looseness), shift, track.middle)
