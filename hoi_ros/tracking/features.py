"""Colour features of a surface at three scales: print as contrast and as hue, which shading leaves alone."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from hoi_ros.tracking.patch import Patch

FEATURE_SCALES_M = (0.004, 0.002, 0.001)
"""Blur of the colour features on the surface, coarse to fine, metres."""
SURROUND = 2.0
"""Width of the surround whose mean is taken off, in widths of the blur: each scale's surround is the next scale."""
CONTRAST, DARK = 128.0, 32.0
"""Contrast is (detail / (brightness + DARK)) * CONTRAST: print is a ratio, whatever the light."""
HUE_GAIN = 40.0
SUPPORT = (0.95, 0.9, 0.8)
"""Share of the surround that must be mask for contrast to count: at its edge it tells of the mask."""
CHANNELS = 3
"""Contrast of the brightness, red against green, blue against both."""


@dataclass(frozen=True)
class FeatureImages:
    """Colour features of a box of a patch; outside it nothing is trusted."""

    x0: int
    y0: int
    """The box's first patch pixel."""
    patch_width: int
    levels: tuple[tuple[np.ndarray, ...], ...]
    """For each of FEATURE_SCALES_M, for each of CHANNELS (h, w, 4) float32: value, d/dx, d/dy, trust (0 or 1)."""

    def remap(self, level: int, channel: int, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, ...]:
        """Value, d/dx, d/dy and trust, (B, N) each, between patch pixels u and v (B, N) float32; 0 outside."""
        image = self.levels[level][channel]
        sampled = cv2.remap(image, u - np.float32(self.x0), v - np.float32(self.y0), cv2.INTER_LINEAR)
        return tuple(cv2.split(sampled))

    def at(self, pixel: np.ndarray, first_level: int = 0) -> np.ndarray:
        """(levels, CHANNELS, N, 4) at flat patch pixels (N,), from a level on; 0 outside."""
        height, width = self.levels[0][0].shape[:2]
        row, column = np.divmod(pixel, self.patch_width)
        row, column = row - self.y0, column - self.x0
        inside = (row >= 0) & (column >= 0) & (row < height) & (column < width)
        flat = np.where(inside, row * width + column, 0)
        levels = self.levels[first_level:]
        out = np.zeros((len(levels), CHANNELS, len(pixel), 4), np.float32)
        for level, images in enumerate(levels):
            for channel, image in enumerate(images):
                image.reshape(-1, 4).take(flat, axis=0, out=out[level, channel])
        out[:, :, ~inside] = 0
        return out

    def values(self, pixel: np.ndarray) -> np.ndarray:
        """(N, levels, CHANNELS) float32 at flat patch pixels (N,), NaN where they are not to be trusted."""
        rows = self.at(pixel)
        return np.where(rows[..., 3] > 0, rows[..., 0], np.float32(np.nan)).transpose(2, 0, 1)


def feature_images(patch: Patch, mask: np.ndarray, depth_m: float) -> FeatureImages:
    """Colour features of the masked part of a patch at three scales of the surface.

    Everything is blurred inside the mask alone. Brightness loses the mean of its surround and is divided by it;
    hue is a ratio of colours. So shading, which stays behind as the object turns, weighs little.

    Args:
        patch: crop of the frame.
        mask: (h, w) bool pixels that may be object.
        depth_m: typical distance of the object; fixes the blur in pixels.

    Returns:
        Features of the mask's box: all beyond it counts for nothing.
    """
    # At the rim the neighbour's colour shines in, and masks err: it would hold the object to hand and picture.
    inner = cv2.erode((mask & ~patch.edge_mask).astype(np.uint8), np.ones((3, 3), np.uint8))
    x, y, width, height = cv2.boundingRect(inner)
    cut = np.s_[y : y + height, x : x + width]
    if not width or not height:
        nothing = np.zeros((1, 1, 4), np.float32)
        return FeatureImages(0, 0, mask.shape[1], ((nothing,) * CHANNELS,) * len(FEATURE_SCALES_M))
    levels = _features(patch.color[cut], inner[cut] > 0, patch.pixel_size_m(depth_m))
    return FeatureImages(x, y, mask.shape[1], levels)


def _features(color: np.ndarray, inner: np.ndarray, pixel_m: float) -> tuple[tuple[np.ndarray, ...], ...]:
    """The features of a box (h, w, 3) uint8 RGB around a mask (h, w) bool."""
    weight = inner.astype(np.float32)
    sigmas = [max(0.7, scale / pixel_m) for scale in FEATURE_SCALES_M]
    image = color.astype(np.float32) * weight[..., None]
    stack = cv2.merge([image, weight])
    blurs = [_blur(stack, sigma) for sigma in (SURROUND * sigmas[0], *sigmas)]
    out = []
    for level, (wide, fine) in enumerate(pairwise(blurs)):
        *wide_colors, wide_share = cv2.split(wide)
        surround = sum(wide_colors) / (3 * np.maximum(wide_share, 1e-3))
        *fine_colors, fine_share = cv2.split(fine)
        fine_share = np.maximum(fine_share, 1e-3)
        red, green, blue = (channel / fine_share for channel in fine_colors)
        total = red + green + blue
        values = (
            CONTRAST * (total / 3 - surround) / (surround + DARK),
            HUE_GAIN * (red - green) / (total + DARK),
            HUE_GAIN * (blue - 0.5 * (red + green)) / (total + DARK),
        )
        trusts = ((wide_share > SUPPORT[level]) & inner, inner, inner)
        out.append(tuple(_with_slopes(value, trust) for value, trust in zip(values, trusts)))
    return tuple(out)


def _with_slopes(value: np.ndarray, trust: np.ndarray) -> np.ndarray:
    dx = cv2.Sobel(value, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
    dy = cv2.Sobel(value, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
    return cv2.merge([value, dx, dy, trust.astype(np.float32)])


def _blur(stack: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur (h, w, 4) of weighted colours and their weight; thinned first where the blur is wide."""
    height, width = stack.shape[:2]
    factor = max(1, int(sigma / 2))
    if factor > 1:
        stack = cv2.resize(stack, (-(-width // factor), -(-height // factor)), interpolation=cv2.INTER_AREA)
    stack = cv2.GaussianBlur(stack, (0, 0), sigma / factor, borderType=cv2.BORDER_CONSTANT)
    if factor > 1:
        stack = cv2.resize(stack, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(stack)
