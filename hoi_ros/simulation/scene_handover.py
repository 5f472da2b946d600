"""A thing goes from one hand to the other and back."""

from __future__ import annotations

import numpy as np

from hoi_ros.geometry import make_transform, so3_exp
from hoi_ros.hand_model import HandModel
from hoi_ros.simulation.grasp import GraspSolver
from hoi_ros.simulation.holds import hold_candidates, plan_handover, sites_along
from hoi_ros.simulation.motion import Track, blend_poses, ease, wave
from hoi_ros.simulation.scene import HandState, Scene, SceneState
from hoi_ros.simulation.surface import SimObject

_UP = np.array([0.0, -0.95, -0.3]) / np.hypot(0.95, 0.3)


class HandoverScene(Scene):
    """One hand brings a thing, the other takes it, shows it, and gives it back."""

    period_s = 14.0

    def __init__(self, item: SimObject, model: HandModel, shape: np.ndarray, seed: int) -> None:
        rng = np.random.default_rng([seed, 902])
        self.item = item
        giver = "left" if rng.random() < 0.5 else "right"
        self.sides = (giver, "left" if giver == "right" else "right")
        axis = item.grips[0].axis
        solvers = [GraspSolver(model, shape, side, item) for side in self.sides]
        givers = hold_candidates(solvers[0], sites_along(item, axis, low=True, high=False))
        takers = hold_candidates(solvers[1], sites_along(item, axis, low=False, high=True))
        self.plan = plan_handover(item, givers, takers, model, shape, _UP)
        self._standing = self.plan.R_view_object
        self._center = (item.vertices.min(0) + item.vertices.max(0)) / 2
        self._drift_seed = int(rng.integers(1 << 30))
        self._depth = rng.uniform(0.5, 0.56)

    def at(self, time_s: float) -> SceneState:
        """The state at a time."""
        half = self.period_s / 2
        time = time_s % self.period_s
        holder, taker = (1, 0) if time >= half else (0, 1)
        t = time % half
        T_view_object = self._object(time)
        # The taker comes (2.2 to 4 s), closes (to 4.8); then the holder opens (to 5.6) and leaves (to 7).
        grab, release = ease((t - 4.0) / 0.8), ease((t - 4.8) / 0.8)
        approach, leave = ease((t - 2.2) / 1.8), ease((t - 5.6) / 1.4)
        hands = (
            self._hand(holder, T_view_object, 1 - float(release), 1 - float(leave)),
            self._hand(taker, T_view_object, float(grab), float(approach)),
        )
        return SceneState(hands if holder == 0 else hands[::-1], T_view_object)

    def _object(self, time: float) -> np.ndarray:
        """(4, 4) course of the thing: first holder's side, middle, second holder's side, middle."""
        half = self.period_s / 2
        sign = -1.0 if self.sides[0] == "right" else 1.0
        shown = np.array([[0.04, 0.3], [0.04, -0.25], [0, 0], [0, 0]])
        course = np.concatenate([shown, -shown]) * sign
        times = tuple(start + t for start in (0.0, half) for t in (0.4, 1.5, 2.6, 6.8))
        x, turn = Track((0.0, *times[1:]), course, self.period_s).at(time)
        drift = wave(time, self.period_s, np.random.default_rng(self._drift_seed), 0.006)
        rotation = so3_exp(np.array([0, turn, 0.3 * turn])) @ self._standing
        center = np.array([x, 0.0, self._depth]) + drift
        return make_transform(rotation, center - rotation @ self._center)

    def _hand(self, number: int, T_view_object: np.ndarray, closed: float, near: float) -> HandState:
        hold = (self.plan.giver, self.plan.taker)[number]
        sign = -1.0 if hold.side == "right" else 1.0
        angles = hold.open_angles + closed * (hold.angles - hold.open_angles)
        T_view_wrist = T_view_object @ hold.T_object_wrist
        # An open hand backs off along its palm's normal first, then to its own side.
        T_view_wrist[:3, 3] -= (0.012 * (1 - closed) + 0.05 * (1 - near)) * T_view_wrist[:3, 2]
        away = self._standing @ hold.T_object_wrist[:3, :3]
        rest = make_transform(away, np.array([sign * 0.24, 0.03, self._depth]) - 0.06 * away[:, 2])
        T_view_wrist = blend_poses(rest, T_view_wrist, near)
        elbow = T_view_wrist[:3, 3] - 0.3 * T_view_wrist[:3, 1] + np.array([0.05 * sign, 0.06, 0])
        return HandState(hold.side, angles, T_view_wrist, elbow)
