"""Forward kinematics of the hand's skeleton and its exact derivatives, batched over hands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hoi_ros.geometry import skew
from hoi_ros.hand_model.anatomy import (
    BONE_COUNT,
    BONE_PARENTS,
    HINGE_BONES,
    HINGE_SLOTS,
    HINGES_PER_BONE,
    KEYPOINT_BONES,
    Hinges,
    derive_hinges,
)

_BONE_KEYPOINTS = np.array([0] + [1 + 4 * f + k for f in range(5) for k in range(3)])
_LEVELS = [np.arange(1, 16, 3) + level for level in range(3)]


def _hinge_reach() -> np.ndarray:
    """(A, 21) 1 where a hinge moves a keypoint."""
    reach = np.zeros((len(HINGE_BONES), 21))
    for hinge, bone in enumerate(HINGE_BONES):
        for keypoint, carrier in enumerate(KEYPOINT_BONES):
            while carrier > bone:
                carrier = BONE_PARENTS[carrier]
            reach[hinge, keypoint] = carrier == bone and keypoint > 0
    return reach


_HINGE_REACH = _hinge_reach()
_NEXT, _AFTER = [1, 2, 0], [2, 0, 1]  # of a cross product; numpy.cross is ten times slower on small arrays


@dataclass(frozen=True)
class Skeleton:
    """Rest keypoints, how shape moves them, and the hinges."""

    keypoints: np.ndarray
    """(21, 3) rest pose in the wrist frame, metres; a bone turns about its first keypoint."""
    keypoint_directions: np.ndarray
    """(10, 21, 3) metres per unit shape coefficient; the wrist's are 0."""
    hinges: Hinges
    axis_matrices: np.ndarray
    """(16, 3, 3, 3) cross-product matrices of up to three hinges a bone, 0 where there is none."""
    axis_squares: np.ndarray
    """(16, 3, 3, 3) those matrices squared."""

    @staticmethod
    def build(keypoints: np.ndarray, keypoint_directions: np.ndarray) -> Skeleton:
        """Derive hinges for rest keypoints (21, 3) and their shape directions (10, 21, 3)."""
        hinges = derive_hinges(keypoints)
        matrices = np.zeros((BONE_COUNT, HINGES_PER_BONE, 3, 3))
        matrices[HINGE_BONES, HINGE_SLOTS] = skew(hinges.axes)
        return Skeleton(keypoints, keypoint_directions, hinges, matrices, matrices @ matrices)


@dataclass(frozen=True)
class BoneMotion:
    """Where the bones and keypoints of B hands are, wrist frame, metres."""

    rotations: np.ndarray
    """(B, 16, 3, 3) from the rest pose."""
    origins: np.ndarray
    """(B, 16, 3) where each bone turns."""
    rest_origins: np.ndarray
    """(B, 16, 3) the same in the rest pose of this shape."""
    rest_keypoints: np.ndarray
    """(B, 21, 3)."""
    keypoints: np.ndarray
    """(B, 21, 3)."""
    local_rotations: np.ndarray
    """(B, 16, 3, 3) of each bone against its parent."""
    hinge_rotations: np.ndarray
    """(B, 16, 3, 3, 3) of each hinge slot."""


def forward_kinematics(skeleton: Skeleton, joint_angles: np.ndarray, shape: np.ndarray) -> BoneMotion:
    """Move the skeleton by joint angles (B, A) radians and shape (B, 10); exact where the angles are out of limits."""
    batch = len(joint_angles)
    rest = skeleton.keypoints + (shape @ skeleton.keypoint_directions.reshape(shape.shape[1], -1)).reshape(-1, 21, 3)
    turn = np.zeros((batch, BONE_COUNT, HINGES_PER_BONE))
    turn[:, HINGE_BONES, HINGE_SLOTS] = joint_angles - skeleton.hinges.rest_angles
    sine, versine = np.sin(turn)[..., None, None], (1 - np.cos(turn))[..., None, None]
    hinge = np.eye(3) + sine * skeleton.axis_matrices + versine * skeleton.axis_squares
    local = hinge[:, :, 0] @ hinge[:, :, 1] @ hinge[:, :, 2]
    rest_origins = rest[:, _BONE_KEYPOINTS]
    rotations, origins = np.empty_like(local), np.empty_like(rest_origins)
    rotations[:, 0], origins[:, 0] = np.eye(3), rest_origins[:, 0]
    for bones in _LEVELS:
        parents = BONE_PARENTS[bones]
        rotations[:, bones] = rotations[:, parents] @ local[:, bones]
        step = (rest_origins[:, bones] - rest_origins[:, parents])[..., None]
        origins[:, bones] = origins[:, parents] + (rotations[:, parents] @ step)[..., 0]
    offsets = (rest - rest_origins[:, KEYPOINT_BONES])[..., None]
    keypoints = origins[:, KEYPOINT_BONES] + (rotations[:, KEYPOINT_BONES] @ offsets)[..., 0]
    return BoneMotion(rotations, origins, rest_origins, rest, keypoints, local, hinge)


def keypoint_jacobian(skeleton: Skeleton, motion: BoneMotion) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives of the keypoints: (B, 21, 3, A) by joint angle and (B, 21, 3, 10) by shape coefficient."""
    before = np.empty_like(motion.hinge_rotations)
    before[:, :, 0] = np.eye(3)
    before[:, :, 1] = motion.hinge_rotations[:, :, 0]
    before[:, :, 2] = motion.hinge_rotations[:, :, 0] @ motion.hinge_rotations[:, :, 1]
    frames = motion.rotations[:, BONE_PARENTS[HINGE_BONES]] @ before[:, HINGE_BONES, HINGE_SLOTS]
    axes = (frames @ skeleton.hinges.axes[..., None])[..., 0]
    arms = motion.keypoints[:, None] - motion.origins[:, HINGE_BONES, None]
    axes = axes[:, :, None]
    by_angle = axes[..., _NEXT] * arms[..., _AFTER] - axes[..., _AFTER] * arms[..., _NEXT]
    by_angle *= _HINGE_REACH[..., None]

    directions = skeleton.keypoint_directions.transpose(1, 2, 0)
    bone_directions = directions[_BONE_KEYPOINTS]
    carried = np.empty((len(axes), BONE_COUNT, 3, directions.shape[2]))
    carried[:, 0] = bone_directions[0]
    for bones in _LEVELS:
        parents = BONE_PARENTS[bones]
        step = bone_directions[bones] - bone_directions[parents]
        carried[:, bones] = carried[:, parents] + motion.rotations[:, parents] @ step
    tail = directions - bone_directions[KEYPOINT_BONES]
    by_shape = carried[:, KEYPOINT_BONES] + motion.rotations[:, KEYPOINT_BONES] @ tail
    return by_angle.transpose(0, 2, 3, 1), by_shape
