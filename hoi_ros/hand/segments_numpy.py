"""`handos_segments.SegmentHead` in numpy: background, hand or object for every pixel of a crop."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hoi_ros.hand.handos_config import DILATIONS, EVIDENCE_CELLS, HandOsConfig

SEGMENTS = 3


class SegmentDecoder:
    """Widens reduced features step by step with finer maps."""

    def __init__(self, take: Callable[..., np.ndarray], config: HandOsConfig):
        channels = config.mask_channels
        self.context = []
        for k in range(config.mask_context):
            name, spread = f"segment.context.{k}", DILATIONS[k % len(DILATIONS)]
            self.context.append((*_kernel(take, name, channels), spread))
        self.details, self.mixes = [], []
        for k, below in enumerate(config.detail_channels):
            lift = take(f"segment.details.{k}.weight", (channels, below, 1, 1))[..., 0, 0].T.copy()
            self.details.append((lift, take(f"segment.details.{k}.bias", (channels,))))
            self.mixes.append(_kernel(take, f"segment.mixes.{k}", channels))
        self.out = take("segment.out.weight", (SEGMENTS, channels, 1, 1))[..., 0, 0].T.copy()
        self.out_bias = take("segment.out.bias", (SEGMENTS,))

    def __call__(self, reduced: list[np.ndarray], details: list[np.ndarray]) -> np.ndarray:
        """Decode a mask.

        Args:
            reduced: features (N, H, W, m) before ReLU, and where there is context those of maps half as wide each.
            details: finer maps (N, 2H, 2W, c), ...

        Returns:
            Logits (N, H', W', 3), as wide as the finest.
        """
        x = reduced[0]
        for coarser in reduced[1:]:
            while coarser.shape[1] < x.shape[1]:
                coarser = _widen(coarser)
            x = x + coarser
        x = np.maximum(x, 0)
        for kernel, bias, spread in self.context:
            x = np.maximum(x + _convolve(x, kernel, bias, spread), 0)
        for detail, (lift, lift_bias), mix in zip(details, self.details, self.mixes):
            x = _convolve(np.maximum(_widen(x) + (detail @ lift + lift_bias), 0), *mix)
            np.maximum(x, 0, out=x)
        return x @ self.out + self.out_bias


def _widen(x: np.ndarray) -> np.ndarray:
    """Twice as wide and high, bilinear: (N, H, W, m) to (N, 2H, 2W, m)."""
    for axis in (1, 2):
        before = np.concatenate([x.take([0], axis), x.take(range(x.shape[axis] - 1), axis)], axis)
        after = np.concatenate([x.take(range(1, x.shape[axis]), axis), x.take([-1], axis)], axis)
        both = np.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1)
        x = both.reshape(*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])
    return x


def evidence_at(segments: np.ndarray, places: np.ndarray) -> np.ndarray:
    """`handos_segments.evidence_at` in numpy.

    Args:
        segments: (N, H, W, 3) logits.
        places: (N, P, 2) fractions of the crop.

    Returns:
        (N, P, EVIDENCE) float32.
    """
    shares = np.exp(segments - segments.max(-1, keepdims=True))
    shares = shares[..., 1:] / shares.sum(-1, keepdims=True)
    count, side = len(shares), shares.shape[1]
    seen = []
    for cell in EVIDENCE_CELLS:
        cells = side // cell
        pooled = shares[:, : cells * cell, : cells * cell].reshape(count, cells, cell, cells, cell, -1).mean((2, 4))
        at = np.clip(places * cells - 0.5, 0, cells - 1)
        low = np.minimum(at.astype(np.int64), max(cells - 2, 0))
        high, part = np.minimum(low + 1, cells - 1), (at - low)[..., None]
        rows, (left, top), (right, foot) = np.arange(count)[:, None], np.moveaxis(low, -1, 0), np.moveaxis(high, -1, 0)
        across, down = part[..., 0, :], part[..., 1, :]
        above = pooled[rows, top, left] * (1 - across) + pooled[rows, top, right] * across
        below = pooled[rows, foot, left] * (1 - across) + pooled[rows, foot, right] * across
        seen.append(above * (1 - down) + below * down)
    return np.concatenate(seen, -1).astype(np.float32)


def _kernel(take: Callable[..., np.ndarray], name: str, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """A 3x3 convolution's matrix (9 m, m), rows as patches lie, and its bias (m,)."""
    kernel = take(f"{name}.weight", (channels, channels, 3, 3))
    kernel = np.ascontiguousarray(kernel.transpose(2, 3, 1, 0).reshape(9 * channels, channels))
    return kernel, take(f"{name}.bias", (channels,))


def _convolve(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray, spread: int = 1) -> np.ndarray:
    """3x3 convolution (N, H, W, m) whose taps lie `spread` pixels apart."""
    count, height, width, channels = x.shape
    padded = np.zeros((count, height + 2 * spread, width + 2 * spread, channels), np.float32)
    padded[:, spread:-spread, spread:-spread] = x
    patches = np.empty((count, height, width, 9, channels), np.float32)
    for k in range(9):
        row, column = (spread * step for step in divmod(k, 3))
        patches[..., k, :] = padded[:, row : row + height, column : column + width]
    out = patches.reshape(-1, 9 * channels) @ kernel
    out += bias
    return out.reshape(x.shape)
