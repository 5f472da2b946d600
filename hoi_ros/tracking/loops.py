"""Motions between kept views, measured by aligning one view's surface with the other's pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hoi_ros.geometry import invert_transform, rotation_angle, transform_points
from hoi_ros.tracking.alignment import align
from hoi_ros.tracking.config import TrackerConfig
from hoi_ros.tracking.keyframes import Keyframe
from hoi_ros.tracking.linearisation import MISSING_COST
from hoi_ros.tracking.pointmap_motion import MotionEdge
from hoi_ros.tracking.pose_graph import information_about
from hoi_ros.tracking.reference import ReferenceCloud
from hoi_ros.tracking.target import AlignmentTarget, alignment_target

WIDEST_RAD = np.radians(40.0)
"""Views farther apart show too little of the same surface."""
LEAST_INLIERS, MOST_COST = 0.6, 1.6
"""Share of the points in view that must fit, and the most that one of them may cost on average: a side of like shape
but other print fits worse."""
VIEW_SHAPE_SHARE = 0.3
"""Share with which a single view's noisy shape counts beside its print."""
LEAST_MATCHED = 300
INFORMATION_SHARE = 1 / 5
"""Residuals of neighbouring places err together, by shading above all: so little of their information is real."""
LEAST_SIGMA = np.array([0.001] * 3 + [np.radians(0.8)] * 3)
TRACKED_SHARE = 1 / 4
"""Of the variance that a track's turn gains: it allows for errors that add up, which between two views are less."""
MOST_SIGMA = np.array([0.05] * 3 + [1.5] * 3)


def partners(keyframe: Keyframe, others: Sequence[Keyframe], count: int) -> list[Keyframe]:
    """The views nearest in angle to one, at most `count`, none farther than WIDEST_RAD."""
    angled = []
    for other in others:
        angle = float(rotation_angle(other.T_camera_object[:3, :3] @ keyframe.T_camera_object[:3, :3].T))
        if other.index != keyframe.index and angle < WIDEST_RAD:
            angled.append((angle, other.index, other))
    return [other for _, _, other in sorted(angled, key=lambda a: a[:2])[:count]]


def target_of(keyframe: Keyframe) -> AlignmentTarget:
    """What a kept view offers to align with."""
    assert keyframe.pixels is not None
    pixels = keyframe.pixels
    middle = float(np.median(pixels.depth_m[pixels.mask]))
    return alignment_target(pixels.patch(), pixels.mask, pixels.hand_mask, middle)


def measured_motion(
    first: Keyframe, second: Keyframe, starts: Sequence[np.ndarray], config: TrackerConfig
) -> MotionEdge | None:
    """The motion between two views: the first one's surface aligned with the second one's pixels.

    Args:
        first: its cloud is used.
        second: its pixels are used; they must have been kept.
        starts: guesses (4, 4) of the second view's T_camera_object.
        config: alignment.

    Returns:
        `first` and `second` are frame numbers, the information is of the twist in the second camera's frame. None when
        the views do not fit together.
    """
    cloud = replace(first.cloud, shape_weight=np.full(len(first.cloud), VIEW_SHAPE_SHARE, np.float32))
    shuffled = cloud.taken(np.random.default_rng(0).permutation(len(cloud)))
    result = align(shuffled, target_of(second), starts, config)
    if (
        result is None
        or not result.converged
        or result.inlier_fraction < LEAST_INLIERS
        or result.matched < LEAST_MATCHED
    ):
        return None
    in_view = result.matched / result.inlier_fraction / min(len(cloud), config.align_points)
    if (result.cost - MISSING_COST / 2 * (1 - in_view)) / in_view > MOST_COST:
        return None
    pose = result.T_camera_object
    information = _believed(INFORMATION_SHARE * result.information)
    middle = _middle(pose, cloud)
    motion = first.T_camera_object @ invert_transform(pose)
    return MotionEdge(first.index, second.index, motion, information_about(information, middle))


def tracked_motion(first: Keyframe, second: Keyframe, turn_covariance: np.ndarray) -> MotionEdge:
    """The motion between two views as it was tracked.

    Args:
        first: the earlier view.
        second: the later view.
        turn_covariance: (3, 3) rad^2, object axes: what became unsure of the turn between them.
    """
    motion = first.T_camera_object @ invert_transform(second.T_camera_object)
    angle = float(rotation_angle(motion[:3, :3]))
    least = np.radians(0.25) + 0.01 * angle
    rotation = second.T_camera_object[:3, :3]
    values, axes = np.linalg.eigh(TRACKED_SHARE * turn_covariance)
    spread = (axes * np.maximum(values, least**2)) @ axes.T
    information = np.zeros((6, 6))
    information[:3, :3] = 0.001**-2 * np.eye(3)
    information[3:, 3:] = rotation @ np.linalg.inv(spread) @ rotation.T
    middle = _middle(second.T_camera_object, second.cloud)
    return MotionEdge(first.index, second.index, motion, information_about(information, middle))


def _middle(T_camera_object: np.ndarray, cloud: ReferenceCloud) -> np.ndarray:
    return transform_points(T_camera_object, cloud.points.mean(0, dtype=np.float64)[None])[0]


def _believed(information: np.ndarray) -> np.ndarray:
    """Information (6, 6) with no direction surer than LEAST_SIGMA or less sure than MOST_SIGMA."""
    covariance = np.linalg.inv(information + np.diag(MOST_SIGMA**-2.0)) + np.diag(LEAST_SIGMA**2)
    return np.linalg.inv(covariance)
