"""How far the hand is that holds a thing: from frame to frame by flow, on the whole by the hand network.

A hand network's distance is off by some hundredths, which change slowly. So over a few frames the change of distance
is better told by how the hand's pixels move apart. And where a thing was first seen at a wrong distance, its true place
swings about the reported one as it turns: what is learnt later of its scale is told with that first pose held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from hoi_ros.datatypes import CameraIntrinsics, HandEstimate
from hoi_ros.geometry import vertex_normals
from hoi_ros.tracking.pointmap_flow import PictureFlow
from hoi_ros.tracking.pointmap_structure import PosePrior, fit_pose, projected

LEAST_COSINE = 0.5
"""Between a vertex' normal and its ray: those nearer to the outline slide over what lies behind."""
LEAK = 0.06
"""Share of the way that a followed distance goes to the network's in each frame."""
SETTLED_FRAMES = 20
"""Frames of which the scale is the mean; then it stays, so that what is fused lies on itself."""
_FEWEST, _SIGMA_PX, _FARTHEST_STEP = 12, 0.5, 0.15
_TURN_RAD, _SHIFT_M = np.radians(8.0), 0.03


class HeldScale:
    """Followed distances of hands since a thing was met, and the thing's scale against what was thought then."""

    def __init__(self) -> None:
        self._before: dict[int, tuple[HandEstimate, float]] = {}
        """The last frame's hands as the network has them, with the logarithms of their followed distances."""
        self._log_scale, self._learnt, self._followed = 0.0, 0, False

    @property
    def scale(self) -> float:
        """True size over the followed one, as far as the network's distances tell."""
        return float(np.exp(self._log_scale))

    @property
    def settled(self) -> bool:
        """True once the scale stays."""
        return not self._followed or self._learnt >= SETTLED_FRAMES

    def shown_px(
        self, holder: int | None, faces: Mapping[str, np.ndarray] | None, camera: CameraIntrinsics
    ) -> np.ndarray:
        """(N, 2) pixels of the last frame whose flow tells the holder's next distance; `faces` by side."""
        hand = self._before[holder][0] if holder in self._before else None
        if hand is None or faces is None or hand.handedness not in faces:
            return np.zeros((0, 2))
        return projected(facing_vertices(hand, faces[hand.handedness]), np.eye(4), camera)[0]

    def shift_px(self, holder: int | None, hands: Sequence[HandEstimate]) -> np.ndarray | None:
        """(2,) pixels that the holder moved since the last frame; None: it is not in both."""
        hand = next((hand for hand in hands if hand.track_id == holder), None)
        return None if hand is None or holder not in self._before else _shift_px(self._before[holder][0], hand)

    def followed(
        self, hands: Sequence[HandEstimate], holder: int | None, faces: Mapping[str, np.ndarray] | None,
        flow: PictureFlow | None, camera: CameraIntrinsics,
    ) -> list[HandEstimate]:  # fmt: skip
        """Hands at the distances by which the thing is followed: the holder's by flow, others by the scale so far.

        Args:
            hands: of this frame, as the network has them.
            holder: track id of the one that holds the thing.
            faces: (F, 3) triangles of the meshes by side; without them hands stay where they are.
            flow: from the last frame to this one; None where there is none.
            camera: intrinsics.
        """
        if faces is None:
            return list(hands)
        self._followed = True
        before, self._before = self._before, {}
        out = []
        for hand in hands:
            told = _log_distance(hand)
            distance = told - self._log_scale
            if hand.track_id == holder and flow is not None and hand.track_id in before:
                last, distance_before = before[hand.track_id]
                triangles = faces.get(last.handedness)
                step = None if triangles is None else distance_step(last, hand, triangles, flow, camera)
                if step is None:
                    distance = distance_before + told - _log_distance(last)
                else:
                    distance = (1 - LEAK) * (distance_before + step) + LEAK * distance
            self._before[hand.track_id] = hand, distance
            out.append(_moved(hand, float(np.exp(distance - told))))
        return out

    def learn(self, holder: int | None) -> None:
        """Take in how far the network has this frame's holder against where it was followed to."""
        if holder not in self._before or self._learnt >= SETTLED_FRAMES:
            return
        hand, distance = self._before[holder]
        self._learnt += 1
        self._log_scale += (_log_distance(hand) - distance - self._log_scale) / self._learnt

    def told_pose(self, T_camera_object: np.ndarray, met_at: np.ndarray) -> np.ndarray:
        """A followed pose (4, 4) at the scale known by now; the one at which the thing was met (4, 4) stays."""
        pose = T_camera_object.copy()
        pose[:3, 3] = self.scale * pose[:3, 3] - pose[:3, :3] @ self._offset(met_at)
        return pose

    def told_point(self, point_object: np.ndarray, met_at: np.ndarray) -> np.ndarray:
        """A point (3,) of the followed object in the object frame of the told poses."""
        return self.scale * point_object + self._offset(met_at)

    def _offset(self, met_at: np.ndarray) -> np.ndarray:
        return (self.scale - 1) * met_at[:3, :3].T @ met_at[:3, 3]


def facing_vertices(hand: HandEstimate, faces: np.ndarray) -> np.ndarray:
    """(N, 3) metres, optical frame: vertices of a hand that clearly face the camera; `faces` (F, 3)."""
    vertices = np.asarray(hand.vertices_camera, np.float64)
    rays = vertices / np.maximum(np.linalg.norm(vertices, axis=1, keepdims=True), 1e-12)
    return vertices[-(vertex_normals(vertices, faces) * rays).sum(1) > LEAST_COSINE]


def distance_step(
    before: HandEstimate, now: HandEstimate, faces: np.ndarray, flow: PictureFlow, camera: CameraIntrinsics
) -> float | None:
    """Logarithm of how many times farther a hand is than in the frame before; None where flow does not tell.

    Args:
        before: the hand in the flow's source. now: the same in its target.
        faces: (F, 3) triangles of its mesh.
        flow: between the frames.
        camera: intrinsics.
    """
    points = facing_vertices(before, faces)
    ends, sure = flow.at(projected(points, np.eye(4), camera)[0])
    if sure.sum() < _FEWEST:
        return None
    points, ends = points[sure], ends[sure].astype(np.float64)
    middle, start = points.mean(0), np.eye(4)
    start[:2, 3] = _shift_px(before, now) / (camera.fx, camera.fy) * middle[2]
    prior = PosePrior(start, _TURN_RAD, np.full(3, _SHIFT_M), middle)
    motion = fit_pose(points, ends, np.full(len(points), _SIGMA_PX), prior, camera, start).T_camera_object
    step = float(np.log(max(motion[2, :3] @ middle + motion[2, 3], 1e-3) / middle[2]))
    return step if abs(step) < _FARTHEST_STEP else None


def _shift_px(before: HandEstimate, now: HandEstimate) -> np.ndarray:
    return np.median(now.joints_px - before.joints_px, axis=0)


def _log_distance(hand: HandEstimate) -> float:
    return float(np.log(np.linalg.norm(hand.joints_camera.mean(0))))


def _moved(hand: HandEstimate, factor: float) -> HandEstimate:
    """A hand `factor` times as far, its size kept."""
    shift = hand.joints_camera.mean(0) * (factor - 1)
    T_camera_wrist = np.array(hand.T_camera_wrist, np.float64)
    T_camera_wrist[:3, 3] += shift
    return replace(
        hand, joints_camera=hand.joints_camera + shift, T_camera_wrist=T_camera_wrist,
        vertices_camera=hand.vertices_camera + shift.astype(hand.vertices_camera.dtype),
    )  # fmt: skip
