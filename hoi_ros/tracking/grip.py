"""How a hand holds an object: where the object is while the hand hides nearly all of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hoi_ros.datatypes import HandEstimate
from hoi_ros.geometry import invert_transform, rotation_angle, so3_exp, so3_log, transform_points

BLEND = 0.3
"""Share of the newest frame: a fitted hand wavers by some degrees."""
SAME_M, SAME_RAD, FINGERS_M = 0.015, np.radians(15.0), 0.02
"""Beyond these the object has slipped, or the fingers have moved, and it is held anew."""
CARRY_FRAMES = 90
"""Frames in a row for which the hand alone is believed to hold what is not seen."""
SURE_FRAMES = 5
"""Frames that must agree."""


class Grip:
    """The pose of a held object in its hand, from frames that showed it well."""

    def __init__(self, same_m: float = SAME_M, same_rad: float = SAME_RAD, patience: int = 0) -> None:
        """Start with nothing held.

        Args:
            same_m: how far poses in the hand may lie apart. same_rad: likewise.
            patience: frames in a row that may lie farther apart while the fingers keep still, before it has slipped.
        """
        self._same_m, self._same_rad, self._patience = same_m, same_rad, patience
        self.forget()

    def forget(self) -> None:
        """It is not held any longer."""
        self._hand_track_id = -1
        self._T_hand_object = np.eye(4)
        self._fingers = np.zeros((21, 3))
        self._frames, self._others = 0, 0

    def learn(self, hand: HandEstimate | None, T_camera_object: np.ndarray) -> None:
        """Take in a frame that shows the object (4, 4) well and the hand that holds it; None when none does."""
        if hand is None:
            self.forget()
            return
        pose, fingers = _in_hand(hand, T_camera_object)
        moved = hand.track_id != self._hand_track_id or _mean_distance(fingers, self._fingers) > FINGERS_M
        self._others = self._others + 1 if self._is_other(pose) else 0
        if moved or self._others > self._patience:
            self._hand_track_id, self._T_hand_object, self._fingers = hand.track_id, pose, fingers
            self._frames, self._others = 1, 0
            return
        if self._others:
            return
        turn = so3_log(self._T_hand_object[:3, :3].T @ pose[:3, :3])
        self._T_hand_object[:3, :3] = self._T_hand_object[:3, :3] @ so3_exp(BLEND * turn)
        self._T_hand_object[:3, 3] += BLEND * (pose[:3, 3] - self._T_hand_object[:3, 3])
        self._fingers += BLEND * (fingers - self._fingers)
        self._frames += 1

    def pose(self, hands: Sequence[HandEstimate]) -> np.ndarray | None:
        """(4, 4) T_camera_object by the hand; None while it is unknown, gone, or its fingers have moved."""
        for hand in hands:
            if hand.track_id == self._hand_track_id and self._frames >= SURE_FRAMES:
                _, fingers = _in_hand(hand, np.eye(4))
                if _mean_distance(fingers, self._fingers) < FINGERS_M:
                    return np.asarray(hand.T_camera_wrist, np.float64) @ self._T_hand_object
        return None

    def correct(self, change: np.ndarray) -> None:
        """The object's frame moved: poses are to be multiplied by `change` (4, 4) from the right."""
        self._T_hand_object = self._T_hand_object @ change

    def _is_other(self, pose: np.ndarray) -> bool:
        away = float(np.linalg.norm(pose[:3, 3] - self._T_hand_object[:3, 3]))
        turned = float(rotation_angle(pose[:3, :3].T @ self._T_hand_object[:3, :3]))
        return away > self._same_m or turned > self._same_rad


def _in_hand(hand: HandEstimate, T_camera_object: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pose (4, 4) of the object and the hand's joints (21, 3), both in the wrist's frame."""
    T_hand_camera = invert_transform(np.asarray(hand.T_camera_wrist, np.float64))
    return T_hand_camera @ T_camera_object, transform_points(T_hand_camera, hand.joints_camera)


def _mean_distance(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.linalg.norm(first - second, axis=1).mean())
