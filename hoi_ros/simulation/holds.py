"""Single rigid holds of a thing: candidates of the grasp solver, weighed by contact, reach of the arm, collisions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hoi_ros.geometry import invert_transform, so3_exp, transform_points
from hoi_ros.hand_model import HandModel
from hoi_ros.simulation.grasp import GraspCycle, GraspSolver, rotation_between
from hoi_ros.simulation.raycast import TriangleScene
from hoi_ros.simulation.surface import GripSite, SimObject

HAND_HALF_WIDTH_M = 0.042
FINGER_REACH_M = 0.022
"""How far behind the end of a thing fingertips take it."""
SLENDER_M = 0.085
"""Widest thing round which a hand can close."""
_PAIRS_TRIED = 60
TURNS = np.arange(18) * 2 * np.pi / 18


@dataclass(frozen=True)
class Hold:
    """One hand closed on a thing; hand and thing move as one."""

    side: str
    angles: np.ndarray
    """(A,) joint angles, radians."""
    open_angles: np.ndarray
    """(A,) just before closing and after letting go."""
    T_wrist_object: np.ndarray
    """(4, 4)."""
    T_object_wrist: np.ndarray
    """(4, 4)."""
    depth_m: float
    """Deepest penetration into the thing."""
    tip_gap_m: np.ndarray
    """(5,) distance of each fingertip's nearest skin to the thing."""

    @property
    def cost(self) -> float:
        """Metres of gap under thumb and best three fingers, and of what sinks in; 0 is a perfect hold."""
        gaps = np.clip(np.sort(self.tip_gap_m[1:])[:3], 0, 0.03)
        return float(gaps.mean() + np.clip(self.tip_gap_m[0], 0, 0.03) + 3 * max(0.0, self.depth_m - 0.002))


def holds_of(cycle: GraspCycle, side: str) -> list[Hold]:
    """Every row of a solved cycle as a hold."""
    return [
        Hold(
            side, cycle.angles[k], cycle.open_angles, cycle.T_wrist_object[k],
            invert_transform(cycle.T_wrist_object[k]), float(cycle.depth_m[k]), cycle.tip_gap_m[k],
        )
        for k in range(len(cycle.angles))
    ]  # fmt: skip


def hold_candidates(solver: GraspSolver, sites: list[GripSite], tilt_rad: float = 0.1) -> list[Hold]:
    """Holds at several places, from all round, that touch well; at least one each place."""
    found: list[Hold] = []
    for site in sites:
        holds = sorted(holds_of(solver.solve(site, tilt_rad=tilt_rad, turns=TURNS), solver.side), key=lambda h: h.cost)
        found += [hold for k, hold in enumerate(holds) if k == 0 or hold.cost < 0.008]
    return found


def sites_along(item: SimObject, axis: np.ndarray, *, low: bool, high: bool) -> list[GripSite]:
    """Places to take a thing along an axis: round its lower or upper part, and by fingertips over that end.

    Args:
        item: the thing.
        axis: (3,) unit vector, object frame.
        low: places at the end against the axis.
        high: places at the end along it.
    """
    along = item.vertices @ axis
    first, last = float(along.min()), float(along.max())
    sites = []
    for wanted, end, out in ((low, first, -1.0), (high, last, 1.0)):
        if not wanted:
            continue
        inset = min(HAND_HALF_WIDTH_M, (last - first) / 2)
        around = section_center(item, axis, end - out * inset)
        if around[1] < SLENDER_M:
            sites.append(GripSite(around[0], axis, "wrap"))
        tip = section_center(item, axis, end - out * min(FINGER_REACH_M, (last - first) / 2))
        if tip[1] < SLENDER_M + 0.01:
            sites.append(GripSite(tip[0], axis * out, "top"))
    return sites or [GripSite(section_center(item, axis, (first + last) / 2)[0], axis, "wrap")]


def section_center(item: SimObject, axis: np.ndarray, level_m: float) -> tuple[np.ndarray, float]:
    """Centre (3,) and least width in metres of the thing's section at a level along an axis."""
    along = item.vertices @ axis
    corners = along[item.faces]
    crossing = (corners.min(1) <= level_m + 0.012) & (corners.max(1) >= level_m - 0.012)
    points = item.vertices[item.faces[crossing].reshape(-1)].astype(np.float64)
    side = np.linalg.svd(axis[None])[2][1:]
    flat = points @ side.T
    low, high = flat.min(0), flat.max(0)
    center = axis * level_m + ((low + high) / 2) @ side
    angles = np.arange(12) * np.pi / 12
    widths = np.ptp(flat @ np.stack([np.cos(angles), np.sin(angles)]), axis=0)
    return center, float(widths.min())


def hand_vertices(model: HandModel, shape: np.ndarray, hold: Hold, angles: np.ndarray) -> np.ndarray:
    """(V, 3) skin of a holding hand with the given joint angles, object frame."""
    pose = model.pose(angles[None], shape[None], hold.side)
    return transform_points(hold.T_object_wrist, pose.vertices[0].astype(np.float64))


class HandOverlap:
    """How deep one hand that holds a thing sinks into another that holds it too."""

    def __init__(self, model: HandModel, shape: np.ndarray, hold: Hold) -> None:
        self._model, self._shape = model, shape
        self._vertices = hand_vertices(model, shape, hold, hold.angles)
        self._surface = TriangleScene(self._vertices, model.faces(hold.side))

    def depth_m(self, other: Hold) -> float:
        """Deepest mutual penetration with `other`, closed or open, metres; 0 when apart."""
        deepest = 0.0
        for angles in (other.angles, other.open_angles):
            vertices = hand_vertices(self._model, self._shape, other, angles)
            if angles is other.open_angles:
                # An open hand stands off along its palm's normal, see `Carrier`.
                vertices = vertices - 0.012 * other.T_object_wrist[:3, 2]
            back = TriangleScene(vertices, self._model.faces(other.side)).signed_distance(self._vertices)
            deepest = max(deepest, -float(self._surface.signed_distance(vertices).min()), -float(back.min()))
        return deepest


def arm_cost(hold: Hold, R_view_object: np.ndarray, toward_elbow: np.ndarray, up: np.ndarray) -> float:
    """How unlike a person an arm would come: radians of the forearm off its direction, and a thumb that points down.

    Args:
        hold: of one hand.
        R_view_object: (3, 3) of the thing while it is taken.
        toward_elbow: (3,) unit direction from which the forearm should come, view frame.
        up: (3,) unit vector upwards, view frame.
    """
    wrist = R_view_object @ hold.T_object_wrist[:3, :3]
    off = float(np.arccos(np.clip(-wrist[:, 1] @ toward_elbow, -1, 1)))
    thumb = wrist[:, 0] * (1 if hold.side == "right" else -1)
    return max(0.0, off - 0.35) + 0.6 * max(0.0, -float(thumb @ up) - 0.2)


@dataclass(frozen=True)
class HandoverPlan:
    """Two holds that leave each other room."""

    giver: Hold
    taker: Hold
    R_view_object: np.ndarray
    """(3, 3) how the thing stands while it is handed over."""
    overlap_m: float
    """How deep the hands sink into each other at the moment both hold."""


def plan_handover(
    item: SimObject, givers: list[Hold], takers: list[Hold], model: HandModel, shape: np.ndarray, up: np.ndarray
) -> HandoverPlan:
    """Choose the best pair of holds, with the thing upright and each forearm coming from its own side.

    Args:
        item: the thing, held about `item.grips[0].axis`.
        givers: candidates of the hand that holds first. takers: of the other.
        model: both hands' model. shape: (10,).
        up: (3,) unit vector upwards, view frame.
    """
    axis = item.grips[0].axis
    upright = rotation_between(axis, up)
    elbows = {side: elbow_direction(side) for side in ("left", "right")}
    pairs = []
    for giver in givers:
        stands = [upright @ so3_exp(axis * turn) for turn in TURNS]
        R_view_object = min(stands, key=lambda R: arm_cost(giver, R, elbows[giver.side], up))
        own = giver.cost + 0.03 * arm_cost(giver, R_view_object, elbows[giver.side], up)
        for taker in takers:
            cost = own + taker.cost + 0.03 * arm_cost(taker, R_view_object, elbows[taker.side], up)
            pairs.append((cost, giver, taker, R_view_object))
    pairs.sort(key=lambda pair: pair[0])
    best, least = None, np.inf
    overlaps: dict[int, HandOverlap] = {}
    for cost, giver, taker, R_view_object in pairs[:_PAIRS_TRIED]:
        if cost >= least:
            break
        if id(giver) not in overlaps:
            overlaps[id(giver)] = HandOverlap(model, shape, giver)
        depth = overlaps[id(giver)].depth_m(taker)
        if cost + 4 * depth < least:
            best, least = HandoverPlan(giver, taker, R_view_object, depth), cost + 4 * depth
    assert best is not None
    return best


def elbow_direction(side: str) -> np.ndarray:
    """(3,) unit vector in the view from a hand to its elbow, for a person across the table: outwards, back and down."""
    direction = np.array([-1.0 if side == "right" else 1.0, 0.25, 0.25])
    return direction / np.linalg.norm(direction)
