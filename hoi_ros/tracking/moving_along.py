"""Parts of the held object that the hand cuts off from the rest: told by moving along, as the table does not."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hoi_ros.datatypes import CameraIntrinsics
from hoi_ros.geometry import invert_transform, project, transform_points
from hoi_ros.tracking.masks import connected_parts
from hoi_ros.tracking.patch import Patch, depth_noise_m

LEAST_SHIFT_M = 0.015
"""Motion of a part from which its going along may show."""
PERIOD, MOST_MOMENTS = 3, 8
"""Frames between those compared with, and how many of them are kept."""
LEAST_PX = 150
FITS, RESTS = 0.8, 0.6
"""Share of points that must fit, and from which a part may be at rest, or have slid along its own surface."""
TOLERANCE_M = {"object": 0.008, "hand": 0.012}
SAMPLE = 250


@dataclass(frozen=True)
class _Moment:
    """An earlier frame to compare with."""

    depth_m: np.ndarray
    """(H, W) float32, 0 where unknown or hand."""
    intrinsics: CameraIntrinsics
    poses: dict[str, np.ndarray]
    """Pose (4, 4) of each body in the camera."""


class MovingAlong:
    """Compares each frame with some before it."""

    def __init__(self) -> None:
        self._moments: deque[_Moment] = deque(maxlen=MOST_MOMENTS)
        self._frames = 0

    def forget(self) -> None:
        """Start anew: another hand, or none."""
        self._moments.clear()

    def parts(
        self,
        patch: Patch,
        loose: np.ndarray,
        background: np.ndarray,
        depth_m: np.ndarray,
        hand_mask: np.ndarray,
        intrinsics: CameraIntrinsics,
        poses: Mapping[str, np.ndarray],
        arm: np.ndarray | None = None,
    ) -> np.ndarray:
        """Loose parts that moved as the object or the hand did, while the background stayed: under a still camera.

        Args:
            patch: crop of the frame.
            loose: (h, w) bool pixels of the patch that may be object and are not known to be.
            background: (h, w) bool pixels of table and wall.
            depth_m: (H, W) float32 cleaned depth of the frame.
            hand_mask: (H, W) bool.
            intrinsics: of the frame.
            poses: 'object' and 'hand' to their poses (4, 4) in the camera.
            arm: (h, w) bool pixels of forearms: what adjoins them is sleeve, which moves along as well.

        Returns:
            (h, w) bool.
        """
        out = np.zeros(loose.shape, bool)
        if self._moments and self._moments[-1].depth_m.shape != depth_m.shape:
            self.forget()
        room = _sampled(patch, background)
        for part in connected_parts(loose, patch, max(30, LEAST_PX // patch.stride**2)):
            if arm is not None and (part & arm).any():
                continue
            points = _sampled(patch, part)
            if any(self._went_along(points, room, name, pose) for name, pose in poses.items()):
                out |= part
        if self._frames % PERIOD == 0:
            free = np.where(hand_mask, np.float32(0), depth_m)
            self._moments.append(_Moment(free, intrinsics, dict(poses)))
        self._frames += 1
        return out

    def _went_along(self, points, room, name: str, pose: np.ndarray) -> bool:
        """Whether points (N, 3) were where a body's pose puts them, in the last frame that could tell."""
        for before in reversed(self._moments):
            moved = transform_points(before.poses[name] @ invert_transform(pose), points)
            if np.median(np.linalg.norm(moved - points, axis=1)) < LEAST_SHIFT_M:
                continue
            fits, rests = (_share(at, before, TOLERANCE_M[name]) for at in (moved, points))
            if np.isnan(fits) or (fits >= FITS and rests > RESTS):
                continue
            # NaN, at rest: hidden then.
            return fits >= FITS and _share(room, before, TOLERANCE_M["object"]) >= FITS
        return False


def _sampled(patch: Patch, mask: np.ndarray) -> np.ndarray:
    """(N, 3) float64 points of a mask (h, w), about SAMPLE of them, evenly."""
    rows = np.flatnonzero(mask)
    return patch.points.reshape(-1, 3)[rows[:: max(1, len(rows) // SAMPLE)]].astype(np.float64)


def _share(points: np.ndarray, before: _Moment, tolerance_m: float) -> float:
    """Share of points (N, 3) that lay on a surface of the earlier frame, of those that it says something of.

    NaN when it speaks of fewer than 40: hidden behind something, beside the picture, or unknown.
    """
    height, width = before.depth_m.shape
    pixels = project(points, before.intrinsics)
    near = (points[:, 2] > 0.05) & np.isfinite(pixels).all(1)
    column, row = (np.rint(np.where(near, axis, -1)).astype(np.int64) for axis in pixels.T)
    inside = (row >= 0) & (column >= 0) & (row < height) & (column < width)
    z, seen = points[inside, 2], before.depth_m[row[inside], column[inside]]
    allowed = tolerance_m + 2 * depth_noise_m(z)
    telling = (seen > 0) & (seen > z - allowed)
    return float((seen[telling] < z[telling] + allowed[telling]).mean()) if telling.sum() >= 40 else float("nan")
