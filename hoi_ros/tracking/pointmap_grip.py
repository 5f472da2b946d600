"""Where a hand carries what it holds: a second opinion on a thing that colour alone follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hoi_ros.datatypes import HandEstimate
from hoi_ros.geometry import fit_similarity, invert_transform, make_transform, so3_exp, so3_log, transform_points

SHARE = 0.5
"""How far the pose goes to where the hand has it."""
AGREE_RAD, APART_RAD = np.radians(35.0), np.radians(70.0)
"""Up to the first the two are averaged; beyond the second the fingers turn the thing, and the hand says nothing."""
_MOST_HANDS = 8


class GraspFrames:
    """Frames of hands that move as all their joints do: fingers turn what they hold where the wrist keeps still."""

    def __init__(self) -> None:
        self._joints: dict[int, np.ndarray] = {}

    def of(self, hands: Sequence[HandEstimate], *, holding: bool) -> list[HandEstimate]:
        """Hands with that frame in place of the wrist's; the two are one as long as nothing is held.

        Args:
            hands: of this frame.
            holding: something is held; a hand's joints (21, 3) are fitted to those it had when this began.
        """
        if not holding:
            self._joints = {}
        out = []
        for hand in hands:
            if hand.track_id not in self._joints:
                wrist = invert_transform(np.asarray(hand.T_camera_wrist, np.float64))
                self._joints[hand.track_id] = transform_points(wrist, np.asarray(hand.joints_camera, np.float64))
            joints = self._joints[hand.track_id] = self._joints.pop(hand.track_id)
            _, turn, shift = fit_similarity(joints, np.asarray(hand.joints_camera, np.float64), with_scale=False)
            out.append(replace(hand, T_camera_wrist=make_transform(turn, shift)))
        while len(self._joints) > _MOST_HANDS:  # those not seen for longest
            self._joints.pop(next(iter(self._joints)))
        return out


class RigidGrip:
    """Averages a tracked pose with the hand's: the one drifts, the other wavers, and their errors are not the same."""

    def __init__(self) -> None:
        self._hand_track_id: int | None = None
        self._T_hand_object = np.eye(4)
        self.apart_rad = 0.0
        """How far the tracked turn lay from the hand's when last asked: turned by the fingers, or not at all."""

    def averaged(
        self,
        T_camera_object: np.ndarray,
        middle_object: np.ndarray,
        hands: Sequence[HandEstimate],
        holder: int | None,
    ) -> np.ndarray:
        """The tracked pose (4, 4) moved towards the hand's; a new holder is believed to hold it as it is tracked now.

        Args:
            T_camera_object: (4, 4) as tracked.
            middle_object: (3,) metres, object frame: the point about which it is turned.
            hands: hands of the frame.
            holder: track id of the hand that holds it; None: none.
        """
        hand = next((hand for hand in hands if hand.track_id == holder), None)
        if hand is None:
            return T_camera_object.copy()
        T_camera_hand = np.asarray(hand.T_camera_wrist, np.float64)
        if hand.track_id != self._hand_track_id:
            self._hand_track_id, self._T_hand_object = hand.track_id, invert_transform(T_camera_hand) @ T_camera_object
        carried = T_camera_hand @ self._T_hand_object
        turn = so3_log(carried[:3, :3] @ T_camera_object[:3, :3].T)
        self.apart_rad = float(np.linalg.norm(turn))
        share = SHARE * float(np.clip((APART_RAD - self.apart_rad) / (APART_RAD - AGREE_RAD), 0, 1))
        middle, wanted = (transform_points(pose, middle_object[None])[0] for pose in (T_camera_object, carried))
        rotation = so3_exp(share * turn) @ T_camera_object[:3, :3]
        return make_transform(rotation, middle + share * (wanted - middle) - rotation @ middle_object)
