"""Surface that a frame is aligned with: points that know their normals and colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


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
