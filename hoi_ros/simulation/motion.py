"""Smooth periodic motion between poses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hoi_ros.geometry import make_transform, so3_exp, so3_log


def ease(share: np.ndarray | float) -> np.ndarray | float:
    """Minimum-jerk course from 0 to 1: at rest at both ends. Source: Flash and Hogan, J. Neuroscience 1985."""
    s = np.clip(share, 0, 1)
    return s**3 * (10 - 15 * s + 6 * s * s)


@dataclass(frozen=True)
class Track:
    """Values at times of a period, eased from one to the next and back to the first."""

    times_s: tuple[float, ...]
    """Rising, first is 0."""
    values: np.ndarray
    """(K, D)."""
    period_s: float

    def at(self, time_s: float) -> np.ndarray:
        """(D,) at any time."""
        time = time_s % self.period_s
        k = int(np.searchsorted(self.times_s, time, side="right")) - 1
        following = (k + 1) % len(self.times_s)
        end = self.times_s[following] if following else self.period_s
        share = ease((time - self.times_s[k]) / (end - self.times_s[k]))
        return self.values[k] + share * (self.values[following] - self.values[k])


def wave(time_s: float, period_s: float, rng: np.random.Generator, size: float, dims: int = 3) -> np.ndarray:
    """(dims,) gentle drift that repeats with the period; draws its phases from `rng`."""
    cycles = rng.integers(1, 4, dims)
    phase = rng.uniform(0, 2 * np.pi, dims)
    return size * np.sin(2 * np.pi * cycles * time_s / period_s + phase)


def blend_poses(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    """(4, 4) between two rigid motions: straight line and shortest turn."""
    turn = so3_log(first[:3, :3].T @ second[:3, :3])
    rotation = first[:3, :3] @ so3_exp(turn * share)
    return make_transform(rotation, first[:3, 3] * (1 - share) + second[:3, 3] * share)


class PoseCourse:
    """A rigid motion from pose to pose, each step as long as its way at a person's pace."""

    def __init__(self, start: np.ndarray, *, speed_mps: float = 0.16, turn_radps: float = 0.85) -> None:
        """Begin at a pose (4, 4); the mean pace bounds metres and radians a second."""
        self._times, self._poses = [0.0], [start]
        self._speed, self._turn = speed_mps, turn_radps

    @property
    def end_s(self) -> float:
        """Time at which the last step ends."""
        return self._times[-1]

    def go(self, pose: np.ndarray) -> None:
        """Move to a pose (4, 4)."""
        last = self._poses[-1]
        way = float(np.linalg.norm(pose[:3, 3] - last[:3, 3]))
        turn = float(np.linalg.norm(so3_log(last[:3, :3].T @ pose[:3, :3])))
        self._times.append(self.end_s + max(0.3, way / self._speed, turn / self._turn))
        self._poses.append(pose)

    def wait(self, seconds: float) -> None:
        """Stay."""
        self._times.append(self.end_s + seconds)
        self._poses.append(self._poses[-1])

    def at(self, time_s: float) -> np.ndarray:
        """(4, 4) at a time; before the start and after the end at rest there."""
        time = float(np.clip(time_s, 0, self.end_s))
        k = min(int(np.searchsorted(self._times, time, side="right")) - 1, len(self._poses) - 2)
        share = float(ease((time - self._times[k]) / max(self._times[k + 1] - self._times[k], 1e-9)))
        return blend_poses(self._poses[k], self._poses[k + 1], share)
