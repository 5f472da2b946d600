"""`mesh_from_joints.MeshFromJoints` in numpy, for a process without torch."""

from __future__ import annotations

import numpy as np

from hoi_ros.hand.handos_topology import HandTopology

_FIRST = np.arange(1, 21, 4)  # the keypoint where each finger begins
_KNUCKLES = [5, 9, 13, 17]
_MIRROR = np.array([-1, 1, 1], np.float32)


class SkinOnJoints:
    """Template skin laid on given joints, once as a right and once as a left hand's."""

    def __init__(self, topology: HandTopology):
        rest = topology.joints.astype(np.float32)
        self.rest, self.weights = rest, topology.skin_weights.astype(np.float32)
        template = topology.template.astype(np.float32)
        self.template = np.concatenate([template, np.ones((len(template), 1), np.float32)], 1)
        self.rest_palm_inverse, self.rest_length = _palm_frames(rest[None])[0].T, _palm_lengths(rest[None])[0]
        self.bones = []
        for step in range(3):
            bone = rest[_FIRST + step + 1] - rest[_FIRST + step]
            length = np.linalg.norm(bone, axis=1, keepdims=True)
            self.bones.append((bone / length, length))

    def __call__(self, joints: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
        """(N, V, 3) around joints (N, 21, 3), by shares (N, 1) of the left hand's mesh."""
        both = self.skin(np.concatenate([joints, joints * _MIRROR]).astype(np.float32))
        right, left = both[: len(joints)], both[len(joints) :] * _MIRROR
        return right + mirrored[:, :, None] * (left - right)

    def skin(self, joints: np.ndarray) -> np.ndarray:
        """Mesh (N, V, 3) of right hands around joints (N, 21, 3)."""
        count = len(joints)
        palm = _palm_frames(joints) @ self.rest_palm_inverse
        scale = _palm_lengths(joints) / self.rest_length
        linear = np.empty((count, 16, 3, 3), np.float32)
        moved = np.empty((count, 16, 3), np.float32)
        still = np.empty((16, 3), np.float32)
        linear[:, 0], moved[:, 0], still[0] = palm * scale[:, None, None], joints[:, 0], self.rest[0]
        turn = np.broadcast_to(palm[:, None], (count, 5, 3, 3))
        for step, (rest_along, rest_length) in enumerate(self.bones):
            start, at = _FIRST + step, slice(1 + step, 16, 3)
            bone = joints[:, start + 1] - joints[:, start]
            length = _lengths(bone)
            along = bone / length
            turn = _least_turns((turn @ rest_along[..., None])[..., 0], along) @ turn
            stretch = length / rest_length - scale[:, None, None]
            line = (along * stretch)[..., None] * rest_along[..., None, :]
            linear[:, at] = turn * scale[:, None, None, None] + line
            moved[:, at], still[at] = joints[:, start], self.rest[start]
        offsets = moved - (linear @ still[..., None])[..., 0]
        motion = np.concatenate([linear, offsets[..., None]], -1).reshape(count, 16, 12)
        blended = (self.weights @ motion).reshape(count, -1, 3, 4)
        return np.einsum("nvij,vj->nvi", blended, self.template)


def _palm_frames(joints: np.ndarray) -> np.ndarray:
    """Columns x, y, z (N, 3, 3) of right palms."""
    y = joints[:, _KNUCKLES].mean(1) - joints[:, 0]
    y = y / _lengths(y)
    across = (joints[:, 5] - joints[:, 17]) + 0.3 * (joints[:, 9] - joints[:, 13])
    z = _cross(across, y)
    z = z / _lengths(z)
    return np.stack([_cross(y, z), y, z], -1)


def _palm_lengths(joints: np.ndarray) -> np.ndarray:
    """Mean distances (N,) from wrist to knuckles."""
    return np.linalg.norm(joints[:, _KNUCKLES] - joints[:, :1], axis=-1).mean(-1)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross products (..., 3); NumPy's own takes several times as long on few vectors."""
    (ax, ay, az), (bx, by, bz) = np.moveaxis(a, -1, 0), np.moveaxis(b, -1, 0)
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], -1)


def _lengths(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum((vectors**2).sum(-1, keepdims=True), 1e-10))


def _least_turns(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Smallest rotations (..., 3, 3) from unit vectors (..., 3) to others."""
    axis, cosine = _cross(start, end), (start * end).sum(-1)
    skew = np.zeros((*axis.shape, 3), np.float32)
    skew[..., 0, 1], skew[..., 0, 2], skew[..., 1, 2] = -axis[..., 2], axis[..., 1], -axis[..., 0]
    skew[..., 1, 0], skew[..., 2, 0], skew[..., 2, 1] = axis[..., 2], -axis[..., 1], axis[..., 0]
    return np.eye(3, dtype=np.float32) + skew + skew @ skew / np.maximum(1 + cosine, 0.05)[..., None, None]
