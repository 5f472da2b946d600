"""Residuals of a surface against a frame at poses, and their weighted normal equations; several poses at a time.

A residual whose slope in space is s moves by s . (t + w x a) under a shift t and a turn w about a centre, a being the
arm from there to the point. So all residuals of a point are one symmetric matrix, the sum of w s s^T, and the normal
equations of all points are moments of those over the arms: one matrix product for each pose, see `_normal_equations`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from hoi_ros.tracking.config import TrackerConfig
from hoi_ros.tracking.features import CHANNELS
from hoi_ros.tracking.patch import depth_noise_m
from hoi_ros.tracking.reference import ReferenceCloud
from hoi_ros.tracking.target import BACKGROUND, BLOCKED, FREE, UNKNOWN, AlignmentTarget

GATES_M = (0.03, 0.015, 0.009)
"""Largest distance of a match at each level, metres, beside three times the sensor's noise."""
TURNED = (0.5, 0.6, 0.7)
"""Least cosine between the normals of a match at each level."""
STEEP = ((4.0, 4.0, 4.0), (2.0, 2.8, 4.0), (0.5, 0.7, 1.0))
"""Slope a pixel of each channel at each level: flatter places say nothing of where print is."""
CHANNEL_WEIGHT = ((0.0, 1.0, 1.0), (1.0, 3.0, 3.0), (1.0, 3.0, 3.0))
MISSING_COST = 9.0
COLOR_NOISE_GAIN = 1.0
SILHOUETTE_SIGMA_M, SILHOUETTE_REACH_M = 0.003, 0.03
HUBER_SIGMAS, CAUCHY_SIGMAS = 1.5, 3.0
"""Standard deviations from which a distance, and a colour, counts for less."""
POINT_WEIGHT = 0.1  # Neighbouring pixels err together: ten of them count as one measurement.
PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
"""The six different entries of a symmetric matrix (3, 3)."""


@dataclass(frozen=True)
class LevelCloud:
    """A reference surface at one level, a row a coordinate: numpy is several times faster along long rows."""

    points: np.ndarray
    """(3, N) float32 metres, object frame."""
    normals: np.ndarray
    """(3, N) float32 unit, object frame."""
    features: np.ndarray
    """(channels, N) float32, 0 where unknown."""
    known: np.ndarray
    """(channels, N) bool."""
    color_variance: np.ndarray
    """(N,) float32 grey levels squared."""
    shape_weight: np.ndarray
    """(N,) float32."""
    level: int


def level_cloud(cloud: ReferenceCloud, level: int, config: TrackerConfig) -> LevelCloud:
    """Lay a cloud out for a level, 0 the coarsest."""
    features = np.ascontiguousarray(cloud.features[:, level].T)
    known = np.isfinite(features)
    variance = np.float32(config.color_sigma**2) + np.float32(COLOR_NOISE_GAIN) * cloud.noise**2
    points, normals = np.ascontiguousarray(cloud.points.T), np.ascontiguousarray(cloud.normals.T)
    features = np.where(known, features, np.float32(0))
    return LevelCloud(points, normals, features, known, variance, cloud.shape_weight, level)


@dataclass(frozen=True)
class Linearisation:
    """What B poses of a cloud of N points say: masks, residuals, costs and normal equations of the twist.

    Twists are a shift, then a turn about `center`, both in camera axes.
    """

    matched: np.ndarray
    """(B, N) bool."""
    fits: np.ndarray
    """(B, N) bool: matched, in shape and colour."""
    hidden: np.ndarray
    """(B, N) bool: the frame says nothing of them."""
    r_depth: np.ndarray
    """(B, N) float32 metres to the surface."""
    w_depth: np.ndarray
    """(B, N) float32, 0 where not matched."""
    cost: np.ndarray
    """(B,) mean robust cost a point, 0 to MISSING_COST."""
    center: np.ndarray
    """(B, 3) metres, middle of the matched points."""
    shape_hessian: np.ndarray
    """(B, 6, 6) of distances and outline alone."""
    hessian: np.ndarray
    """(B, 6, 6)."""
    gradient: np.ndarray
    """(B, 6)."""


def linearise(cloud: LevelCloud, target: AlignmentTarget, poses: np.ndarray, config: TrackerConfig) -> Linearisation:
    """Associate by projection and build the weighted normal equations.

    Args:
        cloud: N points.
        target: the frame.
        poses: (B, 4, 4) T_camera_object.
        config: weight of colour.
    """
    k, level = target.intrinsics, cloud.level
    rotation = poses[:, :3, :3].astype(np.float32)
    p = rotation @ cloud.points + poses[:, :3, 3:].astype(np.float32)
    n = rotation @ cloud.normals
    x, y, z = p[:, 0], p[:, 1], p[:, 2]
    nx, ny, nz = n[:, 0], n[:, 1], n[:, 2]
    deep = np.maximum(z, np.float32(0.05))
    inverse = 1 / deep
    sx, sy = x * inverse, y * inverse
    u, v = k.fx * sx + np.float32(k.cx), k.fy * sy + np.float32(k.cy)
    height, width = target.status.shape
    inside = (z > 0.05) & (u >= 1) & (v >= 1) & (u < width - 2) & (v < height - 2)
    # Rounded half up, as the pixel's own square.
    flat = np.where(inside, v + 0.5, 0).astype(np.int32) * width + np.where(inside, u + 0.5, 0).astype(np.int32)
    status = np.where(inside, target.status.reshape(-1).take(flat), np.uint8(UNKNOWN))
    qx, qy, qz, mx, my, mz = target.surface.take(flat, axis=1)
    gx, gy, gz = qx - x, qy - y, qz - z
    sigma = depth_noise_m(deep)
    gate = np.float32(GATES_M[level]) + 3 * sigma
    facing = nx * x + ny * y + nz * z < 0
    matched = (status == FREE) & facing & (gx * gx + gy * gy + gz * gz < gate * gate)
    matched &= nx * mx + ny * my + nz * mz > TURNED[level]
    hidden = (status == UNKNOWN) | (status == BLOCKED) | (gz < -gate) | ~facing
    hidden |= (status == BACKGROUND) & (gz < gate)

    r_depth = nx * gx + ny * gy + nz * gz
    s_depth = sigma * (3, 2, 1)[level] + np.float32(0.001)
    e_depth = (r_depth / s_depth) ** 2
    w_depth = POINT_WEIGHT * cloud.shape_weight / (s_depth**2 * np.maximum(1, np.sqrt(e_depth) / HUBER_SIGMAS))
    w_depth = np.where(matched, w_depth, np.float32(0))
    shape, color = _Sums(p.shape), _Sums(p.shape)
    shape.add_normals(w_depth, n, r_depth)
    _add_outline(shape, cloud, target, facing & ~matched, u, v, deep)
    e_color = _add_colors(color, cloud, target, matched, u, v, inverse, config)

    cost = np.where(hidden, np.float32(MISSING_COST / 2), np.float32(MISSING_COST))  # Hiding is no way to be right.
    robust = np.minimum(e_depth, 5) + np.minimum(np.float32(config.color_weight) * e_color, 4)
    cost = np.where(matched, robust, cost)
    fits = matched & (e_depth < 9) & (e_color < 12)

    count = matched.sum(1)
    mean = (p * matched[:, None]).sum(2, dtype=np.float64) / np.maximum(count, 1)[:, None]
    center = np.where(count[:, None] > 0, mean, poses[:, :3, 3])
    arms = p - center[:, :, None]
    (of_shape, of_color), gradient = _normal_equations(arms, [shape.in_space(sx, sy), color.in_space(sx, sy)])
    return Linearisation(
        matched, fits, hidden, r_depth, w_depth, cost.mean(1), center, of_shape, of_shape + of_color, gradient
    )


class _Sums:
    """Sums over residuals r with slopes s of w s s^T and of w r s, for each of (B, N) points."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._space = np.zeros((shape[0], 9, shape[2]), np.float32)
        self._image = np.zeros((5, shape[0], shape[2]), np.float32)

    def add_normals(self, w: np.ndarray, normals: np.ndarray, r: np.ndarray) -> None:
        """Distances r (B, N) along normals (B, 3, N), which shrink as the points move along them."""
        for row, (i, j) in enumerate(PAIRS):
            self._space[:, row] += w * normals[:, i] * normals[:, j]
        self._space[:, 6:] -= (w * r)[:, None] * normals

    def add_image_slopes(self, w: np.ndarray, a: np.ndarray, b: np.ndarray, r: np.ndarray) -> None:
        """Residuals r (B, N) with slopes a and b by a shift of x/z and y/z times z."""
        wa, wb = w * a, w * b
        for row, part in enumerate((wa * a, wa * b, wb * b, wa * r, wb * r)):
            self._image[row] += part

    def in_space(self, sx: np.ndarray, sy: np.ndarray) -> np.ndarray:
        """(B, 9, N): entries PAIRS of the first sum, then the second; sx and sy are x/z and y/z of the points."""
        aa, ab, bb, ar, br = self._image
        az, bz = aa * sx + ab * sy, ab * sx + bb * sy
        parts = (aa, ab, -az, bb, -bz, az * sx + bz * sy, ar, br, -(ar * sx + br * sy))
        return self._space + np.stack(parts, 1)


def _add_colors(
    sums: _Sums, cloud: LevelCloud, target: AlignmentTarget, matched: np.ndarray, u: np.ndarray, v: np.ndarray,
    inverse_depth: np.ndarray, config: TrackerConfig,
) -> np.ndarray:  # fmt: skip
    """Differences of colour where places match; gives their squares (B, N) in variances."""
    k, level = target.intrinsics, cloud.level
    squares = np.zeros_like(u)
    for channel in range(CHANNELS):
        value, du, dv, trust = target.features.remap(level, channel, u, v)
        colored = matched & (trust > 0.99) & cloud.known[channel]
        r = np.where(colored, value - cloud.features[channel], np.float32(0))
        e = r * r / cloud.color_variance
        squares += e
        weight, steep = CHANNEL_WEIGHT[channel][level] * config.color_weight, STEEP[channel][level] ** 2
        if weight == 0:
            continue
        # Noise and shading have small slopes everywhere; together they would hold the object still.
        excess = np.clip((du * du + dv * dv) / np.float32(steep) - 1, 0, 1)
        # Cauchy: what is shadow or gloss lets go.
        w = np.where(colored, excess, 0) / (cloud.color_variance * (1 + e / np.float32(CAUCHY_SIGMAS**2)))
        w *= np.float32(weight * POINT_WEIGHT)
        sums.add_image_slopes(w, du * (k.fx * inverse_depth), dv * (k.fy * inverse_depth), r)
    return squares


def _add_outline(
    sums: _Sums, cloud: LevelCloud, target: AlignmentTarget, free: np.ndarray, u: np.ndarray, v: np.ndarray,
    depth: np.ndarray,
) -> None:  # fmt: skip
    """Pull points that fall beside the object back to its outline: thin parts steer where surfaces slide."""
    k = target.intrinsics
    pixels, du, dv = cv2.split(cv2.remap(target.outside, u, v, cv2.INTER_LINEAR))
    meters = pixels * depth / np.float32(k.fx)
    off = free & (cloud.shape_weight > 0) & (pixels > 0.5) & (meters < SILHOUETTE_REACH_M)
    if not off.any():
        return
    w = POINT_WEIGHT / (SILHOUETTE_SIGMA_M**2 * np.maximum(1, meters / (HUBER_SIGMAS * SILHOUETTE_SIGMA_M)))
    sums.add_image_slopes(np.where(off, w, 0).astype(np.float32), du, dv * np.float32(k.fy / k.fx), meters)


def _normal_equations(arms: np.ndarray, sums: list[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """J^T W J (B, 6, 6) of each of the sums (B, 9, N), and J^T W r (B, 6) of all of them; arms are (B, 3, N)."""
    arms = arms.astype(np.float64)
    products = np.stack([arms[:, i] * arms[:, j] for i, j in PAIRS], 1)
    powers = np.concatenate([np.ones_like(arms[:, :1]), arms, products], 1)
    moments = (powers @ np.concatenate(sums, 1).astype(np.float64).swapaxes(1, 2)).reshape(len(arms), 10, -1, 9)
    to_hessian, to_gradient = _twist_of_moments()
    hessians = [(moments[:, :, i, :6].reshape(-1, 60) @ to_hessian).reshape(-1, 6, 6) for i in range(len(sums))]
    return hessians, moments[:, :4, :, 6:].sum(2).reshape(-1, 12) @ to_gradient


@cache
def _twist_of_moments() -> tuple[np.ndarray, np.ndarray]:
    """(60, 36) and (12, 6): moments of 1, arm, arm x arm (10) by slopes (6), and of 1, arm (4) by pulls (3), to twists.

    The slope by a turn is arm x s, that is sum over j, k of e_ijk arm_j s_k.
    """
    turn = np.zeros((3, 3, 3))
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        turn[i, j, k], turn[i, k, j] = 1, -1
    slope = np.zeros((6, 4, 3))
    """Entry i of the twist's slope, by power of the arm (1, x, y, z) and entry of s."""
    slope[np.arange(3), 0, np.arange(3)] = 1
    slope[3:, 1:] = turn
    pair = {pair: row for row, (i, j) in enumerate(PAIRS) for pair in ((i, j), (j, i))}
    power = {(0, j): j for j in range(4)} | {(j, 0): j for j in range(4)}
    power |= {(i + 1, j + 1): 4 + row for (i, j), row in pair.items()}
    hessian = np.zeros((10, 6, 6, 6))
    for (a, b), row in power.items():
        for (s, t), column in pair.items():
            hessian[row, column] += np.outer(slope[:, a, s], slope[:, b, t])
    return hessian.reshape(60, 36), slope.transpose(1, 2, 0).reshape(12, 6)
