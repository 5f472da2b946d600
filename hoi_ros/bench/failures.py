"""Pictures of the worst frames of each sequence, and of the best: what was found over what is true."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from hoi_ros.bench.sheets import fit_tile
from hoi_ros.datatypes import SKELETON_EDGES, CameraIntrinsics, RgbdFrame, TriangleMesh
from hoi_ros.evaluation.datasets.records import LabelledFrame
from hoi_ros.evaluation.surfaces import nearest_distances, sample_surface
from hoi_ros.geometry import invert_transform, project, transform_points

TRUE_COLOR, FOUND_COLOR = (80, 255, 120), (255, 80, 60)
SIZE = (640, 480)
KEPT, TILE_PX = 10, 256
"""Hands of either kind in a sheet, and the width of each."""


class WorstFrame:
    """Keeps the frame with the largest error seen so far."""

    def __init__(self) -> None:
        self.error = -np.inf
        self._frame: RgbdFrame | None = None
        self._true_px: list[np.ndarray] = []
        self._found_px: list[np.ndarray] = []

    def offer(self, error: float, frame: RgbdFrame, true_px: list[np.ndarray], found_px: list[np.ndarray]) -> None:
        """Take the frame if its error is larger: point sets (N, 2) in pixels, 21 of them being a hand."""
        if error > self.error:
            self.error, self._frame = error, frame
            self._true_px, self._found_px = true_px, found_px

    def save(self, path: Path, caption: str) -> None:
        """Write the picture, truth green and what was found red; nothing when no frame was offered."""
        if self._frame is None:
            return
        picture = self._frame.color.copy()
        for points, color in ((self._true_px, TRUE_COLOR), (self._found_px, FOUND_COLOR)):
            for item in points:
                _draw(picture, item, color)
        tile = fit_tile(picture, SIZE)
        cv2.rectangle(tile, (0, 0), (SIZE[0], 22), (0, 0, 0), -1)
        text = f"{caption}, frame {self._frame.index}: {self.error:.1f}"
        cv2.putText(tile, text, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
        cv2.imwrite(str(path), tile[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])


@dataclass(frozen=True)
class _Shown:
    """A hand in a frame: its error, and what is drawn."""

    error: float
    unit: str
    frame: RgbdFrame
    true_px: np.ndarray
    found_px: np.ndarray | None


class BestAndWorst:
    """Keeps the hands with the smallest and the largest errors of a sequence: a mean shows neither."""

    def __init__(self) -> None:
        self._best: list[_Shown] = []
        self._worst: list[_Shown] = []

    def offer(
        self, error: float, unit: str, frame: RgbdFrame, true_px: np.ndarray, found_px: np.ndarray | None
    ) -> None:
        """Take a hand if it is among the best or the worst so far.

        Args:
            error: infinite for a missed one; NaN counts as missed.
            unit: of the error.
            frame: its picture.
            true_px: (21, 2) pixels, NaN where unknown.
            found_px: (21, 2) pixels; None where it was missed.
        """
        shown = _Shown(np.inf if np.isnan(error) else error, unit, frame, true_px, found_px)
        self._best = sorted([*self._best, shown], key=lambda one: one.error)[:KEPT]
        self._worst = sorted([*self._worst, shown], key=lambda one: -one.error)[:KEPT]

    def save(self, path: Path) -> None:
        """Write two rows of the best, then two of the worst, each from its end inwards; nothing without hands."""
        if not self._best:
            return
        blank = np.zeros((TILE_PX, TILE_PX, 3), np.uint8)
        rows = []
        for shown in (self._best, self._worst):
            tiles = [_hand_tile(one) for one in shown]
            tiles += [blank] * (KEPT - len(tiles))
            rows += [np.hstack(tiles[: KEPT // 2]), np.hstack(tiles[KEPT // 2 :])]
        line = np.full((6, rows[0].shape[1], 3), 255, np.uint8)
        picture = np.vstack([*rows[:2], line, *rows[2:]])
        cv2.imwrite(str(path), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])


def _hand_tile(shown: _Shown) -> np.ndarray:
    """A square around the hand, truth green and what was found red, with its error."""
    parts = [shown.true_px] if shown.found_px is None else [shown.true_px, shown.found_px]
    points = np.concatenate(parts)
    points = points[np.isfinite(points).all(1)]
    low, high = points.min(0), points.max(0)
    side = max(1.5 * float((high - low).max()), 16.0)
    scale = TILE_PX / side
    corner = (low + high) / 2 - side / 2
    affine = np.array([[scale, 0, -scale * corner[0]], [0, scale, -scale * corner[1]]])
    tile = cv2.warpAffine(shown.frame.color, affine, (TILE_PX, TILE_PX), flags=cv2.INTER_LINEAR)
    for item, color in zip(parts, (TRUE_COLOR, FOUND_COLOR)):
        _draw(tile, (item - corner) * scale, color)
    error = "missed" if np.isinf(shown.error) else f"{shown.error:.1f} {shown.unit}"
    text = f"{error}, frame {shown.frame.index}"
    cv2.rectangle(tile, (0, 0), (TILE_PX, 18), (0, 0, 0), -1)
    cv2.putText(tile, text, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
    return tile


class ObjectDrift:
    """Turning error of a tracker, frame by frame, with the worst one kept as a picture."""

    def __init__(self, mesh: TriangleMesh, intrinsics: CameraIntrinsics) -> None:
        self.worst = WorstFrame()
        self._points = sample_surface(mesh.vertices, mesh.faces, 1500, seed=3)
        self._intrinsics = intrinsics
        self._T_found_true: np.ndarray | None = None

    def add(self, frame: RgbdFrame, pose: np.ndarray | None, truth: np.ndarray) -> None:
        """Compare one frame; the first tracked one ties the tracker's object frame to the true one."""
        if pose is None:
            return
        if self._T_found_true is None:
            self._T_found_true = invert_transform(pose) @ truth
        found = pose @ self._T_found_true
        there, here = transform_points(truth, self._points), transform_points(found, self._points)
        error = float(np.linalg.norm(there - here, axis=1).mean() * 1e3)
        self.worst.offer(error, frame, [project(there, self._intrinsics)], [project(here, self._intrinsics)])


def save_gaps(
    path: Path, labelled: LabelledFrame, seen_points: np.ndarray, mesh: TriangleMesh, T_true_mesh: np.ndarray
) -> None:
    """Seen surface of the object over a frame: green where the fused mesh lies within 5 mm, red where it has a gap.

    Args:
        path: picture to write.
        labelled: frame with the true pose.
        seen_points: (N, 3) points of the true surface that the camera saw, object frame.
        mesh: fused one.
        T_true_mesh: (4, 4) that lays it on the truth.
    """
    assert labelled.T_camera_object is not None
    surface = transform_points(T_true_mesh, sample_surface(mesh.vertices, mesh.faces, 20_000, seed=4))
    points = seen_points[:: max(1, len(seen_points) // 3000)]
    gap = nearest_distances(points, surface) > 0.005
    pixels = project(transform_points(labelled.T_camera_object, points), labelled.frame.intrinsics)
    worst = WorstFrame()
    worst.offer(100 * float(gap.mean()), labelled.frame, [pixels[~gap]], [pixels[gap]])
    worst.save(path, "seen surface missing from the mesh, percent")


def _draw(picture: np.ndarray, points: np.ndarray, color: tuple[int, int, int]) -> None:
    """Skeleton of 21 joints, dots of anything else."""
    if len(points) == 21:
        for a, b in SKELETON_EDGES:
            if np.isfinite(points[[a, b]]).all():
                ends = [(int(p[0]), int(p[1])) for p in points[[a, b]]]
                cv2.line(picture, ends[0], ends[1], color, 2, cv2.LINE_AA)
        return
    for x, y in points[np.isfinite(points).all(1)].astype(int):
        cv2.circle(picture, (int(x), int(y)), 1, color, -1)
