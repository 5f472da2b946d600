"""How alike things are in colour: the shares of colours that one and the other show."""

from __future__ import annotations

import cv2
import numpy as np

CHROMAS, LUMAS = 16, 8
"""Steps of each chroma channel and of brightness."""
COLORS = CHROMAS * CHROMAS * LUMAS
UNSEEN = 2e-4
"""Share of a colour that was never seen."""
MIN_LIKENESS = 0.3
"""Share of its colours that what is in the grasp must show, to be taken for the object's other sides."""


def color_bins(picture: np.ndarray) -> np.ndarray:
    """(h, w) bin, 0 to COLORS - 1, of each pixel of (h, w, 3) uint8 RGB."""
    luma, cr, cb = np.moveaxis(np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2YCrCb), np.int32), -1, 0)
    chroma = np.clip((cr - 64) >> 3, 0, CHROMAS - 1) * CHROMAS + np.clip((cb - 64) >> 3, 0, CHROMAS - 1)
    return chroma * LUMAS + (luma >> 5)


def color_shares(color: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Share (COLORS,) of each colour among the masked pixels of a picture (H, W, 3), softened; sums to 1 at most."""
    picked = color[mask]
    return bin_shares(color_bins(picked[None])[0] if len(picked) else np.zeros(0, np.int64))


def bin_shares(bins: np.ndarray) -> np.ndarray:
    """Share (COLORS,) of each colour among pixels with these bins (N,), softened; sums to 1 at most."""
    if not len(bins):
        return np.zeros(COLORS, np.float32)
    counts = np.bincount(bins, minlength=COLORS).astype(np.float32) / len(bins)
    return cv2.GaussianBlur(counts.reshape(CHROMAS, -1), (0, 0), 1.0).reshape(-1)


def likeness(shown: np.ndarray, known: np.ndarray) -> float:
    """Share, 0 to 1, of the known colours (COLORS,) that the shown ones (COLORS,) show."""
    return float(np.minimum(shown, known).sum() / max(known.sum(), 1e-9))


def likelier(bins: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(h, w) float32, 0 to 1: how much likelier the shares (COLORS,) `first` make bins (h, w) than `second` do."""
    odds = (first + UNSEEN) / (first + second + 2 * UNSEEN)
    return cv2.blur(odds.astype(np.float32)[bins], (3, 3))
