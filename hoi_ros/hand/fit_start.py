"""Closed-form start of the hand fit: palm by Kabsch, fingers angle by angle, distance from the spread."""

from __future__ import annotations

import numpy as np

from hoi_ros.geometry import fit_similarity
from hoi_ros.hand.fit_problem import Pose
from hoi_ros.hand_model import HandModel
from hoi_ros.hand_model.kinematics import forward_kinematics

_PALM = np.array([0, 1, 5, 9, 13, 17])
_PALM_WEIGHTS = np.array([1.0, 0.2, 1.0, 1.0, 1.0, 1.0])


def initial_pose(
    model: HandModel, landmarks: np.ndarray, rays: np.ndarray, shape: np.ndarray, limits: np.ndarray
) -> Pose:
    """Pose of a right hand of size 1.

    Args:
        landmarks: (21, 3) network landmarks, camera axes, any origin and size.
        rays: (21, 2) x / z and y / z of the landmarks, near 0.
        shape: (10,) shape to start with.
        limits: (22, 2) radians.
    """
    rest = forward_kinematics(model.skeleton, model.skeleton.hinges.rest_angles[None], shape[None]).keypoints[0]
    _, rotation, _ = fit_similarity(rest[_PALM], landmarks[_PALM], _PALM_WEIGHTS)
    angles = np.clip(finger_angles(model, rest, landmarks @ rotation), limits[:, 0], limits[:, 1])
    points = forward_kinematics(model.skeleton, angles[None], shape[None]).keypoints[0] @ rotation.T
    return Pose(angles, shape.copy(), rotation, spread_translation(points, rays))


def spread_translation(points: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Translation (3,) that makes points (21, 3) about the wrist spread as the rays (21, 2) do, parallel projection."""
    centred, seen = points[:, :2] - points[:, :2].mean(0), rays - rays.mean(0)
    size, seen_size = np.sqrt((centred**2).sum()), np.sqrt((seen**2).sum())
    depth = size / max(float(seen_size), 1e-6)
    xy = rays.mean(0) * depth - points[:, :2].mean(0)
    return np.array([xy[0], xy[1], max(depth - points[:, 2].mean(), 0.05)])


def finger_angles(model: HandModel, rest: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Joint angles (22,) that point each bone as the landmarks (21, 3) in the wrist frame's axes do."""
    hinges = model.skeleton.hinges
    angles = hinges.rest_angles.copy()
    rest_bones, bones = _bone_directions(rest), _bone_directions(landmarks)
    for finger in range(5):
        first = 0 if finger == 0 else 6 + 4 * (finger - 1)
        flex, abduct = hinges.axes[first], hinges.axes[first + 1]
        later = (first + 3, first + 5) if finger == 0 else (first + 2, first + 3)
        straight, seen = rest_bones[finger, 0], bones[finger, 0]
        side = np.cross(abduct, straight) @ flex
        angles[first] += _turn(straight, seen, flex)
        angles[first + 1] += np.arcsin(np.clip(seen @ flex * np.sign(side), -1, 1)) - np.arcsin(
            np.clip(straight @ flex * np.sign(side), -1, 1)
        )
        frame = _rotation(flex, angles[first] - hinges.rest_angles[first]) @ _rotation(
            abduct, angles[first + 1] - hinges.rest_angles[first + 1]
        )
        for bone, hinge in zip((1, 2), later):
            axis = hinges.axes[hinge]
            turn = _turn(rest_bones[finger, bone], frame.T @ bones[finger, bone], axis)
            angles[hinge] += turn
            frame = frame @ _rotation(axis, turn)
    return angles


def _bone_directions(keypoints: np.ndarray) -> np.ndarray:
    bones = np.diff(keypoints[1:].reshape(5, 4, 3), axis=1)
    return bones / np.maximum(np.linalg.norm(bones, axis=-1, keepdims=True), 1e-9)


def _turn(start: np.ndarray, end: np.ndarray, axis: np.ndarray) -> float:
    """Signed angle about `axis`, shifted by full turns to lie in [-1.2, 5.1): fingers bend forwards."""
    angle = np.arctan2(axis @ np.cross(start, end), start @ end - (start @ axis) * (end @ axis))
    return float(angle if angle > -1.6 else angle + 2 * np.pi)


def _rotation(axis: np.ndarray, angle: float) -> np.ndarray:
    x, y, z = axis
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * (k @ k)
