"""The hand model bent for whole batches in torch: skeleton, skin and normals, left and right together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hoi_ros.errors import InputError
from hoi_ros.hand_model import HandModel
from hoi_ros.hand_model.anatomy import BONE_COUNT, BONE_PARENTS, HINGE_BONES, HINGE_SLOTS, HINGES_PER_BONE
from hoi_ros.hand_model.anatomy import KEYPOINT_BONES as _KEYPOINT_BONES

_BONE_KEYPOINTS = [0] + [1 + 4 * f + k for f in range(5) for k in range(3)]
_LEVELS = [[3 * f + 1 + level for f in range(5)] for level in range(3)]


@dataclass(frozen=True)
class PosedHands:
    """Hands in the wrist frame of their side, metres."""

    vertices: Tensor
    """(B, V, 3)."""
    joints: Tensor
    """(B, 21, 3)."""


class BatchHands:
    """`HandModel.pose` for a batch of both sides, float32, on any device."""

    def __init__(self, model: HandModel, device: torch.device | str = "cpu"):
        if model._pose_matrix is not None:
            raise InputError(
                f"batched training data of the hand model '{model.name}': only the free hand is made so; "
                "make shards of it: ./hoi train crops --hand-model FILE"
            )
        skeleton = model.skeleton

        def put(values: np.ndarray, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.as_tensor(np.ascontiguousarray(values)).to(device, dtype)

        self.faces = put(model.right_faces, torch.int64)
        self.limits = put(model.joint_limits)
        self._template, self._shapes = put(model.template), put(model.shape_directions.reshape(10, -1))
        self._weights = put(model.weights)
        self._keypoints, self._directions = put(skeleton.keypoints), put(skeleton.keypoint_directions.reshape(10, -1))
        self._axes, self._squares = put(skeleton.axis_matrices), put(skeleton.axis_squares)
        self._rest_angles = put(skeleton.hinges.rest_angles)
        self._slots = put(HINGE_BONES * HINGES_PER_BONE + HINGE_SLOTS, torch.int64)
        self._bone_keypoints, self._keypoint_bones = (
            put(np.array(_BONE_KEYPOINTS), torch.int64),
            put(_KEYPOINT_BONES, torch.int64),
        )
        self._levels = [(put(np.array(b), torch.int64), put(BONE_PARENTS[b], torch.int64)) for b in _LEVELS]

    def joints(self, angles: Tensor, shape: Tensor) -> Tensor:
        """(B, 21, 3) of right hands of angles (B, A) radians and shape (B, 10)."""
        return self._motion(angles, shape)[0]

    def pose(self, angles: Tensor, shape: Tensor, right: Tensor, scale: Tensor) -> PosedHands:
        """Bend hands.

        Args:
            angles: (B, A) radians.
            shape: (B, 10) coefficients.
            right: (B,) bool.
            scale: (B,) size factors.
        """
        joints, rotations, offsets = self._motion(angles, shape)
        rest = self._template + (shape @ self._shapes).view(len(shape), -1, 3)
        bones = torch.cat([rotations, offsets[..., None]], -1).view(len(shape), BONE_COUNT, 12)
        blended = (self._weights @ bones).view(len(shape), -1, 3, 4)
        vertices = (blended[..., :3] * rest[:, :, None]).sum(-1) + blended[..., 3]
        size = scale[:, None, None] * mirrors(right)[:, None]
        return PosedHands(vertices * size, joints * size)

    def _motion(self, angles: Tensor, shape: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keypoints (B, 21, 3), and each bone's rotation (B, 16, 3, 3) and offset (B, 16, 3) from the rest pose."""
        batch = len(angles)
        rest = self._keypoints + (shape @ self._directions).view(batch, 21, 3)
        turn = angles.new_zeros(batch, BONE_COUNT * HINGES_PER_BONE)
        turn[:, self._slots] = angles - self._rest_angles
        turn = turn.view(batch, BONE_COUNT, HINGES_PER_BONE, 1, 1)
        hinge = torch.eye(3, device=turn.device) + turn.sin() * self._axes + (1 - turn.cos()) * self._squares
        local = hinge[:, :, 0] @ hinge[:, :, 1] @ hinge[:, :, 2]
        starts = rest[:, self._bone_keypoints]
        rotations = torch.eye(3, device=turn.device).expand(batch, BONE_COUNT, 3, 3).clone()
        origins = starts.clone()
        for bones, parents in self._levels:
            rotations[:, bones] = rotations[:, parents] @ local[:, bones]
            step = turned(rotations[:, parents], starts[:, bones] - starts[:, parents])
            origins[:, bones] = origins[:, parents] + step
        own = self._keypoint_bones
        keypoints = origins[:, own] + turned(rotations[:, own], rest - starts[:, own])
        return keypoints, rotations, origins - turned(rotations, starts)


def mirrors(right: Tensor) -> Tensor:
    """(B, 3) factors that make a right hand's points (B,) bool right or left ones."""
    signs = torch.ones(len(right), 3, device=right.device)
    signs[:, 0] = torch.where(right, 1.0, -1.0)
    return signs


class SmoothNormals:
    """Vertex normals of meshes with one topology; summed in a fixed order, so that they are the same on every run."""

    def __init__(self, faces: np.ndarray, vertex_count: int, device: torch.device | str = "cpu"):
        """Faces (F, 3) count for the normals; vertices without a face get none."""
        corners = faces.reshape(-1)
        order = np.argsort(corners, kind="stable")
        counts = np.bincount(corners, minlength=vertex_count)
        around = np.full((vertex_count, counts.max()), len(faces))
        slot = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        around[corners[order], slot] = order // 3
        self._faces = torch.as_tensor(faces).long().to(device)
        self._around = torch.as_tensor(around).to(device)

    def __call__(self, vertices: Tensor) -> Tensor:
        """(B, V, 3) unit normals of vertices (B, V, 3), weighted by area."""
        a, b, c = (vertices[:, self._faces[:, k]] for k in range(3))
        normals = torch.linalg.cross(b - a, c - a)
        padded = torch.cat([normals, normals.new_zeros(len(normals), 1, 3)], 1)
        total = padded[:, self._around.reshape(-1)].view(len(normals), *self._around.shape, 3).sum(2)
        return total / (total.norm(dim=-1, keepdim=True) + 1e-12)


def turns_about(vectors: Tensor) -> Tensor:
    """Rotations (..., 3, 3) by rotation vectors (..., 3)."""
    angle = vectors.norm(dim=-1, keepdim=True).clamp(min=1e-9)
    x, y, z = (vectors / angle).unbind(-1)
    zero = torch.zeros_like(x)
    axis = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).view(*x.shape, 3, 3)
    angle = angle[..., None]
    return torch.eye(3, device=vectors.device) + angle.sin() * axis + (1 - angle.cos()) * (axis @ axis)


def nearest(a: Tensor, b: Tensor) -> Tensor:
    """(N,) least distance between points (N, P, 3) and (N, Q, 3)."""
    return torch.cdist(a, b).flatten(1).amin(1)


def turned(rotations: Tensor, points: Tensor) -> Tensor:
    """Points (..., 3) turned by rotations (..., 3, 3)."""
    return (rotations @ points[..., None])[..., 0]
