"""`handos.SegmentHead` in numpy: background, hand or object for every pixel of a crop."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hoi_ros.hand.handos_config import HandOsConfig

SEGMENTS = 3


class SegmentDecoder:
    """Widens reduced features step by step with finer maps."""

    def __init__(self, take: Callable[..., np.ndarray], config: HandOsConfig):
        channels = config.mask_channels
        self.details, self.mixes = [], []
        for k, below in enumerate(config.detail_channels):
            lift = take(f"segment.details.{k}.weight", (channels, below, 1, 1))[..., 0, 0].T.copy()
            self.details.append((lift, take(f"segment.details.{k}.bias", (channels,))))
            kernel = take(f"segment.mixes.{k}.weight", (channels, channels, 3, 3))
            kernel = np.ascontiguousarray(kernel.transpose(2, 3, 1, 0).reshape(9 * channels, channels))
            self.mixes.append((kernel, take(f"segment.mixes.{k}.bias", (channels,))))
        self.out = take("segment.out.weight", (SEGMENTS, channels, 1, 1))[..., 0, 0].T.copy()
        self.out_bias = take("segment.out.bias", (SEGMENTS,))

    def __call__(self, reduced: np.ndarray, details: list[np.ndarray]) -> np.ndarray:
        """Reduced features (N, H, W, m) before ReLU and finer maps (N, 2H, 2W, c), ...: logits (N, H', W', 3)."""
        x = np.maximum(reduced, 0)
        for detail, (lift, lift_bias), mix in zip(details, self.details, self.mixes):
            x = _convolve(np.maximum(_widen(x) + (detail @ lift + lift_bias), 0), *mix)
        return x @ self.out + self.out_bias


def _widen(x: np.ndarray) -> np.ndarray:
    """Twice as wide and high, bilinear: (N, H, W, m) to (N, 2H, 2W, m)."""
    for axis in (1, 2):
        before = np.concatenate([x.take([0], axis), x.take(range(x.shape[axis] - 1), axis)], axis)
        after = np.concatenate([x.take(range(1, x.shape[axis]), axis), x.take([-1], axis)], axis)
        both = np.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1)
        x = both.reshape(*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])
    return x


def _convolve(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """3x3 convolution with ReLU: (N, H, W, m)."""
    count, height, width, channels = x.shape
    padded = np.zeros((count, height + 2, width + 2, channels), np.float32)
    padded[:, 1:-1, 1:-1] = x
    patches = np.empty((count, height, width, 9, channels), np.float32)
    for k in range(9):
        row, column = divmod(k, 3)
        patches[..., k, :] = padded[:, row : row + height, column : column + width]
    out = patches.reshape(-1, 9 * channels) @ kernel
    out += bias
    return np.maximum(out, 0, out=out).reshape(x.shape)
