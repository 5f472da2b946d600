"""Dense alignment of a reference surface with a frame: geometry and colour, robust Gauss-Newton on SE(3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from hoi_ros.datatypes import CameraIntrinsics
from hoi_ros.geometry import make_transform, nearest_rigid, so3_log
from hoi_ros.tracking.config import TrackerConfig
from hoi_ros.tracking.features import feature_images
from hoi_ros.tracking.patch import Patch, depth_noise_m

GATES_M = (0.03, 0.015, 0.009)
"""Largest distance of a match at each level, metres, beside three times the sensor's noise."""
UNKNOWN, FREE, BLOCKED, BACKGROUND = 0, 1, 2, 3
STEEP = ((4.0, 4.0, 4.0), (2.0, 2.8, 4.0), (0.5, 0.7, 1.0))
"""Slope a pixel of each channel at each level: flatter places say nothing of where print is."""
CHANNEL_WEIGHT = ((0.0, 1.0, 1.0), (1.0, 3.0, 3.0), (1.0, 3.0, 3.0))
MISSING_COST = 9.0
COLOR_NOISE_GAIN = 1.0
SILHOUETTE_SIGMA_M, SILHOUETTE_REACH_M = 0.003, 0.03
PRIOR = np.diag([0.03**-2] * 3 + [0.3**-2] * 3)
"""Information of the start itself, 3 cm and 17 degrees: decides only what the picture leaves open."""
STEP_DONE = (2e-4, 1e-4, 5e-5)
NORMAL_SIGMA = 0.07
"""Radians by which normals err."""
SHAPE_SHARE = 0.1
"""Share of the shape's information on a turn that is real: its errors are the same in frame and model."""
HUBER_SIGMAS, CAUCHY_SIGMAS = 1.5, 3.0
"""Standard deviations from which a distance, and a colour, counts for less."""
POINT_WEIGHT = 0.1  # Neighbouring pixels err together: ten of them count as one measurement.


@dataclass(frozen=True)
class ReferenceCloud:
    """Surface points that know their normals and colour features."""

    points: np.ndarray
    """(N, 3) float32 metres, object frame."""
    normals: np.ndarray
    """(N, 3) float32 unit, object frame."""
    features: np.ndarray
    """(N, levels, channels) float32 colour features, coarse to fine, see `feature_images`; NaN where unknown."""
    noise: np.ndarray
    """(N,) float32 grey levels: how much the features wavered so far; shadows waver, print does not."""
    shape_weight: np.ndarray
    """(N,) float32 share with which the distance counts; a single view's noisy normals would hold a round thing."""

    def __len__(self) -> int:
        return len(self.points)

    def thinned(self, count: int) -> ReferenceCloud:
        """At most `count` points, evenly over the order of the rows."""
        if len(self) <= count:
            return self
        rows = np.linspace(0, len(self) - 1, count).astype(np.int64)
        return self.taken(rows)

    def taken(self, rows: np.ndarray) -> ReferenceCloud:
        """The named rows."""
        return ReferenceCloud(
            self.points[rows], self.normals[rows], self.features[rows], self.noise[rows], self.shape_weight[rows]
        )

    @staticmethod
    def joined(clouds: Sequence[ReferenceCloud]) -> ReferenceCloud:
        """All rows of several clouds in the same frame."""
        return ReferenceCloud(
            np.concatenate([c.points for c in clouds]),
            np.concatenate([c.normals for c in clouds]),
            np.concatenate([c.features for c in clouds]),
            np.concatenate([c.noise for c in clouds]),
            np.concatenate([c.shape_weight for c in clouds]),
        )


@dataclass(frozen=True)
class ExpectedTurn:
    """The rotation that a steady motion leads to, and how far it may be off."""

    rotation: np.ndarray
    """(3, 3) of T_camera_object."""
    sigma_rad: float


@dataclass(frozen=True)
class AlignmentTarget:
    """What a frame offers to align with, on one pixel grid."""

    intrinsics: CameraIntrinsics
    points: np.ndarray
    """(h, w, 3) float32 metres, optical frame."""
    normals: np.ndarray
    """(h, w, 3) float32."""
    status: np.ndarray
    """(h, w) uint8: UNKNOWN without depth, FREE to be matched, BLOCKED by a hand, BACKGROUND that is no object."""
    outside: np.ndarray
    """(h, w, 3) float32: pixels to the nearest place where the object may be, and the derivatives in x and y."""
    features: tuple[tuple[np.ndarray, ...], ...]
    """Colour features by level and channel, see `feature_images`."""


@dataclass(frozen=True)
class AlignmentResult:
    """Where the reference lies in the frame, and how sure that is."""

    T_camera_object: np.ndarray
    """(4, 4)."""
    converged: bool
    """False when the last step was still large or too little was matched to fix a pose."""
    inlier_fraction: float
    """Share of the points not hidden that fit in shape and colour, 0 to 1."""
    matched: int
    """Number of those points."""
    residual_m: float
    """Median point-to-plane distance of the matched points; NaN when none."""
    cost: float
    """Mean robust cost a point, 0 to MISSING_COST; comparable between starts."""
    information: np.ndarray
    """(6, 6) of the twist (translation, rotation about the cloud's centre) in the camera's axes."""


def alignment_target(patch: Patch, free_mask: np.ndarray, blocked_mask: np.ndarray, depth_m: float) -> AlignmentTarget:
    """Prepare a patch for `align`.

    Args:
        patch: crop of the frame.
        free_mask: (h, w) bool pixels that may belong to the object.
        blocked_mask: (h, w) bool pixels of hands, behind which the object may hide.
        depth_m: typical distance of the object.
    """
    status = np.where(free_mask, np.uint8(FREE), np.uint8(BACKGROUND))
    status[patch.depth_m <= 0] = UNKNOWN
    status[blocked_mask] = BLOCKED
    features = feature_images(patch, free_mask & (status == FREE), depth_m)
    return AlignmentTarget(patch.intrinsics, patch.points, patch.normals, status, _outside(status), features)


def _outside(status: np.ndarray) -> np.ndarray:
    """Distance to the silhouette, 0 inside it, behind hands and in larger holes; with its derivatives."""
    unknown = cv2.morphologyEx((status == UNKNOWN).astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    off = ((status == BACKGROUND) | (status == UNKNOWN)) & (unknown == 0)
    distance = cv2.distanceTransform(off.astype(np.uint8), cv2.DIST_L2, 3)
    dx = cv2.Sobel(distance, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
    dy = cv2.Sobel(distance, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
    return cv2.merge([distance, dx, dy])


@dataclass
class _Match:
    """One linearisation: masks over the points, residuals and Jacobians of the matched ones."""

    matched: np.ndarray
    fits: np.ndarray
    hidden: np.ndarray
    r_depth: np.ndarray
    w_depth: np.ndarray
    cost: float
    shape_hessian: np.ndarray
    """What distances and outline alone say."""
    hessian: np.ndarray
    gradient: np.ndarray


def align(
    reference: ReferenceCloud,
    target: AlignmentTarget,
    starts: Sequence[np.ndarray],
    config: TrackerConfig,
    expected: ExpectedTurn | None = None,
) -> AlignmentResult | None:
    """Move a reference surface onto a frame: point-to-plane distance and grey level, coarse to fine.

    Every start is tried at the coarse level with few points; the cheapest goes on. Directions that neither
    shape nor colour fixes stay where that start put them. Sources: Chen and Medioni 1992 (point to plane),
    Park, Zhou and Koltun 2017 (colour), projective association as in KinectFusion 2011.

    Args:
        reference: N points in the object frame.
        target: the frame, from `alignment_target`.
        starts: guesses of T_camera_object, (4, 4) each; the earliest wins ties.
        config: points, iterations, weights.
        expected: where the turn would be by itself, joined to what the picture says; None while nothing is known.

    Returns:
        The pose of the best start, or None without a start or with fewer than 20 points.
    """
    if len(reference) < 20 or not starts:
        return None
    few = reference.thinned(max(200, config.align_points // 4))
    coarse = [_descend(few, target, start, 0, config, expected) for start in starts]
    best = int(np.argmin([round(match.cost, 3) for _, match, _ in coarse]))
    pose = coarse[best][0]
    for level in (1, 2):
        count = config.align_points // (2 if level == 1 else 1)
        pose, match, step = _descend(reference.thinned(count), target, pose, level, config, expected)
    visible = int((~match.hidden).sum())
    matched = int(match.fits.sum())
    shape = np.abs(match.r_depth[match.matched])
    return AlignmentResult(
        pose,
        converged=bool(step < 0.003 and matched >= 30),
        inlier_fraction=matched / max(visible, 1),
        matched=matched,
        residual_m=float(np.median(shape)) if len(shape) else float("nan"),
        cost=match.cost,
        information=match.hessian,
    )


def turn_information(
    reference: ReferenceCloud, target: AlignmentTarget, T_camera_object: np.ndarray, config: TrackerConfig
) -> np.ndarray:
    """What print and shape say of the turn at a pose: (3, 3) information in camera axes, shifts left free."""
    match, center = _linearise(reference, target, T_camera_object, len(STEP_DONE) - 1, config)
    noise = np.zeros((6, 6))
    noise[3:, 3:] = _turn_of_noise(reference, T_camera_object, match, center)
    hessian = match.hessian - (1 - SHAPE_SHARE) * match.shape_hessian - SHAPE_SHARE * noise
    shift = hessian[:3, :3] + 1e-6 * np.eye(3)
    cross = hessian[3:, :3]
    return _positive(hessian[3:, 3:] - cross @ np.linalg.solve(shift, cross.T))


def _turn_of_noise(reference: ReferenceCloud, pose: np.ndarray, match: _Match, center: np.ndarray) -> np.ndarray:
    """(3, 3) information that noise of the normals feigns: on a round thing all of the shape's is such."""
    arm = reference.points[match.matched] @ pose[:3, :3].T + pose[:3, 3] - center
    normal = reference.normals[match.matched] @ pose[:3, :3].T
    weight = NORMAL_SIGMA**2 * match.w_depth.astype(np.float64)
    lever = _cross(arm, normal)
    whole = (weight * np.einsum("nk,nk->n", arm, arm)).sum() * np.eye(3) - (arm * weight[:, None]).T @ arm
    return whole - (lever * weight[:, None]).T @ lever


def _positive(matrix: np.ndarray) -> np.ndarray:
    """A symmetric matrix without its negative part."""
    values, axes = np.linalg.eigh(matrix)
    return (axes * np.maximum(values, 0)) @ axes.T


def coarse_align(
    reference: ReferenceCloud, target: AlignmentTarget, start: np.ndarray, config: TrackerConfig
) -> tuple[np.ndarray, float]:
    """Align few points at the coarse level only: the pose (4, 4) and its mean robust cost a point."""
    few = reference.thinned(max(200, config.align_points // 4))
    pose, match, _ = _descend(few, target, start, 0, config)
    return pose, match.cost


def _descend(
    reference: ReferenceCloud,
    target: AlignmentTarget,
    start: np.ndarray,
    level: int,
    config: TrackerConfig,
    expected: ExpectedTurn | None = None,
):
    """Gauss-Newton at one level: pose, its match, and the size of the last step (metres + 0.1 rad)."""
    pose = np.asarray(start, np.float64)
    moved, step = np.zeros(6), float("inf")
    for _ in range(config.max_iterations):
        match, center = _linearise(reference, target, pose, level, config)
        hessian, gradient = match.hessian + PRIOR, match.gradient + PRIOR @ moved
        if expected is not None:
            hessian[3:, 3:] += expected.sigma_rad**-2 * np.eye(3)
            gradient[3:] += expected.sigma_rad**-2 * so3_log(pose[:3, :3] @ expected.rotation.T)
        delta = -np.linalg.solve(hessian, gradient)
        size = np.abs(delta[:3]).max() + 0.1 * np.abs(delta[3:]).max()
        delta *= min(1.0, 0.03 / max(size, 1e-9))
        pose, moved = _moved(pose, delta, center), moved + delta
        step = float(size)
        if step < STEP_DONE[level]:
            break
    match, _ = _linearise(reference, target, pose, level, config)
    return nearest_rigid(pose), match, step


def _moved(pose: np.ndarray, delta: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Apply a twist about a centre in camera axes to a pose."""
    rotation = cv2.Rodrigues(delta[3:])[0]
    return make_transform(rotation, delta[:3] + center - rotation @ center) @ pose


def _linearise(
    reference: ReferenceCloud, target: AlignmentTarget, pose: np.ndarray, level: int, config: TrackerConfig
) -> tuple[_Match, np.ndarray]:
    """Associate by projection and build the weighted normal equations at a pose."""
    k = target.intrinsics
    rotation = pose[:3, :3].astype(np.float32)
    p = reference.points @ rotation.T + pose[:3, 3].astype(np.float32)
    n = reference.normals @ rotation.T
    z = np.maximum(p[:, 2], np.float32(0.05))
    u, v = k.fx * p[:, 0] / z + np.float32(k.cx), k.fy * p[:, 1] / z + np.float32(k.cy)
    height, width = target.status.shape
    inside = (p[:, 2] > 0.05) & (u >= 1) & (v >= 1) & (u < width - 2) & (v < height - 2)
    iu, iv = np.where(inside, u + 0.5, 0).astype(np.int32), np.where(inside, v + 0.5, 0).astype(np.int32)
    flat = iv * width + iu
    status = np.where(inside, target.status.reshape(-1)[flat], UNKNOWN)
    q, m = target.points.reshape(-1, 3).take(flat, axis=0), target.normals.reshape(-1, 3).take(flat, axis=0)
    gap = q - p
    sigma = depth_noise_m(z)
    gate = GATES_M[level] + 3 * sigma
    near = np.einsum("nk,nk->n", gap, gap) < gate * gate
    facing = np.einsum("nk,nk->n", n, p) < 0
    turned = np.einsum("nk,nk->n", n, m) > (0.5, 0.6, 0.7)[level]
    matched = (status == FREE) & near & turned & facing
    hidden = (status == UNKNOWN) | (status == BLOCKED) | (gap[:, 2] < -gate) | ~facing
    hidden |= (status == BACKGROUND) & (gap[:, 2] < gate)
    r_depth = np.einsum("nk,nk->n", n, gap)

    color_variance = config.color_sigma**2 + COLOR_NOISE_GAIN * reference.noise**2
    s_depth = sigma * (3, 2, 1)[level] + np.float32(0.001)
    e_depth = (r_depth / s_depth) ** 2
    e_color, terms = np.zeros(len(p), np.float32), []
    for channel, image in enumerate(target.features[level]):
        sampled = cv2.remap(image, u[:, None], v[:, None], cv2.INTER_LINEAR)[:, 0]
        known = reference.features[:, level, channel]
        colored = matched & (sampled[:, 3] > 0.99) & np.isfinite(known)
        r = np.where(colored, sampled[:, 0] - known, 0)
        e = r**2 / color_variance
        e_color += e
        terms.append((colored, sampled, r, e))

    cost = np.full(len(p), MISSING_COST, np.float32)
    cost[hidden] = MISSING_COST / 2  # Hiding is no way to be right.
    robust = np.minimum(e_depth, 5) + np.minimum(config.color_weight * e_color, 4)
    cost[matched] = robust[matched]
    fits = matched & (e_depth < 9) & (e_color < 12)

    points, normals = p[matched].astype(np.float64), n[matched].astype(np.float64)
    center = points.mean(0) if len(points) else pose[:3, 3]
    w_depth = POINT_WEIGHT * reference.shape_weight / (s_depth**2 * np.maximum(1, np.sqrt(e_depth) / HUBER_SIGMAS))
    j_depth = -_with_turn(normals, points - center)
    hessian, gradient = _normal_equations(j_depth, r_depth[matched], w_depth[matched])
    shape = hessian.copy()
    for channel, (colored, sampled, r, e) in enumerate(terms):
        slope2 = sampled[:, 1] ** 2 + sampled[:, 2] ** 2
        # Noise and shading have small slopes everywhere; together they would hold the object still.
        rows = np.flatnonzero(colored & (slope2 > STEEP[channel][level] ** 2))
        weight = CHANNEL_WEIGHT[channel][level] * config.color_weight
        if weight == 0 or not len(rows):
            continue
        points, zc = p[rows].astype(np.float64), z[rows]
        gx, gy = sampled[rows, 1] * k.fx / zc, sampled[rows, 2] * k.fy / zc
        j_color = _with_turn(_in_space(gx, gy, points, zc), points - center)
        # Cauchy: what is shadow or gloss lets go.
        w_color = weight * POINT_WEIGHT / color_variance[rows] / (1 + e[rows] / CAUCHY_SIGMAS**2)
        w_color *= np.minimum(slope2[rows] / STEEP[channel][level] ** 2 - 1, 1)
        hessian_color, gradient_color = _normal_equations(j_color, r[rows], w_color)
        hessian, gradient = hessian + hessian_color, gradient + gradient_color
    hessian_off, gradient_off = _silhouette_equations(
        target, p, z, facing & ~matched & (reference.shape_weight > 0), u, v, center
    )
    hessian, gradient = hessian + hessian_off, gradient + gradient_off
    shape += hessian_off
    match = _Match(matched, fits, hidden, r_depth, w_depth[matched], float(cost.mean()), shape, hessian, gradient)
    return match, np.asarray(center, np.float64)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Row-wise cross product (N, 3); several times faster than numpy's own."""
    out = np.empty_like(a)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        out[:, i] = a[:, j] * b[:, k] - a[:, k] * b[:, j]
    return out


def _in_space(gx: np.ndarray, gy: np.ndarray, points: np.ndarray, z: np.ndarray) -> np.ndarray:
    """(N, 3) derivatives by a shift of the points (N, 3): of an image with slopes (N,) a unit of x/z and of y/z."""
    out = np.empty((len(gx), 3))
    out[:, 0], out[:, 1] = gx, gy
    out[:, 2] = -(gx * points[:, 0] + gy * points[:, 1]) / z
    return out


def _with_turn(slope: np.ndarray, arm: np.ndarray) -> np.ndarray:
    """(N, 6) derivatives by a twist: slopes (N, 3) by a shift, then by a turn about where the arms (N, 3) start."""
    out = np.empty((len(slope), 6))
    out[:, :3], out[:, 3:] = slope, _cross(arm, slope)
    return out


def _silhouette_equations(target: AlignmentTarget, p, z, active, u, v, center) -> tuple[np.ndarray, np.ndarray]:
    """Pull points that fall beside the object back to its outline: thin parts steer where surfaces slide."""
    k = target.intrinsics
    sampled = cv2.remap(target.outside, u[:, None], v[:, None], cv2.INTER_LINEAR)[:, 0]
    meters = sampled[:, 0] * z / np.float32(k.fx)
    off = active & (sampled[:, 0] > 0.5) & (meters < SILHOUETTE_REACH_M)
    if not off.any():
        return np.zeros((6, 6)), np.zeros(6)
    points, zc, r = p[off].astype(np.float64), z[off], meters[off]
    gx, gy = sampled[off, 1], sampled[off, 2] * np.float32(k.fy / k.fx)
    jacobian = _with_turn(_in_space(gx, gy, points, zc), points - center)
    weight = POINT_WEIGHT / (SILHOUETTE_SIGMA_M**2 * np.maximum(1, r / (HUBER_SIGMAS * SILHOUETTE_SIGMA_M)))
    return _normal_equations(jacobian, r, weight)


def _normal_equations(jacobian: np.ndarray, residual: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """J^T W J (6, 6) and J^T W r (6,)."""
    weighted = jacobian * weight[:, None].astype(np.float64)
    return weighted.T @ jacobian, weighted.T @ residual.astype(np.float64)
