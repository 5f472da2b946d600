"""One-euro filter: calm at rest, quick in motion. Source: Casiez, Roussel, Vogel, CHI 2012."""

from __future__ import annotations

import math

import numpy as np

SPEED_CUTOFF_HZ = 1.0


class OneEuroFilter:
    """Smooths arrays of one shape over time."""

    def __init__(self, min_cutoff_hz: float, beta: float):
        self.min_cutoff_hz = min_cutoff_hz
        self.beta = beta
        self._value: np.ndarray | None = None
        self._speed: np.ndarray | None = None

    def reset(self) -> None:
        """Forget the past."""
        self._value = self._speed = None

    def update(self, value: np.ndarray, dt_s: float, scale: float = 1.0) -> np.ndarray:
        """Filter one sample.

        Args:
            value: (..., D) new sample; each row has one speed, so a point moves along its own line.
            dt_s: seconds since the last sample; 0 or less starts anew.
            scale: length in the unit of `value` that counts as 1 when speed is judged.

        Returns:
            The filtered sample.
        """
        if self._value is None or self._speed is None or dt_s <= 0 or self._value.shape != value.shape:
            self._value, self._speed = np.array(value, np.float64), np.zeros(value.shape)
            return self._value.copy()
        speed = (value - self._value) / dt_s
        self._speed = self._speed + _gain(SPEED_CUTOFF_HZ, dt_s) * (speed - self._speed)
        rate = np.linalg.norm(self._speed, axis=-1, keepdims=True) / scale
        self._value = self._value + _gain(self.min_cutoff_hz + self.beta * rate, dt_s) * (value - self._value)
        return self._value.copy()


class NoFilter:
    """The same face for smoothing that is turned off."""

    def reset(self) -> None:
        """Nothing to forget."""

    def update(self, value: np.ndarray, dt_s: float, scale: float = 1.0) -> np.ndarray:
        """Return the sample as it came."""
        return value


def _gain(cutoff_hz, dt_s: float):
    """Weight of the new sample in a first-order low-pass filter."""
    r = 2 * math.pi * cutoff_hz * dt_s
    return r / (r + 1)
