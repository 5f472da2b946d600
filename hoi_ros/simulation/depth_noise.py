"""What a stereo depth camera of the RealSense kind makes of exact depth."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hoi_ros.datatypes import CameraIntrinsics


@dataclass(frozen=True)
class DepthNoise:
    """Errors of an active stereo camera: quadratic axial noise, flying pixels, holes, quantisation.

    Source: Nguyen, Izadi and Lovell, 3DIMPVT 2012 (axial and lateral shape); Intel RealSense D400 tuning notes
    (RMS error = z^2 * subpixel / (focal * baseline); near limit; invalid band left of an occluding edge).
    """

    subpixel_px: float = 0.06
    """Deviation of the disparity, pixels."""
    baseline_m: float = 0.05
    correlation_px: float = 1.2
    """Neighbouring pixels share their error over about this distance."""
    edge_m: float = 0.015
    """Depth step that counts as an edge."""
    flying_fraction: float = 0.25
    """Share of edge pixels that land between both surfaces."""
    grazing_cosine: float = 0.16
    """Surfaces seen flatter than this mostly give no depth."""
    near_m: float = 0.17
    far_m: float = 6.0
    step_m: float = 0.001

    def apply(self, depth_m: np.ndarray, intrinsics: CameraIntrinsics, rng: np.random.Generator) -> np.ndarray:
        """Noisy copy (H, W) float32 of exact depth (H, W) metres; 0 where the camera sees nothing.

        Args:
            depth_m: (H, W) metres along the optical axis, 0 unknown.
            intrinsics: camera of that image.
            rng: source of chance; the same state gives the same noise.
        """
        depth = depth_m.astype(np.float32)
        known = depth > 0
        edge, low, high = self._edges(depth)
        noisy = (depth + self._axial(depth, intrinsics, rng)).astype(np.float32)
        chance = rng.random(depth.shape, dtype=np.float32)
        flying = edge & (chance < self.flying_fraction)
        mix = rng.random(depth.shape, dtype=np.float32)
        noisy = np.where(flying, low + mix * (high - low), noisy).astype(np.float32)
        hole = self._occlusion_band(depth, intrinsics) & (chance < 0.9)
        hole |= self._grazing(depth, intrinsics) & ~edge & (chance < 0.8)
        hole |= edge & (chance > 0.75)
        hole |= ~known | (noisy < self.near_m) | (noisy > self.far_m)
        quantised = np.round(noisy / self.step_m) * self.step_m
        return np.where(hole, 0, quantised).astype(np.float32)

    def sigma_m(self, depth_m: np.ndarray | float, focal_px: float) -> np.ndarray:
        """Axial standard deviation in metres at a depth; grows with its square."""
        return np.asarray(np.square(depth_m) * self.subpixel_px / (focal_px * self.baseline_m))

    def _axial(self, depth: np.ndarray, intrinsics: CameraIntrinsics, rng: np.random.Generator) -> np.ndarray:
        noise: np.ndarray = rng.standard_normal(depth.shape, dtype=np.float32)
        if self.correlation_px > 0:
            sigma = self.correlation_px / 2
            noise = cv2.GaussianBlur(noise, (0, 0), sigma) / np.float32(_blur_gain(sigma))
        return noise * self.sigma_m(depth, intrinsics.fx)

    def _edges(self, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        kernel = np.ones((3, 3), np.uint8)
        far = np.where(depth > 0, depth, self.far_m)
        low, high = cv2.erode(far, kernel), cv2.dilate(far, kernel)
        # Slanted surfaces step from pixel to pixel too; an edge is where the step itself changes.
        bend = np.array([[1, -2, 1]], np.float32)
        across, along = cv2.filter2D(far, cv2.CV_32F, bend), cv2.filter2D(far, cv2.CV_32F, bend.T)
        return np.maximum(np.abs(across), np.abs(along)) > self.edge_m + 0.01 * low, low, high

    def _occlusion_band(self, depth: np.ndarray, intrinsics: CameraIntrinsics) -> np.ndarray:
        """Pixels left of a near surface that the second camera cannot see past it."""
        disparity = np.where(depth > 0, intrinsics.fx * self.baseline_m / np.maximum(depth, 0.05), 0)
        columns = np.arange(depth.shape[1], dtype=np.float32)
        # A pixel is hidden when one to its right lands further left in the other picture.
        landing = columns - disparity
        beyond = np.minimum.accumulate(landing[:, ::-1], axis=1)[:, ::-1]
        return landing - beyond > 1.5

    def _grazing(self, depth: np.ndarray, intrinsics: CameraIntrinsics) -> np.ndarray:
        dx = cv2.Sobel(depth, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8) * intrinsics.fx
        dy = cv2.Sobel(depth, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8) * intrinsics.fy
        slope = np.hypot(dx, dy) / np.maximum(depth, 0.05)
        return slope > 1 / self.grazing_cosine


def _blur_gain(sigma: float) -> float:
    """Standard deviation of white unit noise after a Gaussian blur."""
    kernel = cv2.getGaussianKernel(2 * round(4 * sigma) + 1, sigma)
    return float(np.linalg.norm(kernel) ** 2)
