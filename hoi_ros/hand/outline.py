"""How far away a hand is, from the outline of its mask: landmarks of a half-hidden hand lie too close together.

A network that has to guess hidden joints draws them towards the middle, so the hand fitted to them looks small and is
put too far away. What shows of it has the right size: the fitted mesh is moved, turned and scaled in the image until
its outline lies on that of the network's hand mask, wherever that does not border on the held thing.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hoi_ros.datatypes import HandSegments
from hoi_ros.hand.regions import HandRegion

HAND, OBJECT = 1, 2
FINER = 4
"""Pixels of the grid in which outlines are compared, to a pixel of the mask."""
RIM_PX = 1.5
"""How near to the outline of the mesh a vertex is taken for lying on it; pixels of that grid."""
DRAWN_RIM_PX = 0.4
"""By so much OpenCV's filled triangles are larger on every side, as pixels count that their edges merely touch."""
REACH_SHARE = 0.3
"""How far apart the outlines may lie, in the root of the mesh's area."""
SURELY_OBJECT, BESIDE_OBJECT_PX = 0.35, 5
LEAST_MASK_PX, LEAST_POINTS = 200, 12
STEPS = 15
LARGEST_FACTOR = 1.3
SMOOTHING_S = 0.3
"""Time over which a track's factor is averaged: the mask's outline wavers from frame to frame."""


@dataclass(frozen=True)
class OutlineFactor:
    """By how much a track's hand is brought nearer, carried from frame to frame."""

    log_factor: float = 0.0
    frames: int = 0

    def updated(self, factor: float, dt_s: float) -> OutlineFactor:
        """Blend in what one frame says; the first few are averaged."""
        frames = self.frames + 1
        gain = max(1 - float(np.exp(-max(dt_s, 0.0) / SMOOTHING_S)), 1 / frames)
        return OutlineFactor(self.log_factor + gain * (float(np.log(factor)) - self.log_factor), frames)

    @property
    def factor(self) -> float:
        """Divides the distance."""
        return float(np.exp(self.log_factor))


def outline_factor(segments: HandSegments, vertices_px: np.ndarray, faces: np.ndarray) -> float | None:
    """By which factor a mesh must grow in the image for its outline to be the mask's.

    Args:
        segments: what the network sees around the hand.
        vertices_px: (V, 2) the mesh in the image.
        faces: (F, 3) of the mesh.

    Returns:
        None where too little of either outline is seen.
    """
    if not np.isfinite(vertices_px).all():
        return None
    side = len(segments.shares) * FINER
    shares = cv2.resize(segments.shares.astype(np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
    hand = (shares[..., HAND] > 0.5).astype(np.uint8)
    if hand.sum() < LEAST_MASK_PX:
        return None
    beside = np.ones((2 * BESIDE_OBJECT_PX + 1,) * 2, np.uint8)
    held = cv2.dilate((shares[..., OBJECT] > SURELY_OBJECT).astype(np.float32), beside)
    square = HandRegion(segments.center_px, segments.size_px, segments.angle_rad)
    places = square.from_image(vertices_px) * side - 0.5
    mesh = _drawn(places, faces, side)
    own = _at(_distance(mesh), places) + DRAWN_RIM_PX
    on = own > -RIM_PX
    return _grown_onto(places[on], own[on], _distance(hand), held, REACH_SHARE * float(np.sqrt(mesh.sum())))


def _grown_onto(
    points: np.ndarray, own: np.ndarray, distance: np.ndarray, held: np.ndarray, reach_px: float
) -> float | None:
    """Scale of the similarity that brings points (N, 2) to where a signed distance (S, S) is `own` (N,).

    Gauss-Newton with Geman-McClure weights. Points that the mask's outline meets beside what is held say nothing.
    """
    slope = np.stack([cv2.Sobel(distance, cv2.CV_32F, *axis, scale=1 / 8) for axis in ((1, 0), (0, 1))], -1)
    middle = points.mean(0) if len(points) else np.zeros(2)
    arms = points - middle
    a, b, x, y = 1.0, 0.0, 0.0, 0.0
    for _ in range(STEPS):
        moved = arms @ np.array([[a, b], [-b, a]]) + middle + (x, y)
        gap, normal = _at(distance, moved) - own, _at(slope, moved)
        nearest = moved - gap[:, None] * normal
        inside = ((moved >= 1) & (moved < len(distance) - 2)).all(1)
        used = inside & (_at(held, nearest) < 0.5) & (np.abs(gap) < reach_px)
        if used.sum() < LEAST_POINTS:
            return None
        arm, n, d = arms[used], normal[used], gap[used]
        rows = np.stack([(n * arm).sum(1), n[:, 1] * arm[:, 0] - n[:, 0] * arm[:, 1], n[:, 0], n[:, 1]], 1)
        spread = max(1.5, 1.5 * float(np.median(np.abs(d))))
        weighted = rows / (1 + (d / spread) ** 2)[:, None] ** 2
        step = np.linalg.solve(weighted.T @ rows + 1e-6 * np.eye(4), -weighted.T @ d)
        a, b, x, y = np.array([a, b, x, y]) + step
        if np.abs(step[:2]).max() < 1e-3:
            break
    factor = float(np.hypot(a, b))
    return factor if 1 / LARGEST_FACTOR < factor < LARGEST_FACTOR else None


def _drawn(places: np.ndarray, faces: np.ndarray, side: int) -> np.ndarray:
    """(S, S) uint8: where a closed mesh is; the faces of one side cover it."""
    out = np.zeros((side, side), np.uint8)
    a, b, c = places[faces].swapaxes(0, 1)
    turned = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    for corners in np.rint(16 * places[faces[turned > 0]]).astype(np.int32):
        cv2.fillConvexPoly(out, corners, 1, shift=4)
    return out


def _distance(mask: np.ndarray) -> np.ndarray:
    """(S, S) float32 pixels from a mask's outline, negative within."""
    outside, within = (cv2.distanceTransform(part, cv2.DIST_L2, 5) for part in (1 - mask, mask))
    return np.where(mask > 0, 0.5 - within, outside - 0.5)


def _at(field: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Values (N, ...) of a grid at places (N, 2), between its pixels."""
    column, row = places.astype(np.float32).T
    read = cv2.remap(field, column[:, None], row[:, None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return read[:, 0]
