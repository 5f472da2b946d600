"""How a pair of views may look: light, camera, and what lies behind."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class PairLook:
    """What both views of a pair share: one thing stays one thing."""

    channels: np.ndarray
    """(3,) order of the colour channels."""
    tint: np.ndarray
    """(3,) float32 factors."""

    @staticmethod
    def drawn(rng: np.random.Generator) -> PairLook:
        """A look that any hue of skin and thing may have."""
        channels = rng.permutation(3) if rng.random() < 0.3 else np.arange(3)
        return PairLook(channels, rng.uniform(0.75, 1.2, 3).astype(np.float32))

    def apply(self, picture: np.ndarray) -> np.ndarray:
        """The picture (S, S, 3) float32 with this look."""
        return picture[..., self.channels] * self.tint


def backdrop(rng: np.random.Generator, side: int) -> np.ndarray:
    """(side, side, 3) float32 0 to 255: a gradient with blotches, bars and shapes, sharp or out of focus."""
    corners = rng.uniform(0, 255, (2, 2, 3)).astype(np.float32)
    out = cv2.resize(corners, (side, side), interpolation=cv2.INTER_LINEAR)
    for cells in rng.integers(3, 24, rng.integers(0, 3)):
        noise = rng.normal(0, rng.uniform(4, 35), (cells, cells, 3 if rng.random() < 0.4 else 1)).astype(np.float32)
        out = out + np.atleast_3d(cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC))
    for _ in range(rng.integers(0, 14)):
        color = rng.uniform(0, 255, 3).tolist()
        middle = rng.integers(0, side, 2).tolist()
        size = np.maximum(1, rng.uniform(0.03, 0.4, 2) * side).astype(int).tolist()
        if rng.random() < 0.5:
            cv2.ellipse(out, middle, size, float(rng.uniform(0, 360)), 0, 360, color, -1)
        else:
            box = cv2.boxPoints((tuple(map(float, middle)), tuple(map(float, size)), float(rng.uniform(0, 90))))
            cv2.fillPoly(out, [box.astype(np.int32)], color)
    if rng.random() < 0.6:
        out = cv2.GaussianBlur(out, (0, 0), float(rng.uniform(0.5, 5)))
    return np.clip(out, 0, 255)


def photographed(picture: np.ndarray, rng: np.random.Generator, harshness: float) -> np.ndarray:
    """What a camera makes of light (S, S, 3) float32 0 to 255: exposure, tone, blur, noise, compression; uint8."""
    side, reach = picture.shape[0], harshness
    out = picture * np.float32(1 + 0.35 * reach * rng.uniform(-1, 1))
    out = out * (1 + 0.05 * reach * rng.standard_normal(3)).astype(np.float32)
    out = 255 * (np.clip(out, 0, 255) / 255) ** np.float32(np.exp(0.4 * reach * rng.uniform(-1, 1)))
    if rng.random() < 0.4:
        shade = cv2.resize(
            rng.uniform(0.6, 1.2, (3, 3)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC
        )
        out = out * (1 + reach * (shade - 1))[..., None]
    if rng.random() < 0.5:
        small = max(8, int(side * rng.uniform(1 - 0.6 * reach, 1)))
        out = cv2.resize(cv2.resize(out, (small, small), interpolation=cv2.INTER_AREA), (side, side))
    if rng.random() < 0.3 * reach:
        length = int(rng.integers(2, 3 + int(6 * reach)))
        kernel = np.zeros((2 * length + 1, 2 * length + 1), np.float32)
        angle = rng.uniform(0, np.pi)
        for step in np.linspace(-length, length, 4 * length + 1):
            kernel[round(length + step * np.sin(angle)), round(length + step * np.cos(angle))] = 1
        out = cv2.filter2D(out, -1, kernel / kernel.sum())
    out = out + rng.standard_normal(out.shape, np.float32) * np.float32(rng.uniform(0, 10) * reach)
    picture8 = np.clip(out, 0, 255).astype(np.uint8)
    if rng.random() < 0.4 * reach:
        code = cv2.imencode(".jpg", picture8, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 95))])[1]
        picture8 = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR))
    return picture8
