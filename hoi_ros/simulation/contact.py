"""Which skin touches what is held."""

from __future__ import annotations

import numpy as np

from hoi_ros.geometry import invert_transform, transform_points
from hoi_ros.simulation.grasp import SignedDistance
from hoi_ros.simulation.surface import SimObject

CONTACT_M = 0.002


class ContactProbe:
    """Finds the vertices of a hand that lie on or inside a thing."""

    def __init__(self, item: SimObject) -> None:
        self._distance = SignedDistance(item)
        self._low, self._high = item.vertices.min(0) - CONTACT_M, item.vertices.max(0) + CONTACT_M

    def touching(self, vertices_camera: np.ndarray, T_camera_object: np.ndarray) -> np.ndarray:
        """(V,) bool of skin (V, 3) against the thing at (4, 4), both in the camera frame."""
        local = transform_points(invert_transform(T_camera_object), vertices_camera)
        out = ((local >= self._low) & (local <= self._high)).all(1)
        if out.any():
            out[out] = self._distance(local[out]) < CONTACT_M
        return out
