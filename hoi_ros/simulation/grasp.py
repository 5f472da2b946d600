"""Hands that close on a surface: finger by finger until contact, for every angle the thing is turned to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hoi_ros.datatypes import FINGERS
from hoi_ros.geometry import make_transform, so3_exp, so3_log
from hoi_ros.hand_model import HandModel
from hoi_ros.simulation.objects import GripSite, SimObject
from hoi_ros.simulation.raycast import TriangleScene

FULL_TURN = np.arange(24) * 2 * np.pi / 24
_CLOSING_STEPS = 14
_STRETCHES = np.array([[0.0, 0.0], [-0.3, 0.0], [0.3, 0.5], [0.6, 0.9], [0.9, 1.2]])
"""Radians at knuckle and middle joint by which a finger may begin otherwise than open."""
_GRID_ERROR_M = 0.0045
"""More than a value between samples 5 mm apart can be off: half of their cube's diagonal."""
_FLESH_M = 0.0007
"""Depth to which a finger pad yields."""


@dataclass(frozen=True)
class GraspCycle:
    """Hand poses that hold a thing while it turns once about its grip axis; row k is turned by k * 2 pi / K."""

    angles: np.ndarray
    """(K, A) joint angles, radians."""
    open_angles: np.ndarray
    """(A,) the hand just before it closes."""
    T_wrist_object: np.ndarray
    """(K, 4, 4)."""
    depth_m: np.ndarray
    """(K,) deepest penetration of the hand into the thing, metres, 0 or more."""
    tip_gap_m: np.ndarray
    """(K, 5) distance of each fingertip's nearest skin to the surface, thumb first."""
    grip_center: np.ndarray
    """(3,) metres, object frame."""

    def sound_arc(self, depth_m: float = 0.004, tips: int = 3) -> tuple[float, float] | None:
        """First and last turn in radians of the longest arc on which the grasp holds without sinking in.

        None when it holds all round. When it holds nowhere, the arc is the single turn that sinks in least.
        """
        count = len(self.angles)
        good = (self.depth_m < depth_m) & ((self.tip_gap_m < 0.003).sum(1) >= tips)
        if good.all():
            return None
        best_start, best_length = int(self.depth_m.argmin()), 0
        for start in range(count):
            run = int(np.argmin(np.append(np.roll(good, -start), False)))
            if run > best_length:
                best_start, best_length = start, run
        step = 2 * np.pi / count
        return best_start * step, (best_start + max(0, best_length - 1)) * step

    def at(self, turn_rad: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Joint angles (A,) and T_wrist_object (4, 4) at any turn, between the solved rows."""
        count = len(self.angles)
        position = (float(turn_rad) / (2 * np.pi) * count) % count
        low = int(position) % count
        share = position - int(position)
        high = (low + 1) % count
        angles = self.angles[low] * (1 - share) + self.angles[high] * share
        step = self.T_wrist_object[low][:3, :3].T @ self.T_wrist_object[high][:3, :3]
        rotation = self.T_wrist_object[low][:3, :3] @ so3_exp(so3_log(step) * share)
        return angles, make_transform(rotation, self._offset(rotation, low, high, share))

    def _offset(self, rotation: np.ndarray, low: int, high: int, share: float) -> np.ndarray:
        """Translation that keeps the grip centre on the straight line between two rows."""
        centers = [
            self.T_wrist_object[k][:3, :3] @ self.grip_center + self.T_wrist_object[k][:3, 3] for k in (low, high)
        ]
        return centers[0] * (1 - share) + centers[1] * share - rotation @ self.grip_center


class SignedDistance:
    """Distance of points to a closed surface, negative inside."""

    def __init__(self, item: SimObject) -> None:
        self._scene = TriangleScene(item.vertices, item.faces)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """(...) metres of (..., 3) points in the object frame."""
        return self._scene.signed_distance(points)


class GriddedDistance:
    """`SignedDistance` sampled on a grid round the thing and read between the samples: rough at edges, far faster."""

    def __init__(
        self, exact: SignedDistance, item: SimObject, pitch_m: float = 0.0025, margin_m: float = 0.025
    ) -> None:
        low, high = item.vertices.min(0) - margin_m, item.vertices.max(0) + margin_m
        counts = 2 * np.ceil((high - low) / pitch_m / 2).astype(int) + 1
        fine = [low[k] + pitch_m * np.arange(counts[k]) for k in range(3)]
        rough = exact(_lattice([axis[::2] for axis in fine]))
        values = _doubled(rough)
        # Exact only where a finger may touch: that is a small part of the box, and exact distances are slow.
        near = np.abs(values) < 3 * pitch_m
        values[near] = exact(_lattice(fine)[near])
        self._values = np.ascontiguousarray(values, np.float32)
        self._low, self._scale = low.astype(np.float32), np.float32(1 / pitch_m)
        self._last = np.array(counts, np.float32) - np.float32(1.001)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """(...) metres of (..., 3) points in the object frame; beyond the grid the value at its border."""
        place = (points.reshape(-1, 3).astype(np.float32) - self._low) * self._scale
        place = np.clip(place, 0, self._last, out=place)
        cell = place.astype(np.int32)
        x, y, z = (place - cell).T
        _, ny, nz = self._values.shape
        flat, first = self._values.reshape(-1), (cell[:, 0] * ny + cell[:, 1]) * nz + cell[:, 2]
        total = np.zeros(len(place), np.float32)
        for dx, wx in ((0, 1 - x), (ny * nz, x)):
            for dy, wy in ((0, 1 - y), (nz, y)):
                start = first + (dx + dy)
                total += wx * wy * (flat[start] * (1 - z) + flat[start + 1] * z)
        return total.reshape(points.shape[:-1])


def _lattice(axes: list[np.ndarray]) -> np.ndarray:
    """(X, Y, Z, 3) float32 grid points."""
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).astype(np.float32)


def _doubled(values: np.ndarray) -> np.ndarray:
    """(2X-1, 2Y-1, 2Z-1) values with the means of neighbours between them."""
    for axis in range(3):
        values = np.moveaxis(values, axis, 0)
        out = np.empty((2 * len(values) - 1, *values.shape[1:]), values.dtype)
        out[::2] = values
        out[1::2] = (values[1:] + values[:-1]) / 2
        values = np.moveaxis(out, 0, axis)
    return values


class AngleMap:
    """Finds joint angles by finger and movement in a model's list of names."""

    def __init__(self, model: HandModel) -> None:
        self.names = list(model.joint_angle_names)
        self._found: dict[tuple[str, ...], int] = {}
        self.limits = np.asarray(model.joint_limits, float)

    def index(self, *words: str) -> int:
        """Place of the first angle whose name holds all words.

        Raises:
            KeyError: the model has no such angle.
        """
        if words in self._found:
            return self._found[words]
        for i, name in enumerate(self.names):
            if all(word in name for word in words):
                self._found[words] = i
                return i
        raise KeyError(f"hand model has no joint angle named like {' '.join(words)}")

    def set(self, angles: np.ndarray, value: float | np.ndarray, *words: str) -> None:
        """Set one angle in place in (..., A), kept within its limits."""
        i = self.index(*words)
        angles[..., i] = np.clip(value, self.limits[i, 0], self.limits[i, 1])


class HandParts:
    """Which vertices belong to which finger segment, by the nearest bone of the rest shape."""

    def __init__(self, model: HandModel, shape: np.ndarray) -> None:
        rest = model.pose(np.zeros((1, len(model.joint_angle_names))), shape[None], "right")
        vertices, joints = rest.vertices[0], rest.joints[0]
        segments, owners = [], []
        for finger in range(5):
            for k in range(1, 4):
                segments.append((joints[4 * finger + k], joints[4 * finger + k + 1]))
                owners.append((finger, k))
            segments.append((joints[0], joints[4 * finger + 1]))
            owners.append((finger, 0))
        distance = np.stack([_distance_to_segment(vertices, a, b) for a, b in segments], 1)
        owner = np.array(owners)[distance.argmin(1)]
        self.finger, self.segment = owner[:, 0], owner[:, 1]
        self.palm_mask = self.segment == 0
        self.middle_length = float(np.linalg.norm(joints[9]))
        self.rest_joints = joints

    def mask(self, finger: int, first_segment: int) -> np.ndarray:
        """(V,) bool: the finger from a segment (1 to 3) outwards."""
        return (self.finger == finger) & (self.segment >= first_segment)


def _distance_to_segment(points: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    along = b - a
    share = np.clip((points - a) @ along / (along @ along + 1e-12), 0, 1)
    return np.linalg.norm(points - a - share[:, None] * along, axis=1)


class GraspSolver:
    """Closes one hand, of one shape and side, on one thing."""

    def __init__(self, model: HandModel, shape: np.ndarray, side: str, item: SimObject) -> None:
        self.model, self.shape, self.side = model, shape, side
        self.parts, self.map = HandParts(model, shape), AngleMap(model)
        self._from_segment = [model.part(self.parts.segment >= first) for first in (1, 2, 3)]
        self.exact_distance = SignedDistance(item)
        self.distance = GriddedDistance(self.exact_distance, item)
        self.item = item
        self.mirror = np.array([-1.0 if side == "left" else 1.0, 1.0, 1.0])

    def solve_best(self, grips: tuple[GripSite, ...], *, tilt_rad: float = 0.0) -> GraspCycle:
        """The grasp about the best of several sites, for the full turn."""
        if len(grips) == 1:
            return self.solve(grips[0], tilt_rad=tilt_rad)
        few = [self.solve(grip, tilt_rad=tilt_rad, turns=FULL_TURN[::4]) for grip in grips]
        best = int(np.argmin([self._cost(cycle) for cycle in few]))
        return self.solve(grips[best], tilt_rad=tilt_rad)

    def solve(self, grip: GripSite, *, tilt_rad: float = 0.0, turns: np.ndarray = FULL_TURN) -> GraspCycle:
        """Find the best grasp about a grip site for every turn of the thing.

        Args:
            grip: where to take hold.
            tilt_rad: lean of the axis in the palm's plane.
            turns: (K,) radians about the grip axis to solve for; `GraspCycle.at` needs an even full circle.
        """
        forwards = (0.0, 0.014) if grip.style == "wrap" else (0.0,)
        tries = [(forward, preset) for forward in forwards for preset in range(3)]
        placed = {f: self._placements(grip, tilt_rad, f, turns) for f in forwards}
        few = slice(None, None, max(1, len(turns) // 4))
        closed = [self._close(placed[forward][few], grip, preset) for forward, preset in tries]
        best = min(range(len(tries)), key=lambda k: self._cost(closed[k]))
        forward, preset = tries[best]
        return closed[best] if few.step == 1 else self._close(placed[forward], grip, preset)

    @staticmethod
    def _cost(cycle: GraspCycle) -> float:
        gaps = np.sort(cycle.tip_gap_m[:, 1:], 1)
        touching = np.clip(gaps[:, :3], 0, 0.03).mean() + np.clip(cycle.tip_gap_m[:, 0], 0, 0.03).mean()
        return float(touching + 2 * np.clip(cycle.depth_m - 0.003, 0, None).mean())

    def _placements(self, grip: GripSite, tilt: float, forward: float, turns: np.ndarray) -> np.ndarray:
        """(K, 4, 4) T_wrist_object: axis laid in the hand, moved along the palm's normal until the skin is near."""
        length = self.parts.middle_length
        base = np.array([0.012, length + 0.022, 0.0] if grip.style == "top" else [0.0, 0.9 * length + forward, 0.0])
        axis, base = self._axis(grip, tilt), base * self.mirror
        rotations = rotation_between(grip.axis, axis) @ so3_exp(turns[:, None] * grip.axis[None])
        height = np.full(len(turns), 0.07) if grip.style == "top" else self._clearance(rotations, grip, base)
        centers = base + height[:, None] * np.array([0.0, 0, 1])
        return make_transform(rotations, centers - rotations @ grip.center)

    def _axis(self, grip: GripSite, tilt: float) -> np.ndarray:
        """(3,) unit grip axis in the wrist frame."""
        axis = np.array([0.0, -0.25, -1.0] if grip.style == "top" else [np.cos(tilt), np.sin(tilt), 0.0])
        return axis / np.linalg.norm(axis) * self.mirror

    def rotation_at(self, grip: GripSite, tilt_rad: float, turn_rad: float) -> np.ndarray:
        """(3, 3) R_wrist_object that `solve` will use for a turn."""
        return rotation_between(grip.axis, self._axis(grip, tilt_rad)) @ so3_exp(grip.axis * turn_rad)

    def _clearance(self, rotations: np.ndarray, grip: GripSite, base: np.ndarray) -> np.ndarray:
        """(K,) height of the grip centre over the wrist plane at which the open hand just clears the thing."""
        open_hand = self._pose(self.open_angles(0)[None])[0]
        skin = open_hand[(self.parts.palm_mask | (self.parts.segment == 1)) & (open_hand[:, 2] > 0)][::2]
        heights = np.linspace(0.01, 0.13, 31)
        clear = np.zeros((len(rotations), len(heights)))
        for k, rotation in enumerate(rotations):
            shifted = skin[None] - base - heights[:, None, None] * np.array([0.0, 0, 1])
            clear[k] = self.distance(shifted @ rotation + grip.center).min(1)
        enough = clear > 0.0015
        # The highest level that is not clear bounds the fall of the thing into the palm.
        last = np.array([np.flatnonzero(~row)[-1] + 1 if (~row).any() else 0 for row in enough])
        found = heights[np.minimum(last, len(heights) - 1)]
        smooth = found.copy()
        for _ in range(3):
            smooth = np.maximum(found, (np.roll(smooth, 1) + smooth + np.roll(smooth, -1)) / 3)
        return smooth

    def open_angles(self, preset: int) -> np.ndarray:
        """(A,) hand spread ready to close, with one of three thumb positions."""
        angles = np.zeros(len(self.map.names))
        for finger in FINGERS[1:]:
            self.map.set(angles, 0.02, finger, "mcp", "flex")
            self.map.set(angles, 0.08, finger, "pip")
        spread, roll = ((0.3, 0.45), (0.55, 0.7), (0.1, 0.2))[preset]
        self.map.set(angles, spread, "thumb", "cmc", "abd")
        self.map.set(angles, roll, "thumb", "rotation")
        self.map.set(angles, -0.25, "thumb", "cmc", "flex")
        return angles

    def _stages(self) -> list[tuple[int, dict[tuple[str, ...], float]]]:
        """First segment that can move and the share of full flexion of each joint, stage by stage."""
        first: dict[tuple[str, ...], float] = {}
        second: dict[tuple[str, ...], float] = {}
        third: dict[tuple[str, ...], float] = {}
        for name in FINGERS[1:]:
            first.update({(name, "mcp", "flex"): 1.35, (name, "pip"): 1.25, (name, "dip"): 0.55})
            second.update({(name, "pip"): 1.6, (name, "dip"): 0.8})
            third.update({(name, "dip"): 0.9})
        first.update({("thumb", "cmc", "flex"): 1.0, ("thumb", "mcp"): 0.8, ("thumb", "ip"): 0.6})
        second.update({("thumb", "mcp"): 0.9, ("thumb", "ip"): 0.7})
        third.update({("thumb", "ip"): 0.9})
        return [(1, first), (2, second), (3, third)]

    def _close(self, poses: np.ndarray, grip: GripSite, preset: int) -> GraspCycle:
        start = self.open_angles(preset)
        angles = self._free_start(start, poses)
        for segment, travel in self._stages():
            angles = self._advance(angles, poses, segment, travel)
        gaps = self._closest_gaps(_in_object(self._pose(angles), poses))
        tips = np.stack([gaps[:, self.parts.mask(f, 3)].min(1) for f in range(5)], 1)
        return GraspCycle(angles, start, poses, np.clip(-gaps.min(1), 0, None), tips, grip.center)

    def _closest_gaps(self, points: np.ndarray) -> np.ndarray:
        """(K, V) distances of skin (K, V, 3), object frame: exact where it sinks in and where tips are nearest."""
        gaps = self.distance(points)
        near = gaps < _GRID_ERROR_M
        for finger in range(5):
            tip = np.flatnonzero(self.parts.mask(finger, 3))
            near[:, tip] |= gaps[:, tip] < gaps[:, tip].min(1, keepdims=True) + 2 * _GRID_ERROR_M
        gaps[near] = self.exact_distance(points[near])
        return gaps

    def _free_start(self, start: np.ndarray, poses: np.ndarray) -> np.ndarray:
        """(K, A) open hand in which a finger that would begin inside the thing is stretched or curled out of it."""
        out = np.repeat(start[None], len(poses), 0)
        free = np.zeros((len(poses), 5), bool)
        stretched = np.repeat(start[None], len(_STRETCHES), 0)
        for name in FINGERS[1:]:
            for column, words in enumerate(((name, "mcp", "flex"), (name, "pip"))):
                self.map.set(stretched, start[self.map.index(*words)] + _STRETCHES[:, column], *words)
        # (stretches, poses, vertices): all at once, as each is small.
        vertices = np.repeat(self._pose(stretched, 1)[:, None], len(poses), 1)
        count = len(poses) * len(stretched)
        gaps = self._gaps(vertices.reshape(count, -1, 3), np.tile(poses, (len(stretched), 1, 1)))
        gaps = gaps.reshape(len(stretched), len(poses), -1)
        fingers = self.parts.finger[self.parts.segment >= 1]
        for tried, gap in zip(stretched, gaps):
            for finger, name in enumerate(FINGERS):
                clear = gap[:, fingers == finger].min(1) > 0
                columns = np.array([i for i, angle in enumerate(self.map.names) if angle.startswith(name)])
                chosen = np.flatnonzero(clear & ~free[:, finger])
                out[np.ix_(chosen, columns)] = tried[columns]
                free[chosen, finger] = True
        return out

    def _advance(
        self, angles: np.ndarray, poses: np.ndarray, segment: int, travel: dict[tuple[str, ...], float]
    ) -> np.ndarray:
        """Flex every finger by the largest share of `travel` that keeps its moving segments outside."""
        count = len(angles)
        shares = np.linspace(0, 1, _CLOSING_STEPS)
        delta = np.zeros_like(angles)
        finger_of = np.full(angles.shape[1], -1)
        for words, amount in travel.items():
            i = self.map.index(*words)
            delta[:, i] = np.clip(angles[:, i] + amount, *self.map.limits[i]) - angles[:, i]
            finger_of[i] = FINGERS.index(words[0])
        tried = angles[:, None] + shares[None, :, None] * delta[:, None]
        vertices = self._pose(tried.reshape(count * len(shares), -1), segment)
        moving = self.parts.segment >= segment
        T = np.repeat(poses, len(shares), 0)
        gaps = self._gaps(vertices, T).reshape(count, len(shares), -1)
        out = angles.copy()
        for finger in range(5):
            mine = self.parts.finger[moving] == finger
            share = _first_contact(gaps[..., mine].min(2), shares)
            columns = finger_of == finger
            out[:, columns] += share[:, None] * delta[:, columns]
        return out

    def _pose(self, angles: np.ndarray, first_segment: int = 0) -> np.ndarray:
        """(B, V, 3) vertices in the wrist frame, or those of the fingers from a segment (1 to 3) outwards alone."""
        model = self._from_segment[first_segment - 1] if first_segment else self.model
        shapes = np.repeat(self.shape[None], len(angles), 0)
        return np.asarray(model.pose(angles, shapes, self.side).vertices)

    def _gaps(self, vertices: np.ndarray, T_wrist_object: np.ndarray) -> np.ndarray:
        """(B, V) signed distances of wrist-frame vertices to the thing at (B, 4, 4)."""
        return self.distance(_in_object(vertices, T_wrist_object))


def _in_object(vertices: np.ndarray, T_wrist_object: np.ndarray) -> np.ndarray:
    """(B, V, 3) wrist-frame vertices in the object's frame."""
    return (vertices - T_wrist_object[:, None, :3, 3]) @ T_wrist_object[:, :3, :3]


def _first_contact(clearance: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """(K,) share at which clearance (K, S) first falls to the flesh's yield, by linear interpolation."""
    touching = clearance < -_FLESH_M
    out = np.ones(len(clearance))
    for k, row in enumerate(touching):
        if not row.any():
            # Nothing in the way: go where the finger is nearest, a loose curl rather than a fist.
            out[k] = shares[int(clearance[k].argmin())]
            continue
        first = int(row.argmax())
        if first == 0:
            out[k] = 0.0
            continue
        a, b = clearance[k, first - 1] + _FLESH_M, clearance[k, first] + _FLESH_M
        out[k] = shares[first - 1] + (shares[first] - shares[first - 1]) * a / max(a - b, 1e-9)
    return out


def rotation_between(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(3, 3) smallest rotation that takes one unit vector to another."""
    source, target = source / np.linalg.norm(source), target / np.linalg.norm(target)
    axis = np.cross(source, target)
    length = np.linalg.norm(axis)
    if length < 1e-9:
        if source @ target > 0:
            return np.eye(3)
        other = np.eye(3)[int(np.abs(source).argmin())]
        axis = np.cross(source, other)
        return so3_exp(axis / np.linalg.norm(axis) * np.pi)
    return so3_exp(axis / length * np.arctan2(length, source @ target))
