"""How far away and how big: the hand's size from people's mean, or from a depth image, which wins.

A hand of size s at s times the distance looks the same. The fit leaves that one factor open; it is chosen here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hoi_ros.datatypes import CameraIntrinsics

SIZE_SIGMA = 0.06  # spread of adults' hand length about the mean (ANSUR II, women and men together)
DEPTH_START_SIGMA = 0.25  # a hand that depth measures may be a child's
SIZE_STEP_SIGMA = 0.03  # error of one frame's fitted size
SIZE_DRIFT_SIGMA = 0.002  # per frame; keeps the filter awake
CLUSTER_M = 0.015  # half width of depths that count as one surface
SKIN_REACH_M, SKIN_SAMPLES = 0.012, 1.5  # skin that speaks for a joint, and how much of it makes full trust
EXCESS_LIMIT_M, EXCESS_SPREAD_M = 0.035, 0.012  # beyond these it is another surface
MINIMUM_SAMPLES, MINIMUM_SHARE = 12, 0.2


@dataclass(frozen=True)
class SizeBelief:
    """What is known of a hand's size, carried along its track."""

    log_scale: float = 0.0
    """Natural logarithm of the size factor against the mean adult."""
    sigma: float = SIZE_SIGMA
    """One standard deviation of `log_scale`."""
    measured: bool = False
    """True once depth has spoken."""

    @property
    def scale(self) -> float:
        """Size factor."""
        return float(np.exp(self.log_scale))

    def updated(self, log_scale: float) -> SizeBelief:
        """Blend in a size measured with depth; the first one nearly replaces the mean adult's."""
        prior = np.hypot(self.sigma, SIZE_DRIFT_SIGMA) if self.measured else DEPTH_START_SIGMA
        gain = prior**2 / (prior**2 + SIZE_STEP_SIGMA**2)
        value = self.log_scale + gain * (log_scale - self.log_scale)
        return SizeBelief(float(value), max(float(prior * np.sqrt(1 - gain)), 0.008), True)


@dataclass(frozen=True)
class Placement:
    """Size and place of a hand whose fit is known up to the common factor."""

    scale: float
    """Size factor."""
    offset: np.ndarray
    """(3,) metres to add after multiplying the fitted hand and its distance by `scale`; along the line of sight."""
    sigma_m: float
    """One standard deviation of the distance, metres."""
    depth_used: bool
    """Whether depth placed it."""
    belief: SizeBelief
    """For the next frame of the track."""


@dataclass(frozen=True)
class DepthMeasurement:
    """By which factor the fitted hand must be moved away from the camera for its skin to lie on the depth image."""

    factor: float
    """Multiplies all coordinates."""
    sigma_m: float
    """One standard deviation of the distance, metres."""
    centre: np.ndarray
    """(3,) mean of the skin that agreed, before the factor."""
    skin: np.ndarray
    """(N, 3) all skin with known depth, after the factor."""
    excess_m: np.ndarray
    """(N,) how much farther than that skin the depth image lies."""

    def joint_excess(self, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How much farther than the fit the depth image has the skin over each joint.

        The skin's distance from its joint is the model's own, so the joint is wrong by as much as its skin.

        Args:
            joints: (21, 3) metres, before the factor.

        Returns:
            (21,) metres, and (21,) trust from 0 (not seen, or hidden by something) to 1.
        """
        reach2 = ((joints[:, None] * self.factor - self.skin) ** 2).sum(-1)
        weights = np.exp(-reach2 / SKIN_REACH_M**2) * (np.abs(self.excess_m) < EXCESS_LIMIT_M)
        total = np.maximum(weights.sum(1), 1e-9)
        mean = weights @ self.excess_m / total
        weights = weights * (np.abs(self.excess_m - mean[:, None]) < EXCESS_SPREAD_M)
        total = weights.sum(1)
        return weights @ self.excess_m / np.maximum(total, 1e-9), np.minimum(total / SKIN_SAMPLES, 1.0)


def place(
    vertices: np.ndarray,
    faces: np.ndarray,
    intrinsics: CameraIntrinsics,
    depth_m: np.ndarray | None,
    belief: SizeBelief,
) -> Placement:
    """Choose size and distance of a fitted hand.

    Args:
        vertices: (V, 3) hand of size 1 in the optical frame, at the distance that its looks ask of size 1.
        faces: (F, 3) of the same side.
        depth_m: (H, W) metres, 0 unknown; None without a sensor.
        belief: what the track knows of the size.
    """
    measured = None if depth_m is None else measure(vertices * belief.scale, faces, intrinsics, depth_m)
    if measured is None:
        distance = float(vertices[:, 2].mean()) * belief.scale
        sigma = distance * float(np.hypot(belief.sigma, SIZE_STEP_SIGMA if belief.measured else 0.02))
        return Placement(belief.scale, np.zeros(3), sigma, False, belief)
    belief_after = belief.updated(belief.log_scale + float(np.log(measured.factor)))
    seen_scale = belief.scale * measured.factor
    offset = measured.centre / belief.scale * (seen_scale - belief_after.scale)
    return Placement(belief_after.scale, offset, measured.sigma_m, True, belief_after)


def measure(
    vertices: np.ndarray, faces: np.ndarray, intrinsics: CameraIntrinsics, depth_m: np.ndarray
) -> DepthMeasurement | None:
    """Compare the visible skin with the depth image.

    Samples whose window is uneven or unknown are dropped; of the rest the largest group that agrees on one factor is
    kept, so that a hand half hidden by an object or half over the background is placed by its own skin.

    Args:
        vertices: (V, 3) metres, optical frame. faces: (F, 3) outward.

    Returns:
        None when too little skin is seen.
    """
    centres = visible_faces(vertices, faces[::2], intrinsics)  # half of the skin tells as much
    seen, even = _windows(centres, intrinsics, depth_m)
    centres, seen = centres[even], seen[even]
    if len(seen) < MINIMUM_SAMPLES:
        return None
    factors = seen / centres[:, 2]
    order = np.argsort(factors)
    ordered = factors[order]
    half_width = CLUSTER_M / float(np.median(centres[:, 2]))
    ends = np.searchsorted(ordered, ordered * (1 + 2 * half_width), side="right")
    # Among groups of like size the one nearer to the expected distance is the hand.
    score = (ends - np.arange(len(ordered))) * (0.5 + 0.5 * np.exp(-0.5 * (np.log(ordered) / 0.15) ** 2))
    best = int(score.argmax())
    group = order[best : ends[best]]
    if len(group) < max(MINIMUM_SAMPLES, MINIMUM_SHARE * len(factors)):
        return None
    factor = float(np.median(factors[group]))
    distance = factor * float(centres[group, 2].mean())
    spread = 1.48 * float(np.median(np.abs(factors[group] - factor))) * distance
    # Errors of neighbouring samples go together: about ten independent patches a hand.
    sigma = float(np.hypot(spread / np.sqrt(max(len(group) / len(factors) * 10, 1)), 0.002 + 0.003 * distance**2))
    skin = centres * factor
    return DepthMeasurement(factor, sigma, centres[group].mean(0), skin, seen - skin[:, 2])


def visible_faces(vertices: np.ndarray, faces: np.ndarray, intrinsics: CameraIntrinsics) -> np.ndarray:
    """Centres (N, 3) of faces that look at the camera; most of those behind nearer parts of the hand are left out."""
    corners = vertices[faces]
    centres = corners.mean(1)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    facing = -np.einsum("fc,fc->f", normals, centres)
    facing /= np.maximum(np.linalg.norm(normals, axis=1) * np.linalg.norm(centres, axis=1), 1e-12)
    centres = centres[(facing > 0.4) & (centres[:, 2] > 0.05)]
    if not len(centres):
        return centres
    cell = 0.005  # metres at the hand's distance: about the spacing of its faces
    grid = np.floor(centres[:, :2] / centres[:, 2:] * (np.median(centres[:, 2]) / cell)).astype(int)
    grid += 1 - grid.min(0)
    nearest = np.full(grid.max(0) + 2, np.inf)
    np.minimum.at(nearest, (grid[:, 0], grid[:, 1]), centres[:, 2])
    around = np.minimum(nearest, np.minimum(np.roll(nearest, 1, 0), np.roll(nearest, -1, 0)))
    around = np.minimum(around, np.minimum(np.roll(around, 1, 1), np.roll(around, -1, 1)))
    return centres[centres[:, 2] < around[grid[:, 0], grid[:, 1]] + 0.012]


def _windows(centres: np.ndarray, intrinsics: CameraIntrinsics, depth_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median depth (N,) of the 3x3 window under each point, and (N,) whether it is inside, known and even."""
    height, width = depth_m.shape
    z = centres[:, 2]
    u = np.rint(centres[:, 0] / z * intrinsics.fx + intrinsics.cx).astype(int)
    v = np.rint(centres[:, 1] / z * intrinsics.fy + intrinsics.cy).astype(int)
    inside = (u >= 1) & (v >= 1) & (u < width - 1) & (v < height - 1)
    u, v = np.clip(u, 1, max(width - 2, 1)), np.clip(v, 1, max(height - 2, 1))
    if width < 3 or height < 3:
        return np.zeros(len(centres)), np.zeros(len(centres), bool)
    steps = np.array([-1, 0, 1])
    patch = depth_m[(v[:, None] + steps)[:, :, None], (u[:, None] + steps)[:, None, :]].reshape(-1, 9)
    known = np.isfinite(patch) & (patch > 0)
    count = known.sum(1)
    ordered = np.sort(np.where(known, patch, np.inf), 1)
    rows = np.arange(len(patch))
    enough = inside & (count >= 6)
    median = np.where(enough, ordered[rows, np.maximum(count - 1, 0) // 2], 0.0)
    spread = np.where(enough, ordered[rows, np.maximum(count - 1, 0)], np.inf) - np.where(enough, ordered[:, 0], 0.0)
    return median, enough & (spread < np.maximum(0.015, 0.02 * median))
