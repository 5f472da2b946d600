"""A hand turns a thing by its fingers."""

from __future__ import annotations

import numpy as np

from hoi_ros.geometry import make_transform, so3_exp
from hoi_ros.hand_model import HandModel
from hoi_ros.simulation.grasp import AngleMap, GraspSolver
from hoi_ros.simulation.motion import Track, ease, wave
from hoi_ros.simulation.scene import LONG_FINGERS, HandState, Scene, SceneState, facing, mirrored
from hoi_ros.simulation.surface import SimObject


class RotateScene(Scene):
    """One hand turns a thing: the wrist swings it, the fingers hand it on a quarter turn, four times a period."""

    period_s = 16.0

    def __init__(self, item: SimObject, model: HandModel, shape: np.ndarray, seed: int) -> None:
        self._rng_seed = [seed, 901]
        rng = np.random.default_rng(self._rng_seed)
        self.item = item
        self.side = "left" if rng.random() < 0.5 else "right"
        self.sides = (self.side,)
        self.cycle = GraspSolver(model, shape, self.side, item).solve_best(item.grips, tilt_rad=0.15)
        self._map = AngleMap(model)
        self._grip_center = self.cycle.grip_center
        arc = self.cycle.sound_arc()
        self._quarters = np.arange(5) * np.pi / 2
        if arc is not None:
            # No full turn in this grip: the fingers turn the thing to and fro as far as they can hold it.
            reach = min(arc[1] - arc[0], np.pi)
            self._quarters = arc[0] + reach * np.array([0, 0.5, 1, 0.5, 0])
        # Seen from across the table: the back of the hand shows, the forearm leaves sideways.
        if item.grips[0].style == "top":
            base = facing((-0.8, 0.1, rng.uniform(0.2, 0.4)), (-0.25, 0.5, -0.7))
        else:
            base = facing((0.85, -0.15, rng.uniform(-0.5, -0.35)), (0.1, -1.0, 0.1))
        self._base = base
        self._center = np.array([rng.uniform(0.0, 0.03), rng.uniform(-0.015, 0.015), rng.uniform(0.43, 0.5)])
        # Each quarter: fingers turn the thing, then the wrist swings hand and thing to the other side.
        quarter = self.period_s / 4
        times = [q * quarter + s for q in range(4) for s in (0.0, 0.5 * quarter)]
        swing, nod = rng.uniform(0.5, 0.62), rng.uniform(0.15, 0.25)
        swings = [[-swing, nod], [-swing, nod], [swing, -nod], [swing, -nod]] * 2
        self._swings = Track(tuple(times), np.array(swings), self.period_s)
        self._drift_seed = int(rng.integers(1 << 30))

    def turn_at(self, time_s: float) -> tuple[float, float]:
        """Angle in radians that the fingers have turned the thing, and how briskly (0 to 1) they do it now."""
        quarter = self.period_s / 4
        time = time_s % self.period_s
        step, inside = divmod(time, quarter)
        share = inside / (0.5 * quarter)
        moving = float(np.sin(np.pi * np.clip(share, 0, 1)) ** 2)
        first, last = self._quarters[int(step)], self._quarters[int(step) + 1]
        return float(first + ease(share) * (last - first)), moving

    def at(self, time_s: float) -> SceneState:
        """The state at a time."""
        turn, moving = self.turn_at(time_s)
        angles, T_wrist_object = self.cycle.at(turn)
        angles = self._gait(angles, turn, moving)
        drift = wave(time_s, self.period_s, np.random.default_rng(self._drift_seed), 0.012)
        swing, nod = self._swings.at(time_s)
        hand = self._base @ so3_exp(np.array([0, swing, 0])) @ so3_exp(np.array([nod, 0, 0]))
        # The grip centre stays before the camera; the wrist goes where that puts it.
        local = T_wrist_object[:3, :3] @ self._grip_center + T_wrist_object[:3, 3]
        local = local * ([-1, 1, 1] if self.side == "left" else [1, 1, 1])
        pose = make_transform(hand, self._center + drift - hand @ local)
        elbow = self._elbow(pose)
        T_view_wrist = mirrored(pose, self.side)
        elbow = elbow * ([-1, 1, 1] if self.side == "left" else [1, 1, 1])
        state = HandState(self.side, angles, T_view_wrist, elbow)
        return SceneState((state,), T_view_wrist @ T_wrist_object)

    def _elbow(self, pose: np.ndarray) -> np.ndarray:
        return pose[:3, 3] - 0.3 * self._base[:, 1] + np.array([0, 0.06, 0.0])

    def _gait(self, angles: np.ndarray, turn: float, moving: float) -> np.ndarray:
        """Fingers let go one after another and take hold again while the thing turns; at least two always hold."""
        angles = angles.copy()
        for k, finger in enumerate(LONG_FINGERS):
            lift = moving * np.clip(np.sin(8 * turn / 2 + k * np.pi / 2), 0, 1) ** 2
            angles[self._map.index(finger, "mcp", "flex")] -= 0.22 * lift
            angles[self._map.index(finger, "pip")] -= 0.12 * lift
        return angles
