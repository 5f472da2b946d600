"""Hands with known joints before a camera, as a network would answer: for the fit's tests."""

from dataclasses import dataclass

import numpy as np

from hoi_ros.datatypes import CameraIntrinsics
from hoi_ros.geometry import project, so3_exp
from hoi_ros.hand.fit import LANDMARK_OFFSETS_M, straighten
from hoi_ros.hand_model import HandModel

CAMERA = CameraIntrinsics(640, 480, 600.0, 600.0, 319.5, 239.5)


@dataclass
class Seen:
    """One hand and its landmarks."""

    angles: np.ndarray
    joints: np.ndarray
    vertices: np.ndarray
    pixels: np.ndarray
    world: np.ndarray


def some_angles(model: HandModel, rng: np.random.Generator, share: float = 0.8) -> np.ndarray:
    """Random angles (22,) inside a share of the limits; last joints bend along with the middle ones."""
    low, high = model.joint_limits.T * share
    angles = rng.uniform(low, high)
    names = list(model.joint_angle_names)
    angles[0:6] *= 0.5
    for index, name in enumerate(names):
        if name.endswith("dip_flexion"):
            angles[index] = np.clip(0.55 * angles[index - 1], low[index], high[index])
    return angles


def see(
    model: HandModel, angles: np.ndarray, rng: np.random.Generator, side: str = "right", scale: float = 1.0
) -> Seen:
    """Place a hand 0.35 to 0.7 m away, turned at random, and take its landmarks without noise."""
    posed = model.pose(angles[None], np.zeros((1, 10)), side, scale)
    rotation = so3_exp(rng.normal(0, 0.5, 3)) @ np.diag([1.0, -1.0, -1.0])
    translation = np.array([rng.uniform(-0.08, 0.08), rng.uniform(-0.05, 0.05), rng.uniform(0.35, 0.7)])
    joints = posed.joints[0] @ rotation.T + translation
    vertices = posed.vertices[0] @ rotation.T + translation
    mirror = np.array([1.0 if side == "right" else -1.0, 1.0, 1.0])
    offsets = posed.bone_rotations[0] @ (LANDMARK_OFFSETS_M * mirror)[..., None]
    landmarks = joints + scale * (rotation @ offsets)[..., 0]
    pixels = project(landmarks, CAMERA)
    _, look = straighten(pixels, CAMERA)
    world = (landmarks - landmarks.mean(0)) @ look * 1.15  # the network's size is not to be trusted
    return Seen(angles, joints, vertices, pixels, world)
