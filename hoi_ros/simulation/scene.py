"""What a scene is: hands and a held thing over a repeating period, in the frame of the resting camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hoi_ros.datatypes import FINGERS
from hoi_ros.simulation.surface import SimObject

MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])
LONG_FINGERS = FINGERS[1:]


@dataclass(frozen=True)
class HandState:
    """One hand at one time."""

    side: str
    joint_angles: np.ndarray
    """(A,) radians."""
    T_view_wrist: np.ndarray
    """(4, 4) wrist frame in the resting camera's optical frame."""
    elbow_view: np.ndarray
    """(3,) metres, the same frame."""


@dataclass(frozen=True)
class SceneState:
    """Everything that moves, at one time."""

    hands: tuple[HandState, ...]
    T_view_object: np.ndarray | None
    """(4, 4); None when nothing is held."""


class Scene:
    """A course of events that repeats after `period_s`."""

    period_s: float = 12.0
    item: SimObject | None = None
    sides: tuple[str, ...] = ()
    once_s: float | None = None
    """Seconds after which all was shown; None: a whole period."""
    shape: np.ndarray | None = None
    """(10,) the hands' shape, where the scene decides it."""
    T_world_view: np.ndarray | None = None
    """(4, 4) of the resting camera, where the scene decides it."""

    @property
    def held_from_s(self) -> float:
        """Seconds from which on a hand holds the thing, for the first time."""
        return 0.0

    def at(self, time_s: float) -> SceneState:
        """The state at a time; the same at `time_s + period_s`."""
        return SceneState((), None)


def facing(y: tuple[float, float, float], x: tuple[float, float, float]) -> np.ndarray:
    """(3, 3) rotation whose y column is `y` and whose x column lies near `x`."""
    b = np.array(y) / np.linalg.norm(y)
    a = np.array(x) - b * (b @ np.array(x))
    a = a / np.linalg.norm(a)
    return np.stack([a, b, np.cross(a, b)], 1)


def mirrored(T: np.ndarray, side: str) -> np.ndarray:
    """A right hand's pose, or the left hand's seen in the mirror."""
    return MIRROR @ T @ MIRROR if side == "left" else T
