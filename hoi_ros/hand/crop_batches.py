"""Crops in batches of a few sizes, for engines that record or build something for each size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hoi_ros.hand.embedded_features import CROP_SIDE
from hoi_ros.hand.handos_numpy import DecodedArrays

CropReader = Callable[[np.ndarray], tuple[DecodedArrays, np.ndarray]]
"""Crops (N, 224, 224, 3) uint8 RGB in; hands, and how surely each is one (N,), out."""


class CropBatches:
    """Asks a reader for 1, 2, 4, 8, 12, ... crops alone, and for each of these once at start."""

    def __init__(self, reader: CropReader, most: int):
        """Run the reader on every size that `most` crops at once need; further crops are read in another batch."""
        self._reader = reader
        self._sizes = sorted({batch_size(count) for count in range(1, most + 1)})
        for size in self._sizes:
            reader(np.zeros((size, CROP_SIDE, CROP_SIDE, 3), np.uint8))

    def __call__(self, crops: np.ndarray) -> tuple[DecodedArrays, np.ndarray]:
        """Read crops; see `CropReader`."""
        largest = self._sizes[-1]
        parts = [self._read(crops[start : start + largest]) for start in range(0, len(crops), largest)]
        return _joined([hands for hands, _ in parts]), np.concatenate([presence for _, presence in parts])

    def _read(self, crops: np.ndarray) -> tuple[DecodedArrays, np.ndarray]:
        """One batch, filled up with black crops whose answers are dropped."""
        count = len(crops)
        filled = np.zeros((batch_size(count), *crops.shape[1:]), crops.dtype)
        filled[:count] = crops
        hands, presence = self._reader(filled)
        return _joined([hands], count), presence[:count]


def batch_size(count: int) -> int:
    """The least of 1, 2 and the multiples of 4 that holds so many crops."""
    return count if count <= 2 else -(-count // 4) * 4


def _joined(parts: list[DecodedArrays], count: int | None = None) -> DecodedArrays:
    """Hands of several batches one after the other, the first `count` of them."""
    columns = {
        name: [getattr(part, name) for part in parts] for name, first in vars(parts[0]).items() if first is not None
    }
    return DecodedArrays(**{name: np.concatenate(column)[:count] for name, column in columns.items()})
