"""The hand as a skinned mesh: joint angles and shape in, vertices and joints out."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from hoi_ros.datatypes import HAND_SIDES
from hoi_ros.errors import InputError, unknown_name
from hoi_ros.hand_model import anatomy
from hoi_ros.hand_model.kinematics import BoneMotion, Skeleton, forward_kinematics

FREE_HAND_NAME = "free hand"
FREE_HAND = Path(__file__).parent / "free_hand.npz"
SHAPE_COUNT = 10
MIRROR = np.array([-1.0, 1.0, 1.0])


@dataclass(frozen=True)
class HandPose:
    """Posed hands in the wrist frame of their side, metres."""

    vertices: np.ndarray
    """(B, V, 3) float32."""
    joints: np.ndarray
    """(B, 21, 3) float64, JOINT_NAMES order."""
    bone_rotations: np.ndarray
    """(B, 21, 3, 3) float64: y along the bone outwards, z to the palm side; a tip has its last bone's."""


@dataclass(frozen=True)
class HandModel:
    """Frozen geometry of one hand model, stored as a right hand; the left is its mirror image in x."""

    name: str
    template: np.ndarray
    """(V, 3) rest vertices, wrist frame, metres."""
    shape_directions: np.ndarray
    """(10, V, 3) metres per unit coefficient; a coefficient's spread in people is about 1."""
    weights: np.ndarray
    """(V, 16) skinning weights, rows sum to 1."""
    right_faces: np.ndarray
    """(F, 3) int32, counter-clockwise seen from outside."""
    skeleton: Skeleton
    pose_directions: np.ndarray | None = None
    """(V, 3, 135) corrections per entry of the 15 local rotations minus identity (MANO); None has none."""
    joint_angle_names: tuple[str, ...] = anatomy.JOINT_ANGLE_NAMES
    region_names: tuple[str, ...] = anatomy.REGION_NAMES
    skin_regions: np.ndarray = field(init=False)
    """(V,) int32 index into `region_names`."""
    _shape_matrix: np.ndarray = field(init=False, repr=False)
    _pose_matrix: np.ndarray | None = field(init=False, repr=False)
    _weights32: np.ndarray = field(init=False, repr=False)
    _frames: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        keypoints = self.skeleton.keypoints
        put = object.__setattr__
        put(self, "skin_regions", anatomy.label_skin(self.template, self.right_faces, self.weights, keypoints))
        put(self, "_shape_matrix", self.shape_directions.reshape(SHAPE_COUNT, -1).astype(np.float32))
        pose = self.pose_directions
        put(self, "_pose_matrix", None if pose is None else pose.reshape(-1, pose.shape[2]).T.astype(np.float32).copy())
        put(self, "_weights32", self.weights.astype(np.float32))
        put(self, "_frames", anatomy.bone_frames(keypoints))

    @staticmethod
    @lru_cache(maxsize=1)
    def load() -> HandModel:
        """Load the free hand that comes with hoi_ros (778 vertices, 1552 faces, closed).

        Raises:
            InputError: the file is missing or damaged.
        """
        try:
            with np.load(FREE_HAND) as archive:
                data = {key: archive[key] for key in archive.files}
            rest = {key: data[key].astype(np.float64) for key in data if data[key].dtype.kind == "f"}
            skeleton = Skeleton.build(rest["keypoints"], rest["keypoint_directions"])
            weights = np.zeros((len(data["template"]), anatomy.BONE_COUNT))
            np.put_along_axis(weights, data["weight_bones"].astype(int), rest["weight_values"], 1)
            weights /= weights.sum(1, keepdims=True)
            directions = rest["shape_directions"] * rest["shape_scale"][:, None, None]
            return HandModel(
                FREE_HAND_NAME, rest["template"], directions, weights, data["faces"].astype(np.int32), skeleton
            )
        except (OSError, KeyError, ValueError, BadZipFile) as error:
            raise InputError(
                f"hand model {FREE_HAND} cannot be read ({error}); "
                "install hoi_ros again or run tools/build_hand_model.py"
            ) from error

    @property
    def vertex_count(self) -> int:
        """Vertices of the mesh."""
        return len(self.template)

    @property
    def joint_limits(self) -> np.ndarray:
        """(A, 2) radians, lowest and highest angle."""
        return anatomy.JOINT_LIMITS.copy()

    def faces(self, side: str) -> np.ndarray:
        """Faces (F, 3) int32 of a side, counter-clockwise seen from outside.

        Raises:
            InputError: `side` is neither 'left' nor 'right'.
        """
        return self.right_faces if _is_right(side) else np.ascontiguousarray(self.right_faces[:, ::-1])

    def pose(self, joint_angles: np.ndarray, shape: np.ndarray, side: str, scale: float | np.ndarray = 1.0) -> HandPose:
        """Bend the hand by linear blend skinning.

        Args:
            joint_angles: (B, A) radians, `joint_angle_names` order; limits are the caller's business.
            shape: (B, 10) coefficients, 0 is the mean adult.
            side: 'left' or 'right'.
            scale: size factor, a number or (B,).

        Raises:
            InputError: wrong array shapes or an unknown side.
        """
        angles, shape = np.asarray(joint_angles, np.float64), np.asarray(shape, np.float64)
        if angles.ndim != 2 or angles.shape[1] != len(self.joint_angle_names) or shape.shape != (len(angles), 10):
            raise InputError(
                f"hand pose of joint angles {angles.shape} and shape {shape.shape}: "
                f"give (B, {len(self.joint_angle_names)}) and (B, {SHAPE_COUNT})"
            )
        right = _is_right(side)
        motion = forward_kinematics(self.skeleton, angles, shape)
        scales = np.broadcast_to(np.asarray(scale, np.float64), (len(angles),))[:, None, None]
        vertices = self._skin(motion, shape) * scales.astype(np.float32)
        joints = motion.keypoints * scales
        rotations = motion.rotations[:, anatomy.KEYPOINT_BONES] @ self._frames
        if not right:
            vertices[..., 0] *= -1
            joints = joints * MIRROR
            rotations = rotations * (MIRROR[:, None] * MIRROR)
        return HandPose(vertices, joints, rotations)

    def part(self, kept: np.ndarray) -> HandModel:
        """The same hand with some vertices, (V,) bool, alone and without faces: fewer are posed in less time."""
        out, put = copy(self), object.__setattr__
        put(out, "right_faces", np.zeros((0, 3), np.int32))
        for name in ("template", "weights", "skin_regions", "_weights32"):
            put(out, name, getattr(self, name)[kept])
        put(out, "shape_directions", self.shape_directions[:, kept])
        by_vertex = self._shape_matrix.reshape(SHAPE_COUNT, -1, 3)
        put(out, "_shape_matrix", np.ascontiguousarray(by_vertex[:, kept]).reshape(SHAPE_COUNT, -1))
        if self.pose_directions is not None and self._pose_matrix is not None:
            rows = self._pose_matrix.reshape(len(self._pose_matrix), -1, 3)
            put(out, "pose_directions", self.pose_directions[kept])
            put(out, "_pose_matrix", np.ascontiguousarray(rows[:, kept]).reshape(len(rows), -1))
        return out

    def _skin(self, motion: BoneMotion, shape: np.ndarray) -> np.ndarray:
        """Blend the bones' motions: (B, V, 3) float32 before size and side."""
        batch, bones = len(shape), anatomy.BONE_COUNT
        rest = self.template.astype(np.float32).reshape(1, -1) + shape.astype(np.float32) @ self._shape_matrix
        if self._pose_matrix is not None:
            feature = (motion.local_rotations[:, 1:] - np.eye(3)).reshape(batch, -1).astype(np.float32)
            rest = rest + feature @ self._pose_matrix
        rest = rest.reshape(batch, -1, 3)
        offsets = motion.origins - (motion.rotations @ motion.rest_origins[..., None])[..., 0]
        bone_motion = np.concatenate([motion.rotations, offsets[..., None]], -1).reshape(batch, bones, 12)
        blended = (self._weights32 @ bone_motion.astype(np.float32)).reshape(batch, -1, 3, 4)
        vertices = blended[..., 3].copy()
        for axis in range(3):
            vertices += blended[..., axis] * rest[..., axis, None]
        return vertices


def _is_right(side: str) -> bool:
    if side not in HAND_SIDES:
        raise unknown_name("hand side", str(side), HAND_SIDES)
    return side == "right"
