"""A second opinion on where a thing is that colour alone follows: as its hand would carry it if it held it rigidly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hoi_ros.datatypes import HandEstimate
from hoi_ros.geometry import invert_transform, make_transform, so3_exp, so3_log, transform_points

SHARE = 0.5
"""How far the pose goes to where the hand has it."""
AGREE_RAD, APART_RAD = np.radians(25.0), np.radians(50.0)
"""Up to the first the two are averaged; beyond the second the fingers turn the thing, and the hand says nothing."""


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
