"""Empty hands make gestures."""

from __future__ import annotations

import numpy as np

from hoi_ros.geometry import make_transform, so3_exp
from hoi_ros.hand_model import HandModel
from hoi_ros.simulation.grasp import AngleMap
from hoi_ros.simulation.motion import Track, wave
from hoi_ros.simulation.scene import LONG_FINGERS, HandState, Scene, SceneState, facing, mirrored


class BareScene(Scene):
    """One or two empty hands make gestures."""

    period_s = 12.0

    def __init__(self, model: HandModel, seed: int) -> None:
        rng = np.random.default_rng([seed, 903])
        both = rng.random() < 0.5
        first = "left" if rng.random() < 0.5 else "right"
        self.sides = ("left", "right") if both else (first,)
        self._gestures = [self._course(AngleMap(model), rng) for _ in self.sides]
        self._views = [bool(rng.random() < 0.5) for _ in self.sides]
        self._depth = rng.uniform(0.42, 0.5) + (0.05 if both else 0)
        self._shift = 0.115 if both else rng.uniform(0, 0.05)
        times = (0.0, 2.0, 4.0, 6.0, 8.0, 10.0)
        self._turns = [Track(times, rng.uniform(-1, 1, (6, 3)) * [0.3, 0.4, 0.25], self.period_s) for _ in self.sides]
        self._drift_seed = int(rng.integers(1 << 30))

    def _course(self, names: AngleMap, rng: np.random.Generator) -> Track:
        order = ["open", *rng.permutation(["fist", "pinch", "point", "relaxed", "open"])]
        poses = np.stack([gesture(names, str(g)) for g in order])
        times: list[float] = []
        for k in range(6):
            times += [2.0 * k, 2.0 * k + 0.9]
        return Track(tuple(times), np.repeat(poses, 2, 0), self.period_s)

    def at(self, time_s: float) -> SceneState:
        """The state at a time."""
        hands = []
        for k, side in enumerate(self.sides):
            view = (
                facing((-0.15, -1.0, 0.25), (1.0, 0, 0)) if self._views[k] else facing((-0.15, -1, 0.25), (-1.0, 0, 0))
            )
            rotation = view @ so3_exp(self._turns[k].at(time_s))
            drift = wave(time_s, self.period_s, np.random.default_rng(self._drift_seed + k), 0.012)
            pose = make_transform(rotation, np.array([self._shift + 0.02, 0.085, self._depth]) + drift)
            elbow = pose[:3, 3] - 0.26 * rotation[:, 1] * [0.7, 1, 1] + np.array([0.06, 0.04, -0.05])
            flip = [-1, 1, 1] if side == "left" else [1, 1, 1]
            hands.append(HandState(side, self._gestures[k].at(time_s), mirrored(pose, side), elbow * flip))
        return SceneState(tuple(hands), None)


def gesture(names: AngleMap, name: str) -> np.ndarray:
    """(A,) joint angles of `open`, `relaxed`, `fist`, `pinch` or `point`."""
    angles = np.zeros(len(names.names))
    curls = {
        "open": (0.0, 0.0, 0.0, 0.0),
        "relaxed": (0.3, 0.36, 0.42, 0.48),
        "fist": (1.0, 1.0, 1.0, 1.0),
        "pinch": (0.52, 0.3, 0.24, 0.2),
        "point": (0.0, 0.95, 1.0, 1.0),
    }[name]
    for finger, curl in zip(LONG_FINGERS, curls):
        names.set(angles, 1.35 * curl, finger, "mcp", "flex")
        names.set(angles, 1.6 * curl + 0.05, finger, "pip")
        names.set(angles, 0.9 * curl + 0.03, finger, "dip")
    if name == "open":
        names.set(angles, 0.12, "index", "abd")
        names.set(angles, 0.14, "little", "abd")
    thumb = {"open": (0.0, 0.1, 0.0, 0.1, 0.05), "relaxed": (0.1, 0.3, 0.1, 0.25, 0.2),
             "fist": (0.35, 0.5, 0.3, 0.7, 0.75), "pinch": (0.3, 0.6, 0.5, 0.35, 0.45),
             "point": (0.35, 0.5, 0.3, 0.6, 0.6)}[name]  # fmt: skip
    for value, words in zip(thumb, (("cmc", "flex"), ("cmc", "abd"), ("rotation",), ("mcp", "flex"), ("ip",))):
        names.set(angles, value, "thumb", *words)
    return angles
