"""Closed-form start of the hand fit: palm by Kabsch, fingers angle by angle, distance from the spread."""

from __future__ import annotations

import numpy as np

from hoi_ros.geometry import fit_similarity, so3_exp
from hoi_ros.hand.fit_problem import Pose
from hoi_ros.hand_model import HandModel
from hoi_ros.hand_model.kinematics import forward_kinematics

# Numbers of the joint angles of thumb, index, middle, ring, little.
_FLEX = np.array([0, 6, 10, 14, 18])
_ABDUCT, _SECOND, _THIRD = _FLEX + 1, np.array([3, 8, 12, 16, 20]), np.array([5, 9, 13, 17, 21])
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
    flex, abduct = hinges.axes[_FLEX], hinges.axes[_ABDUCT]
    straight, seen = rest_bones[:, 0], bones[:, 0]
    bend = _turn(straight, seen, flex)
    away = np.sign(_dot(_cross(abduct, straight), flex))
    spread = np.arcsin(np.clip(_dot(seen, flex), -1, 1)) - np.arcsin(np.clip(_dot(straight, flex), -1, 1))
    angles[_FLEX] += bend
    angles[_ABDUCT] += spread * away
    frame = so3_exp(flex * bend[:, None]) @ so3_exp(abduct * (spread * away)[:, None])
    for bone, hinge in ((1, _SECOND), (2, _THIRD)):
        axis = hinges.axes[hinge]
        local = (bones[:, None, bone] @ frame)[:, 0]
        turn = _turn(rest_bones[:, bone], local, axis)
        angles[hinge] += turn
        frame = frame @ so3_exp(axis * turn[:, None])
    return angles


def _bone_directions(keypoints: np.ndarray) -> np.ndarray:
    bones = np.diff(keypoints[1:].reshape(5, 4, 3), axis=1)
    return bones / np.maximum(np.linalg.norm(bones, axis=-1, keepdims=True), 1e-9)


def _turn(start: np.ndarray, end: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Signed angles (N,) about axes (N, 3), in [-1.6, 4.7): fingers bend forwards, so a far turn is forwards too."""
    angle = np.arctan2(_dot(axis, _cross(start, end)), _dot(start, end) - _dot(start, axis) * _dot(end, axis))
    return np.where(angle > -1.6, angle, angle + 2 * np.pi)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(-1)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., [1, 2, 0]] * b[..., [2, 0, 1]] - a[..., [2, 0, 1]] * b[..., [1, 2, 0]]
