"""A hand mesh laid around 21 joints in closed form: every bone's skin turns, moves and stretches with its bone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hoi_ros.hand.handos_topology import HandTopology

# The keypoint where each finger begins. Lists, as torch.compile cannot guard arrays.
_FIRST = [1, 5, 9, 13, 17]
_KNUCKLES = [5, 9, 13, 17]


class MeshFromJoints(nn.Module):
    """Template skin on given joints; differentiable, without iteration or matrix decompositions."""

    template: Tensor
    joints: Tensor
    weights: Tensor
    rest_palm: Tensor

    def __init__(self, topology: HandTopology):
        super().__init__()
        put = self.register_buffer
        put("template", torch.from_numpy(topology.template), persistent=False)
        put("joints", torch.from_numpy(topology.joints), persistent=False)
        put("weights", torch.from_numpy(topology.skin_weights), persistent=False)
        put("rest_palm", _palm_frame(torch.from_numpy(topology.joints)), persistent=False)

    def forward(self, joints: Tensor, mirrored: Tensor) -> Tensor:
        """Skin joints of unknown side: a share of the right hand's mesh and one of the left's.

        Args:
            joints: (..., 21, 3) metres.
            mirrored: (..., 1) share of the left hand's mesh, 0 to 1.

        Returns:
            (..., V, 3) metres.
        """
        mirror = joints.new_tensor([-1.0, 1.0, 1.0])
        right, left = self.skin(joints), self.skin(joints * mirror) * mirror
        return right + mirrored[..., None] * (left - right)

    def skin(self, joints: Tensor) -> Tensor:
        """Mesh (..., V, 3) of a right hand around joints (..., 21, 3)."""
        rest = self.joints
        palm = _palm_frame(joints) @ self.rest_palm.transpose(-1, -2)
        scale = _palm_length(joints) / _palm_length(rest)
        # Each bone maps rest points p to linear @ p + offset.
        linear = [palm[..., None, :, :] * scale[..., None, None, None]]
        origins, rest_origins = [joints[..., :1, :]], [rest[:1]]
        turn = palm[..., None, :, :].expand(*palm.shape[:-2], 5, 3, 3)
        for step in range(3):
            start, end = ([first + more for first in _FIRST] for more in (step, step + 1))
            rest_bone, bone = rest[end] - rest[start], joints[..., end, :] - joints[..., start, :]
            rest_length, length = _length(rest_bone), _length(bone)
            rest_along, along = rest_bone / rest_length, bone / length
            turn = _least_turn((turn @ rest_along[..., None])[..., 0], along) @ turn
            stretch = length / rest_length - scale[..., None, None]
            line = (along * stretch)[..., None] * rest_along[..., None, :]
            linear.append(turn * scale[..., None, None, None] + line)
            origins.append(joints[..., start, :])
            rest_origins.append(rest[start])
        matrices, moved, still = (
            _bone_order(parts, axis) for parts, axis in zip((linear, origins, rest_origins), (-3, -2, -2))
        )
        offsets = moved - (matrices @ still[..., None])[..., 0]
        motion = torch.cat([matrices, offsets[..., None]], -1).flatten(-2)
        blended = (self.weights @ motion).unflatten(-1, (3, 4))
        return (blended[..., :3] @ self.template[..., None])[..., 0] + blended[..., 3]


def _bone_order(parts: list[Tensor], axis: int) -> Tensor:
    """Wrist, then three bones a finger, from the wrist's and three lists over fingers."""
    fingers = torch.stack(parts[1:], axis)  # five fingers, then three bones
    shape = fingers.shape
    at = len(shape) + axis - 1
    return torch.cat([parts[0], fingers.reshape(*shape[:at], 15, *shape[at + 2 :])], at)


def _palm_frame(joints: Tensor) -> Tensor:
    """Columns x, y, z (..., 3, 3) of a right palm: y to the middle knuckle, z out of the palm."""
    y = joints[..., _KNUCKLES, :].mean(-2) - joints[..., 0, :]
    y = y / _length(y)
    across = (joints[..., 5, :] - joints[..., 17, :]) + 0.3 * (joints[..., 9, :] - joints[..., 13, :])
    z = torch.linalg.cross(across, y)
    z = z / _length(z)
    return torch.stack([torch.linalg.cross(y, z), y, z], -1)


def _palm_length(joints: Tensor) -> Tensor:
    """Mean distance (...) from the wrist to the knuckles."""
    return (joints[..., _KNUCKLES, :] - joints[..., :1, :]).norm(dim=-1).mean(-1)


def _length(vectors: Tensor) -> Tensor:
    return vectors.square().sum(-1, keepdim=True).clamp(min=1e-10).sqrt()


def _least_turn(start: Tensor, end: Tensor) -> Tensor:
    """Smallest rotations (..., 3, 3) from unit vectors (..., 3) to others."""
    axis, cosine = torch.linalg.cross(start, end), (start * end).sum(-1)
    zero = torch.zeros_like(cosine)
    x, y, z = axis.unbind(-1)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    versine = skew @ skew / (1 + cosine).clamp(min=0.05)[..., None, None]
    return torch.eye(3, dtype=start.dtype, device=start.device) + skew + versine
