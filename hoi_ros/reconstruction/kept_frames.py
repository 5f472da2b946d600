"""Frames kept so that an object can be fused anew when earlier poses turn out to be wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hoi_ros.datatypes import CameraIntrinsics, ObjectObservation, PoseRevision, RgbdFrame
from hoi_ros.geometry import invert_transform, rotation_angle

BORDER_PX = 24
DEPTH_STEP_M = 1e-4
SIDE_RAD, TIME_S = np.radians(15.0), 1.0
"""Difference of side and of time between a frame and a keyframe that count alike."""
REACH_M = 0.05
"""Distance from the object's middle at which a turn is counted as a shift."""


@dataclass(frozen=True)
class KeptFrame:
    """The part of a frame around the object."""

    stamp_ns: int
    T_camera_object: np.ndarray
    """(4, 4)."""
    intrinsics: CameraIntrinsics
    """Of the part."""
    color: np.ndarray
    """(h, w, 3) uint8 RGB."""
    depth: np.ndarray
    """(h, w) uint16 in DEPTH_STEP_M, 0 unknown."""
    labels: np.ndarray
    """(h, w) uint8: 1 object, 2 hand."""

    @property
    def nbytes(self) -> int:
        """Bytes held by the pictures."""
        return self.color.nbytes + self.depth.nbytes + self.labels.nbytes

    def frame(self) -> tuple[RgbdFrame, ObjectObservation]:
        """Frame and observation as they came, cut to the part."""
        depth = self.depth.astype(np.float32) * np.float32(DEPTH_STEP_M)
        frame = RgbdFrame(self.color, self.intrinsics, self.stamp_ns, depth_m=depth)
        return frame, ObjectObservation(
            "tracking",
            T_camera_object=self.T_camera_object,
            mask=(self.labels & 1) > 0,
            hand_mask=(self.labels & 2) > 0,
        )


def keep(frame: RgbdFrame, observation: ObjectObservation) -> KeptFrame:
    """Copy the part of a tracked frame around the object; pose, mask and depth must be there."""
    assert frame.depth_m is not None and observation.mask is not None and observation.T_camera_object is not None
    rows, columns = np.flatnonzero(observation.mask.any(1)), np.flatnonzero(observation.mask.any(0))
    y0, x0 = max(int(rows[0]) - BORDER_PX, 0), max(int(columns[0]) - BORDER_PX, 0)
    cut = np.s_[y0 : int(rows[-1]) + BORDER_PX, x0 : int(columns[-1]) + BORDER_PX]
    labels = observation.mask[cut].astype(np.uint8)
    if observation.hand_mask is not None:
        labels |= observation.hand_mask[cut].astype(np.uint8) << 1
    meters = np.nan_to_num(frame.depth_m[cut], nan=0.0, posinf=0.0, neginf=0.0)
    depth = np.clip(meters / DEPTH_STEP_M + 0.5, 0, 65535).astype(np.uint16)
    k, (height, width) = frame.intrinsics, labels.shape
    camera = CameraIntrinsics(width, height, k.fx, k.fy, k.cx - x0, k.cy - y0)
    pose = np.asarray(observation.T_camera_object, np.float64)
    return KeptFrame(frame.stamp_ns, pose, camera, frame.color[cut].copy(), depth, labels)


class KeptFrames:
    """The frames of one object that stand for all: bounded, the most redundant goes first."""

    def __init__(self, most: int, period: int) -> None:
        """Keep at most `most` frames, every `period`-th one and every keyframe."""
        self._most, self._period, self._seen = most, period, 0
        self.frames: list[KeptFrame] = []
        self._keyframes: dict[int, np.ndarray] = {}

    @property
    def memory_bytes(self) -> int:
        """Bytes held."""
        return sum(frame.nbytes for frame in self.frames)

    def add(self, frame: RgbdFrame, observation: ObjectObservation) -> None:
        """Take a fused frame in."""
        self._seen += 1
        if observation.is_keyframe:
            assert observation.T_camera_object is not None
            self._keyframes[frame.stamp_ns] = np.asarray(observation.T_camera_object, np.float64)
            while len(self._keyframes) > 4 * self._most:
                del self._keyframes[next(iter(self._keyframes))]
        if not self._most or (self._seen % self._period and not observation.is_keyframe):
            return
        self.frames.append(keep(frame, observation))
        if len(self.frames) > self._most:
            del self.frames[self._most_redundant()]

    def revised(self, revision: PoseRevision) -> tuple[list[KeptFrame], float]:
        """The kept frames with the poses that corrected keyframes give them, and the farthest that one moved, metres.

        Each goes with the keyframe that is most like it in side and time. Frames stay where they were when no keyframe
        of the revision is known.
        """
        known = [
            (stamp, self._keyframes[stamp], new)
            for stamp, new in zip(revision.stamps_ns.tolist(), revision.T_camera_object)
            if stamp in self._keyframes
        ]
        if not known:
            return list(self.frames), 0.0
        stamps = np.array([stamp for stamp, _, _ in known])
        before, after = np.stack([old for _, old, _ in known]), np.stack([new for _, _, new in known])
        changes = invert_transform(before) @ after
        out, farthest = [], 0.0
        for frame in self.frames:
            sides = rotation_angle(np.swapaxes(before[:, :3, :3], 1, 2) @ frame.T_camera_object[:3, :3])
            seconds = np.abs(stamps - frame.stamp_ns) * 1e-9
            change = changes[np.argmin(sides / SIDE_RAD + np.minimum(seconds / TIME_S, 3))]
            shift = float(np.linalg.norm(change[:3, 3])) + REACH_M * float(rotation_angle(change[:3, :3]))
            farthest = max(farthest, shift)
            out.append(replace(frame, T_camera_object=frame.T_camera_object @ change))
        return out, farthest

    def take(self, frames: list[KeptFrame], revision: PoseRevision) -> None:
        """Let revised frames and keyframe poses take the place of the old ones."""
        self.frames = frames
        for stamp, pose in zip(revision.stamps_ns.tolist(), revision.T_camera_object):
            if stamp in self._keyframes:
                self._keyframes[stamp] = pose

    def _most_redundant(self) -> int:
        """Row of the frame that two others are most like; the newest stays."""
        rotations = np.stack([frame.T_camera_object[:3, :3] for frame in self.frames])
        likeness = np.einsum("iab,jab->ij", rotations, rotations)
        np.fill_diagonal(likeness, -np.inf)
        return int(np.argmax(np.partition(likeness[:-1], -2, axis=1)[:, -2]))
