"""How surely the turn of an object is known: grows while nothing tells of it, shrinks when the model shows it."""

from __future__ import annotations

import numpy as np

DRIFT_RAD = np.radians(8.0)
"""What a frame adds where neither print nor shape tells of the turn: fingers turn a thing by 1.5 degrees a frame,
for half a second in one direction, so that errors add up instead of cancelling."""
CARRIED_RAD = np.radians(4.0)
"""What a frame adds in which the hand alone says how it turned."""
STEP_SHARE = 4.0
"""Frame to frame, print errs less than its information says: measured, a tenth of its standard deviation."""
MODEL_SHARE = 0.5
"""The same against model and keyframes, whose light is another's."""
LEAST_RAD, MOST_RAD = np.radians(0.2), np.radians(104.0)
"""Bounds of a standard deviation; the upper one is that of an angle that may be anything."""


class TurnCertainty:
    """Covariance of an object's rotation against its model, in object axes."""

    def __init__(self) -> None:
        self._covariance: np.ndarray = LEAST_RAD**2 * np.eye(3)

    def step(
        self, rotation: np.ndarray, since_last: np.ndarray, against_model: np.ndarray, reference_rad: float = LEAST_RAD
    ) -> None:
        """Take one frame in.

        Args:
            rotation: (3, 3) of T_camera_object.
            since_last: (3, 3) information on the turn since the last frame, camera axes, 1 / rad^2.
            against_model: (3, 3) information on the turn against model and keyframes, likewise.
            reference_rad: how unsure those are themselves; the turn is never known better.
        """
        moved = STEP_SHARE * rotation.T @ since_last @ rotation + DRIFT_RAD**-2 * np.eye(3)
        grown = _bounded(self._covariance + np.linalg.inv(moved))
        seen = MODEL_SHARE * rotation.T @ against_model @ rotation
        # Errors against the model last from frame to frame, so looking often makes nothing surer: covariance
        # intersection (Julier and Uhlmann 1997) instead of a filter's sum.
        joint = np.linalg.inv(0.5 * np.linalg.inv(grown) + 0.5 * seen)
        values, axes = np.linalg.eigh(grown)
        root = (axes * np.sqrt(values)) @ axes.T
        self._covariance = _bounded(_smaller(grown, joint, root), reference_rad)

    def carried(self) -> None:
        """The hand carried it for a frame, and nothing else was seen of its turn."""
        self._covariance = _bounded(self._covariance + CARRIED_RAD**2 * np.eye(3))

    def forget(self) -> None:
        """The object was out of sight: its turn may be anything until it is seen against the model again."""
        self._covariance = MOST_RAD**2 * np.eye(3)

    def covariance(self, rotation: np.ndarray) -> np.ndarray:
        """(3, 3) rad^2 in camera axes at a rotation (3, 3)."""
        return rotation @ self._covariance @ rotation.T

    @property
    def worst_rad(self) -> float:
        """Standard deviation about the axis that is known least."""
        return float(np.sqrt(np.linalg.eigvalsh(self._covariance)[-1]))

    @property
    def worst_axis(self) -> np.ndarray:
        """(3,) unit: that axis, object frame."""
        return np.linalg.eigh(self._covariance)[1][:, -1]


def _smaller(first: np.ndarray, second: np.ndarray, root: np.ndarray) -> np.ndarray:
    """The second covariance, but in no direction larger than the first (root @ root)."""
    inverse = np.linalg.inv(root)
    values, axes = np.linalg.eigh(inverse @ second @ inverse)
    return root @ (axes * np.minimum(values, 1)) @ axes.T @ root


def _bounded(covariance: np.ndarray, least_rad: float = LEAST_RAD) -> np.ndarray:
    values, axes = np.linalg.eigh((covariance + covariance.T) / 2)
    return (axes * np.clip(values, max(least_rad, LEAST_RAD) ** 2, MOST_RAD**2)) @ axes.T
