"""How a hand bends: bones, hinges with their axes and limits, the wrist frame, skin regions.

Bones are numbered wrist 0, then three per finger from the palm outwards (thumb 1-3, index 4-6, ... little 13-15).
Keypoints follow `JOINT_NAMES`; each is fixed to one bone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hoi_ros.datatypes import FINGERS
from hoi_ros.geometry import vertex_normals

BONE_COUNT = 16
BONE_PARENTS = np.array([-1] + [0 if k == 0 else 3 * f + k for f in range(5) for k in range(3)])
KEYPOINT_BONES = np.array([0] + [3 * f + b for f in range(5) for b in (1, 2, 3, 3)])
HINGES_PER_BONE = 3

# Flexion bends towards the palm. Abduction of a finger leads away from the middle finger (the middle finger's own:
# towards the thumb), of the thumb out of the palm. Limits in degrees, somewhat wider than the clinical
# ranges of the American Academy of Orthopaedic Surgeons, so that a stretched hand is not refused.
_HINGE_TABLE = (
    ("thumb_cmc_flexion", 1, -40, 55),
    ("thumb_cmc_abduction", 1, -45, 50),
    ("thumb_cmc_rotation", 1, -40, 50),
    ("thumb_mcp_flexion", 2, -30, 70),
    ("thumb_mcp_abduction", 2, -20, 20),
    ("thumb_ip_flexion", 3, -35, 90),
    *(
        hinge
        for finger, name in enumerate(FINGERS)
        if finger
        for hinge in (
            (f"{name}_mcp_flexion", 3 * finger + 1, -35, 95),
            (f"{name}_mcp_abduction", 3 * finger + 1, -22, 28),
            (f"{name}_pip_flexion", 3 * finger + 2, -10, 115),
            (f"{name}_dip_flexion", 3 * finger + 3, -20, 85),
        )
    ),
)
JOINT_ANGLE_NAMES = tuple(row[0] for row in _HINGE_TABLE)
JOINT_LIMITS = np.radians(np.array([row[2:] for row in _HINGE_TABLE], np.float64))
HINGE_BONES = np.array([row[1] for row in _HINGE_TABLE])


def _hinge_slots() -> np.ndarray:
    count = np.zeros(BONE_COUNT, int)
    slots = []
    for bone in HINGE_BONES:
        slots.append(count[bone])
        count[bone] += 1
    return np.array(slots)


HINGE_SLOTS = _hinge_slots()


@dataclass(frozen=True)
class Hinges:
    """Axes of every joint angle, fixed in the rest pose."""

    axes: np.ndarray
    """(A, 3) unit axes in the wrist frame; turning is right-handed about them."""
    rest_angles: np.ndarray
    """(A,) radians: the angle that the rest pose already has, so that 0 means a straight finger."""


def wrist_frame(keypoints: np.ndarray) -> np.ndarray:
    """Rotation (3, 3) whose rows are the wrist frame's x, y, z, of right-hand rest keypoints (21, 3).

    y leads to the middle finger's first joint, z out of the palm, x = y cross z towards the thumb.
    """
    y = keypoints[9] - keypoints[0]
    y = y / np.linalg.norm(y)
    z = np.cross(keypoints[5] - keypoints[17], y)
    z = z / np.linalg.norm(z)
    return np.stack([np.cross(y, z), y, z])


def derive_hinges(keypoints: np.ndarray) -> Hinges:
    """Find anatomical hinge axes and rest angles from right-hand rest keypoints (21, 3) in the wrist frame."""
    axes, rest = [], []
    for finger in range(5):
        points = keypoints[1 + 4 * finger : 5 + 4 * finger]
        bones = np.diff(points, axis=0)
        bones = bones / np.linalg.norm(bones, axis=1, keepdims=True)
        if finger == 0:
            axes += _thumb_axes(bones)
            flex = axes[0]
            rest += [0.0, 0.0, 0.0, _angle_about(bones[0], bones[1], flex), 0.0, _angle_about(bones[1], bones[2], flex)]
        else:
            flex = _unit(np.cross(points[3] - points[0], [0, 0, 1]))
            away = 1 if finger >= 3 else -1
            axes += [flex, away * _unit(np.cross(flex, bones[0])), flex, flex]
            metacarpal = points[0] - keypoints[0]
            metacarpal = metacarpal * [1, 1, 0]
            rest += [
                _angle_about(np.cross([0, 0, 1], flex), bones[0], flex),
                away * _angle_about(metacarpal, bones[0], np.array([0, 0, 1.0])),
                _angle_about(bones[0], bones[1], flex),
                _angle_about(bones[1], bones[2], flex),
            ]
    return Hinges(np.array(axes), np.array(rest))


def _thumb_axes(bones: np.ndarray) -> list[np.ndarray]:
    """Flexion about the normal of the plane in which the thumb is bent at rest, abduction out of the palm's plane."""
    flex = _unit(np.cross(bones[0], bones[1]) + np.cross(bones[1], bones[2]))
    flex = _unit(flex - (flex @ bones[0]) * bones[0])
    abduct = _unit(np.cross(bones[0], flex)) * np.sign(flex[2])
    return [flex, abduct, bones[0], flex, abduct, flex]


def _unit(vector: np.ndarray) -> np.ndarray:
    return np.asarray(vector, np.float64) / np.linalg.norm(vector)


def _angle_about(start: np.ndarray, end: np.ndarray, axis: np.ndarray) -> float:
    """Signed angle in radians that turns `start` to `end` about `axis`, both projected onto its plane."""
    start, end = start - (start @ axis) * axis, end - (end @ axis) * axis
    return float(np.arctan2(axis @ np.cross(start, end), start @ end))


def bone_frames(keypoints: np.ndarray) -> np.ndarray:
    """Rest orientations (21, 3, 3) of the keypoints' frames: columns x, y along the bone outwards, z to the palm side.

    The wrist's is the identity; a tip has its last bone's.
    """
    frames = np.tile(np.eye(3), (21, 1, 1))
    hinges = derive_hinges(keypoints)
    flexion = {name.split("_")[0]: axis for name, axis in zip(JOINT_ANGLE_NAMES, hinges.axes) if "mcp_flex" in name}
    for keypoint in range(1, 21):
        first = keypoint - 1 if keypoint % 4 == 0 else keypoint
        y = _unit(keypoints[first + 1] - keypoints[first])
        z = _unit(np.cross(flexion[FINGERS[(keypoint - 1) // 4]], y))
        frames[keypoint] = np.stack([np.cross(y, z), y, z], 1)
    return frames


REGION_NAMES = ("palm", "back_of_hand", *(f"{finger}_{part}" for finger in FINGERS for part in ("segment", "pad")))


def label_skin(vertices: np.ndarray, faces: np.ndarray, weights: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    """Number every rest vertex (V,) by `REGION_NAMES`: palm, back, and of each finger its segments and its pad.

    Args:
        vertices: (V, 3) rest pose, wrist frame. faces: (F, 3). weights: (V, 16). keypoints: (21, 3) at rest.
    """
    normals = vertex_normals(vertices, faces)
    bone = weights.argmax(1)
    finger = (bone - 1) // 3
    frames = bone_frames(keypoints)
    labels = np.where(normals[:, 2] > 0, 0, 1)
    on_finger = bone > 0
    labels[on_finger] = 2 + 2 * finger[on_finger]
    for k in range(5):
        palmar = normals @ frames[3 + 4 * k][:, 2] > 0
        labels[(bone == 3 * k + 3) & palmar] = 3 + 2 * k
    # A thumb or finger's first bone carries palm skin too; below its joint that skin is palm or back.
    for k in range(5):
        along = (vertices - keypoints[1 + 4 * k]) @ frames[1 + 4 * k][:, 1]
        inside = (bone == 3 * k + 1) & (
            along < (0.5 if k == 0 else 0.35) * np.linalg.norm(keypoints[2 + 4 * k] - keypoints[1 + 4 * k])
        )
        labels[inside] = np.where(normals[inside, 2] > 0, 0, 1)
    return labels.astype(np.int32)
