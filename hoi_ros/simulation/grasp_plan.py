"""Which holds a person would use to lift, regrasp and hand over a thing that stands on a table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hoi_ros.geometry import rotation_angle, so3_exp
from hoi_ros.simulation.grasp import GraspSolver
from hoi_ros.simulation.holds import (
    TURNS,
    HandOverlap,
    Hold,
    arm_cost,
    elbow_direction,
    hand_vertices,
    hold_candidates,
    sites_along,
)
from hoi_ros.simulation.surface import GripSite, SimObject

_UPWARD = np.array([0.0, 0.0, 1.0])
_ARM_WEIGHT = 0.03
_AIR_OVERLAP_M = 0.002
_PAIRS_TRIED = 50
_BEST = 14


@dataclass(frozen=True)
class GraspPlan:
    """Three holds, and how the thing is turned about the upright axis (radians, world) between them."""

    first: Hold
    second: Hold
    third: Hold
    """Of the other hand."""
    yaw_start: float
    yaw_regrasp: float
    yaw_handover: float
    in_air: bool
    """True: both hands hold it for a moment; False: it is put down between."""


class _Arms:
    """Cost of an arm that holds a thing that stands upright, by its turn."""

    def __init__(self, R_view_world: np.ndarray) -> None:
        self._R_view_world = R_view_world
        self._up = R_view_world @ _UPWARD

    def cost(self, hold: Hold, yaw: float) -> float:
        R_view_object = self._R_view_world @ so3_exp(_UPWARD * yaw)
        return _ARM_WEIGHT * arm_cost(hold, R_view_object, elbow_direction(hold.side), self._up)


def plan_grasps(item: SimObject, solvers: list[GraspSolver], R_view_world: np.ndarray) -> GraspPlan:
    """Choose three holds for a thing upright on the table: two of the first hand, one of the second.

    Args:
        item: its z axis is upright.
        solvers: of the hand that lifts it, and of the one that takes it over.
        R_view_world: (3, 3).
    """
    arms = _Arms(R_view_world)
    own, others = (_over_table(item, solver) for solver in solvers)
    first, yaw_start = min(
        ((hold, yaw) for hold in own for yaw in TURNS), key=lambda pair: pair[0].cost + arms.cost(*pair)
    )
    outwards = -1.0 if first.side == "right" else 1.0
    yaw_regrasp = yaw_start + outwards * np.radians(85)
    second = sorted(own, key=lambda h: h.cost + arms.cost(h, yaw_regrasp) + _sameness(first, h))[:_BEST]
    third = sorted(others, key=lambda h: h.cost + arms.cost(h, yaw_start))[: 2 * _BEST]
    pairs = []
    for a in second:
        for b in third:
            turns = yaw_regrasp + outwards * np.radians([-15.0, 15.0, 45.0])
            yaw = min(turns, key=lambda turn: arms.cost(a, turn) + arms.cost(b, turn))
            cost = a.cost + arms.cost(a, yaw_regrasp) + arms.cost(a, yaw) + _sameness(first, a)
            pairs.append((cost + b.cost + arms.cost(b, yaw_start) + arms.cost(b, yaw), a, b, float(yaw)))
    pairs.sort(key=lambda pair: pair[0])
    overlaps: dict[int, HandOverlap] = {}
    for cost, a, b, yaw in pairs[:_PAIRS_TRIED]:
        if cost > pairs[0][0] + 0.02:
            break
        if id(a) not in overlaps:
            overlaps[id(a)] = HandOverlap(solvers[0].model, solvers[0].shape, a)
        if overlaps[id(a)].depth_m(b) < _AIR_OVERLAP_M:
            return GraspPlan(first, a, b, float(yaw_start), float(yaw_regrasp), yaw, True)
    _, a, b, yaw = pairs[0]
    return GraspPlan(first, a, b, float(yaw_start), float(yaw_regrasp), yaw, False)


def _sameness(first: Hold, other: Hold) -> float:
    """A regrasp should show what the first hold hid: cost of holding it nearly the same way."""
    angle = float(rotation_angle(first.T_object_wrist[:3, :3].T @ other.T_object_wrist[:3, :3]))
    return 0.01 * max(0.0, 1.2 - angle)


def _over_table(item: SimObject, solver: GraspSolver) -> list[Hold]:
    """Holds of one hand that stay above the table on which the thing stands, or those that sink in least."""
    floor = float(item.vertices[:, 2].min())
    sites = sites_along(item, _UPWARD, low=False, high=True)
    sites += [grip for grip in item.grips[:1] if abs(grip.axis @ _UPWARD) > 0.8 and grip.style == "wrap"]
    if float(np.ptp(item.vertices[:, 2])) < 0.07:
        middle = (item.vertices.min(0) + item.vertices.max(0)).astype(np.float64) / 2
        sites.append(GripSite(middle + [0, 0, 0.004], _UPWARD, "top"))
    holds = hold_candidates(solver, sites)
    sunk = [_below(solver, hold, floor) for hold in holds]
    clear = [hold for hold, depth in zip(holds, sunk) if depth < 0.002]
    return clear or [holds[int(np.argmin(sunk))]]


def _below(solver: GraspSolver, hold: Hold, floor: float) -> float:
    """Metres by which a hand would reach through the table."""
    lowest = min(
        hand_vertices(solver.model, solver.shape, hold, angles)[:, 2].min()
        for angles in (hold.angles, hold.open_angles)
    )
    return max(0.0, floor - float(lowest))
