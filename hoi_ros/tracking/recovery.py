"""Where a lost object may be: guesses from keyframes, hands and free-standing parts of the scene."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hoi_ros.geometry import make_transform, so3_exp
from hoi_ros.tracking.alignment import AlignmentTarget, ReferenceCloud, coarse_align
from hoi_ros.tracking.config import TrackerConfig
from hoi_ros.tracking.keyframes import Keyframe

TURNS_RAD = np.radians(25.0) * np.array(
    [[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], float
)


def recovery_guesses(
    keyframes: Sequence[Keyframe], anchors: Sequence[np.ndarray], centers: Sequence[np.ndarray]
) -> list[tuple[np.ndarray, ReferenceCloud]]:
    """Poses to try, each with the view that should be seen there.

    Args:
        keyframes: known views of the object.
        anchors: poses (4, 4) that are likely by themselves: carried by the hand, or the last one seen.
        centers: (3,) metres, optical frame: middles of visible parts that might be the object.

    Returns:
        (T_camera_object, cloud) pairs: the anchors turned a little, then every keyframe's view at every centre.
    """
    guesses = []
    for anchor in anchors:
        nearest = min(keyframes, key=lambda k: -np.trace(k.T_camera_object[:3, :3].T @ anchor[:3, :3]))
        middle = nearest.cloud.points.mean(0)
        for turn in so3_exp(TURNS_RAD):
            rotation = turn @ anchor[:3, :3]
            guesses.append((_placed(rotation, middle, anchor[:3, :3] @ middle + anchor[:3, 3]), nearest.cloud))
    for center in centers:
        for keyframe in keyframes:
            middle = keyframe.cloud.points.mean(0)
            guesses.append((_placed(keyframe.T_camera_object[:3, :3], middle, center), keyframe.cloud))
    return guesses


def _placed(rotation: np.ndarray, middle_object: np.ndarray, middle_camera: np.ndarray) -> np.ndarray:
    """Pose with this rotation that puts a point of the object at a place in the camera frame."""
    return make_transform(np.asarray(rotation, float), np.asarray(middle_camera - rotation @ middle_object, float))


def best_guess(
    guesses: Sequence[tuple[np.ndarray, ReferenceCloud]], target: AlignmentTarget, config: TrackerConfig
) -> np.ndarray | None:
    """The guess (4, 4) that aligns best at the coarse level, after that alignment; None without guesses."""
    best, least = None, np.inf
    for guess, cloud in guesses:
        pose, cost = coarse_align(cloud, target, guess, config)
        if cost < least:
            best, least = pose, cost
    return best
