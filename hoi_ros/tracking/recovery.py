"""Where a lost object may be: guesses from keyframes, hands and free-standing parts of the scene."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hoi_ros.datatypes import HandEstimate
from hoi_ros.geometry import make_transform, so3_exp
from hoi_ros.tracking.alignment import coarse_align
from hoi_ros.tracking.config import TrackerConfig
from hoi_ros.tracking.keyframes import Keyframe
from hoi_ros.tracking.masks import connected_parts, grasp_components, object_mask
from hoi_ros.tracking.model import SurfelModel
from hoi_ros.tracking.reference import ReferenceCloud
from hoi_ros.tracking.target import AlignmentTarget
from hoi_ros.tracking.track import Track, View

TURNS_RAD = np.radians(25.0) * np.array(
    [[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], float
)

ROLLS_RAD = np.radians(np.array([30, -30, 60, -60, 90, -90, 120, -120, 150, -150, 180], float))
"""Turns about the viewing axis at which every known side is tried: with the sides, turns over the whole of SO(3)."""
SIDES_APART_RAD = np.radians(25.0)
"""Sides nearer to each other than this are tried once a roll: the coarse alignment reaches that far."""

LEAST_SHARE, LEAST_AGREEMENT, LEAST_OF_BOTH = 0.35, 0.6, 0.33
"""Share of the part in view that the model must explain, share of its places whose colour must fit, and their product:
half of a box once passed for a mug with 0.46 and 0.64."""


def recovery_guesses(
    keyframes: Sequence[Keyframe], anchors: Sequence[np.ndarray], centers: Sequence[np.ndarray]
) -> list[tuple[np.ndarray, ReferenceCloud]]:
    """Poses to try, each with the view that should be seen there.

    Args:
        keyframes: known views of the object.
        anchors: poses (4, 4) that are likely by themselves: carried by the hand, or the last one seen.
        centers: (3,) metres, optical frame: middles of visible parts that might be the object.

    Returns:
        (T_camera_object, cloud) pairs: the anchors turned a little, then every keyframe's view at every centre, then
        sides that differ, rolled all around.
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
    sides = _sides_apart(keyframes)
    for center in centers:
        for roll in so3_exp(ROLLS_RAD[:, None] * np.array([0.0, 0.0, 1.0])):
            for keyframe in sides:
                middle = keyframe.cloud.points.mean(0)
                guesses.append((_placed(roll @ keyframe.T_camera_object[:3, :3], middle, center), keyframe.cloud))
    return guesses


def _sides_apart(keyframes: Sequence[Keyframe]) -> list[Keyframe]:
    """Keyframes that look from directions at least SIDES_APART_RAD apart, the oldest first."""
    kept: list[Keyframe] = []
    directions: list[np.ndarray] = []
    for keyframe in keyframes:
        middle = keyframe.T_camera_object[:3, :3] @ keyframe.cloud.points.mean(0) + keyframe.T_camera_object[:3, 3]
        direction = keyframe.T_camera_object[:3, :3].T @ (middle / np.linalg.norm(middle))
        if all(direction @ other < np.cos(SIDES_APART_RAD) for other in directions):
            kept.append(keyframe)
            directions.append(direction)
    return kept


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


def guesses_of_a_frame(
    track: Track, hands: Sequence[HandEstimate], view: View, config: TrackerConfig, in_grasp_only: bool = False
) -> list[tuple[np.ndarray, ReferenceCloud]]:
    """This frame's share of all the poses worth trying; the next call gives the next share.

    Args:
        track: the lost object; which share is next is noted there.
        hands: hands of the frame.
        view: the whole frame.
        config: size of a share.
        in_grasp_only: seek it in what is held alone, and forget where it was.
    """
    keyframes = track.keyframes.keyframes
    if not keyframes:
        return []
    in_grasp = grasp_components(hands, view.candidates, view.patch, config)
    parts, anchors = [in_grasp] if in_grasp.any() else [], []
    if not in_grasp_only:
        anchors.append(track.T_camera_object)
        for hand in hands:
            carried = track.carried_by(hand)
            if carried is not None:
                anchors.append(carried)
        smallest = max(30, int(config.min_object_px / view.patch.stride**2 / 4))
        parts += connected_parts(view.candidates & ~in_grasp, view.patch, smallest)
    centers = [np.median(view.patch.points[part], axis=0) for part in parts]
    guesses = recovery_guesses(keyframes, anchors, centers)
    first = track.recovery_turn % max(len(guesses), 1)
    track.recovery_turn += config.recovery_guesses
    return (guesses[first:] + guesses[:first])[: config.recovery_guesses]


def looks_like(model: SurfelModel, view: View, pose: np.ndarray) -> bool:
    """Is a found pose more than a surface of fitting shape: same colours, and ending where the object ends?"""
    rendering = model.render(pose, view.patch)
    explained = object_mask(rendering.depth_m, view.candidates, view.hand_mask, view.patch, 0.0)
    part = sum((p for p in connected_parts(view.candidates, view.patch, 20, 8) if (p & explained).any()), explained)
    share = explained.sum() / max(part.sum(), 1)
    agreement = model.color_agreement(view.patch, explained, pose, rendering.visible)
    return bool(share > LEAST_SHARE and agreement > LEAST_AGREEMENT and share * agreement > LEAST_OF_BOTH)
