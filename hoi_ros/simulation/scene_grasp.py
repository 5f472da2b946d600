"""A thing is lifted from the table, shown from many sides, regrasped, handed over and put down; every hold is rigid."""

from __future__ import annotations

import numpy as np

from hoi_ros.geometry import invert_transform, make_transform, so3_exp
from hoi_ros.hand_model import HandModel
from hoi_ros.simulation.grasp import GraspSolver
from hoi_ros.simulation.grasp_plan import GraspPlan, plan_grasps
from hoi_ros.simulation.holds import Hold
from hoi_ros.simulation.motion import PoseCourse, blend_poses, ease
from hoi_ros.simulation.scene import HandState, Scene, SceneState
from hoi_ros.simulation.surface import SimObject

# Turn about the upright axis (outwards for the holding hand) and tip of the top towards the camera, degrees.
_SHOWN = ((-15, 0), (45, 15), (80, 55), (0, 40), (-15, -60), (70, -45))
_REACH_S, _CLOSE_S, _OPEN_S, _LEAVE_S = 1.4, 0.6, 0.5, 1.3
_TURN_S = 0.9
_ASIDE_M, _AWAY_M = 0.2, 0.55


class _Stay:
    """One hand's hold and when it comes, closes, opens and goes, seconds."""

    def __init__(self, hold: Hold, touch_s: float, open_s: float, away_before_m: float, away_after_m: float) -> None:
        self.hold = hold
        self.start, self.touch, self.closed = touch_s - _REACH_S, touch_s, touch_s + _CLOSE_S
        self.open, self.opened, self.gone = open_s, open_s + _OPEN_S, open_s + _OPEN_S + _LEAVE_S
        self.away_before_m, self.away_after_m = away_before_m, away_after_m

    def closing(self, time: float) -> float:
        """0 open, 1 closed."""
        return float(ease((time - self.touch) / _CLOSE_S) - ease((time - self.open) / _OPEN_S))

    def nearing(self, time: float) -> float:
        """0 away, 1 at the thing."""
        return float(ease((time - self.start) / _REACH_S) - ease((time - self.opened) / _LEAVE_S))


class GraspScene(Scene):
    """Lift, show, put down, regrasp, show, hand over, show, put down; then again from the start."""

    def __init__(
        self, item: SimObject, model: HandModel, shape: np.ndarray, seed: int, T_world_view: np.ndarray
    ) -> None:
        rng = np.random.default_rng([seed, 904])
        self.item = item
        first = "left" if rng.random() < 0.5 else "right"
        self.sides = (first, "left" if first == "right" else "right")
        self._T_view_world = invert_transform(T_world_view)
        self._spot = np.array([rng.uniform(-0.03, 0.03), rng.uniform(0.0, 0.06), 0.0])
        self._carry = np.array([rng.uniform(-0.02, 0.02), rng.uniform(-0.03, 0.0), rng.uniform(0.44, 0.5)])
        solvers = [GraspSolver(model, shape, side, item) for side in self.sides]
        self.plan = plan_grasps(item, solvers, self._T_view_world[:3, :3])
        self._low = np.append((item.vertices.min(0) + item.vertices.max(0))[:2] / 2, item.vertices[:, 2].min())
        self._center = (item.vertices.min(0) + item.vertices.max(0)).astype(np.float64) / 2
        self.stays: list[_Stay] = []
        self._tell(self.plan)

    @property
    def period_s(self) -> float:  # type: ignore[override]
        """Seconds until all begins anew; depends on how far the thing is turned."""
        return self._course.end_s

    def at(self, time_s: float) -> SceneState:
        """The state at a time."""
        time = time_s % self.period_s
        hands = tuple(self._hand(side, time) for side in self.sides)
        return SceneState(hands, self._course.at(time))

    def held_by(self, time_s: float) -> list[Hold]:
        """Holds that are closed at a time; the thing moves as one with each of them."""
        time = time_s % self.period_s
        return [stay.hold for stay in self.stays if stay.closed <= time <= stay.open]

    @property
    def held_from_s(self) -> float:
        return self.stays[0].closed

    def _tell(self, plan: GraspPlan) -> None:
        """Lay the course of the thing through time, and the stays of the hands along it."""
        course = PoseCourse(self._on_table(plan.yaw_start))
        course.wait(_REACH_S + _CLOSE_S)
        touch = _REACH_S
        self._show(course, plan.first, plan.yaw_start)
        course.go(self._on_table(plan.yaw_regrasp, 0.05))
        course.go(self._on_table(plan.yaw_regrasp))
        self.stays.append(_Stay(plan.first, touch, course.end_s + 0.15, _AWAY_M, _ASIDE_M))
        course.wait(0.15 + _OPEN_S + _LEAVE_S + _TURN_S + _REACH_S)
        touch = course.end_s
        course.wait(_CLOSE_S)
        self._show(course, plan.second, plan.yaw_regrasp)
        if plan.in_air:
            course.go(self._in_air(plan.yaw_handover, 0.0))
        else:
            course.go(self._on_table(plan.yaw_handover, 0.05))
            course.go(self._on_table(plan.yaw_handover))
        self._hand_over(course, plan, touch)
        touch = self.stays[-1].touch
        self._show(course, plan.third, plan.yaw_handover)
        course.go(self._on_table(plan.yaw_start, 0.05))
        course.go(self._on_table(plan.yaw_start))
        self.stays[-1].open = course.end_s + 0.15
        self.stays[-1].opened = self.stays[-1].open + _OPEN_S
        self.stays[-1].gone = self.stays[-1].opened + _LEAVE_S
        course.wait(0.15 + _OPEN_S + _LEAVE_S)
        self._course = course

    def _hand_over(self, course: PoseCourse, plan: GraspPlan, touch: float) -> None:
        if plan.in_air:
            course.wait(0.3)
            taken = course.end_s
            course.wait(_CLOSE_S + 0.15)
            self.stays.append(_Stay(plan.second, touch, course.end_s, _ASIDE_M, _AWAY_M))
            course.wait(_OPEN_S + 0.5)
        else:
            self.stays.append(_Stay(plan.second, touch, course.end_s + 0.15, _ASIDE_M, _AWAY_M))
            course.wait(0.15 + _OPEN_S + _LEAVE_S + 0.3)
            taken = course.end_s
            course.wait(_CLOSE_S)
        self.stays.append(_Stay(plan.third, taken, np.inf, _AWAY_M, _AWAY_M))

    def _show(self, course: PoseCourse, hold: Hold, yaw: float) -> None:
        """From the table up, and through the views."""
        course.go(self._on_table(yaw, 0.04))
        outwards = -1.0 if hold.side == "right" else 1.0
        for turn, tip in _SHOWN:
            course.go(self._in_air(yaw + outwards * np.radians(turn), np.radians(tip)))
            course.wait(0.15)

    def _on_table(self, yaw: float, height_m: float = 0.0) -> np.ndarray:
        """(4, 4) T_view_object of the thing upright over its spot."""
        rotation = so3_exp(np.array([0, 0, yaw]))
        pose = make_transform(rotation, self._spot + [0, 0, height_m] - rotation @ self._low)
        return self._T_view_world @ pose

    def _in_air(self, yaw: float, tip: float) -> np.ndarray:
        """(4, 4) T_view_object before the camera."""
        upright = self._T_view_world[:3, :3] @ so3_exp(np.array([0, 0, yaw]))
        rotation = so3_exp(np.array([tip, 0.0, 0.0])) @ upright
        return make_transform(rotation, self._carry - rotation @ self._center)

    def _hand(self, side: str, time: float) -> HandState:
        mine = [stay for stay in self.stays if stay.hold.side == side]
        sign = -1.0 if side == "right" else 1.0
        now = next((stay for stay in mine if stay.start <= time <= stay.gone), None)
        if now is not None:
            T_view_wrist, angles = self._at_thing(now, time, sign)
        else:
            # Between two stays, from where the hand went to where it will come from.
            before = max(mine, key=lambda stay: (stay.gone - time - 1e-9) % self.period_s)
            after = min(mine, key=lambda stay: (stay.start - time) % self.period_s)
            gap = (after.start - before.gone) % self.period_s
            share = float(ease(((time - before.gone) % self.period_s) / max(gap, 1e-9)))
            (left, left_angles), (next_, next_angles) = (
                self._at_thing(before, before.gone, sign), self._at_thing(after, after.start, sign)
            )  # fmt: skip
            T_view_wrist = blend_poses(left, next_, share)
            angles = left_angles + share * (next_angles - left_angles)
        return HandState(side, angles, T_view_wrist, _elbow(T_view_wrist, sign))

    def _at_thing(self, stay: _Stay, time: float, sign: float) -> tuple[np.ndarray, np.ndarray]:
        """(4, 4) T_view_wrist and (A,) joint angles of a hand that comes, holds or goes."""
        hold = stay.hold
        closed, near = stay.closing(time), stay.nearing(time)
        angles = hold.open_angles + closed * (hold.angles - hold.open_angles)
        # The hand waits where it will take the thing, or has left it: a little aside, or out of the picture.
        at_thing = self._course.at(float(np.clip(time, stay.touch, stay.opened))) @ hold.T_object_wrist
        far = stay.away_before_m if time < stay.touch else stay.away_after_m
        away = at_thing.copy()
        away[:3, 3] += np.array([sign * far, -0.02, 0.02]) - 0.05 * at_thing[:3, 2]
        at_thing[:3, 3] -= (0.012 * (1 - closed) + 0.05 * (1 - near)) * at_thing[:3, 2]
        return blend_poses(away, at_thing, near), angles


def _elbow(T_view_wrist: np.ndarray, sign: float) -> np.ndarray:
    """(3,) elbow 0.3 m behind the wrist, drawn towards the person's side and up from the table."""
    along = -0.75 * T_view_wrist[:3, 1] + np.array([0.25 * sign, -0.12, 0.12])
    return T_view_wrist[:3, 3] + 0.3 * along / np.linalg.norm(along)
