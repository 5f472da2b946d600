"""The focal length of a camera that nobody calibrated, read off the pointmaps of a network that sees whole pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hoi_ros.datatypes import CameraIntrinsics

GUESS_SIGMA = 0.2
"""How far off a guess is, in the natural logarithm: webcams and phones see 50 to 80 degrees."""
SHARED_SIGMA, ONE_SIGMA = 0.08, 0.15
"""How far off all pictures of a stream are together, and one of them alone; taken, not measured."""
ENOUGH = 8
"""Pictures after which one more says nothing new."""


@dataclass(frozen=True)
class FocalEstimate:
    """What is believed of a focal length."""

    focal_px: float
    sigma: float
    """Standard deviation of its natural logarithm."""
    guessed_px: float
    """What is assumed meanwhile."""
    fov_deg: float
    """Field of view over the image's longer side that goes with `focal_px`."""

    def __str__(self) -> str:
        return (
            f"focal length looks like {self.focal_px:.0f} px +- {100 * self.sigma:.0f} %, guessed "
            f"{self.guessed_px:.0f}: distances scale with it; calibrate the camera, or set fov_deg={self.fov_deg:.0f}"
        )

    def report(self) -> dict[str, float | str]:
        """For a file: pixels, standard deviation of the logarithm, and what to do about it."""
        return {"px": round(self.focal_px, 1), "sigma": round(self.sigma, 3), "message": str(self)}


class FocalBelief:
    """What the pictures of a stream say of one guessed camera, pooled with the guess."""

    def __init__(self, guess: CameraIntrinsics) -> None:
        """Begin with the guess."""
        self.guess = guess
        self._logs: list[float] = []

    @property
    def settled(self) -> bool:
        """True when no more pictures are needed."""
        return len(self._logs) >= ENOUGH

    def learn(self, focal_px: float) -> None:
        """Take in what one picture says; what is no focal length is left out."""
        if np.isfinite(focal_px) and focal_px > 0:
            self._logs.append(float(np.log(focal_px / self.guess.fx)))

    @property
    def estimate(self) -> FocalEstimate:
        """The pictures' median and the guess, each by its weight; without pictures the guess."""
        mean, variance = 0.0, GUESS_SIGMA**2
        if self._logs:
            middle = float(np.median(self._logs))
            spread = max(ONE_SIGMA, 1.48 * float(np.median(np.abs(np.array(self._logs) - middle))))
            seen = SHARED_SIGMA**2 + spread**2 / len(self._logs)
            mean, variance = middle * variance / (variance + seen), variance * seen / (variance + seen)
        focal = self.guess.fx * float(np.exp(mean))
        fov = 2 * np.degrees(np.arctan(max(self.guess.width, self.guess.height) / 2 / focal))
        return FocalEstimate(focal, float(np.sqrt(variance)), self.guess.fx, float(fov))


def focal_from_pointmap(points: np.ndarray, confidence: np.ndarray) -> float:
    """Focal length in pixels that explains a pointmap of a camera whose principal point is the image's middle.

    Weighted least absolute error by reweighting (Weiszfeld), as DUSt3R proposes.

    Args:
        points: (H, W, 3) in the camera's own frame, any scale.
        confidence: (H, W) at least 0.

    Returns:
        Pixels; NaN when no usable pixel is in front of the camera or away from the middle.
    """
    height, width = points.shape[:2]
    v, u = np.mgrid[:height, :width].astype(np.float64)
    pixels = np.stack([u - (width - 1) / 2, v - (height - 1) / 2], -1)
    usable = np.isfinite(points).all(-1) & (points[..., 2] > 1e-9) & (confidence > 0)
    pixels, weight = pixels[usable], confidence[usable].astype(np.float64)
    flat = points[usable][:, :2].astype(np.float64) / points[usable][:, 2:]
    return least_distance_factor(flat, pixels, weight)


def least_distance_factor(slopes: np.ndarray, values: np.ndarray, weight: np.ndarray, rounds: int = 30) -> float:
    """The factor f with the least sum of weighted distances |f * slopes - values| of rows (N, 2)."""
    if not len(slopes):
        return float("nan")
    factor, steer = float("nan"), weight
    for _ in range(rounds):
        power = float((steer[:, None] * slopes * slopes).sum())
        if power <= 1e-12:
            return float("nan")
        factor = float((steer[:, None] * slopes * values).sum()) / power
        distance = np.linalg.norm(factor * slopes - values, axis=1)
        steer = weight / np.maximum(distance, 1e-3 * np.median(distance) + 1e-12)
    return factor
