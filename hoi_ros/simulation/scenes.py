"""What happens: courses of hands and object over a repeating period, in the frame of the resting camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hoi_ros.datatypes import FINGERS
from hoi_ros.errors import InputError, unknown_name
from hoi_ros.geometry import invert_transform, make_transform, so3_exp
from hoi_ros.hand_model import HandModel
from hoi_ros.simulation.grasp import AngleMap, GraspSolver
from hoi_ros.simulation.motion import Track, blend_poses, ease, wave
from hoi_ros.simulation.objects import GripSite, SimObject, load_object

SCENES = ("rotate", "handover", "bare", "empty")
DEFAULT_OBJECTS = {"rotate": "bottle", "handover": "bottle"}
_MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])
_TILT = 0.1
_FINGERS = FINGERS[1:]


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

    def at(self, time_s: float) -> SceneState:
        """The state at a time; the same at `time_s + period_s`."""
        return SceneState((), None)


def parse_scene(text: str, object_name: str) -> tuple[str, str]:
    """Split `rotate`, `rotate:mug` or `rotate:PATH` into scene and object; the text's object wins.

    Raises:
        InputError: unknown scene, or an object for a scene that holds none.
    """
    scene, _, item = text.partition(":")
    if scene not in SCENES:
        raise unknown_name("scene", scene, SCENES)
    item = item or object_name
    if scene not in DEFAULT_OBJECTS:
        if item:
            raise InputError(f"scene '{scene}' holds no object: leave out '{item}', or choose rotate or handover")
        return scene, ""
    return scene, item or DEFAULT_OBJECTS[scene]


def make_scene(name: str, item: str, model: HandModel, shape: np.ndarray, seed: int) -> Scene:
    """Build a scene by name; see `parse_scene`."""
    if name == "rotate":
        return RotateScene(load_object(item), model, shape, seed)
    if name == "handover":
        return HandoverScene(load_object(item), model, shape, seed)
    return BareScene(model, seed) if name == "bare" else Scene()


def _frame(y: tuple[float, float, float], x: tuple[float, float, float]) -> np.ndarray:
    """(3, 3) rotation whose y column is `y` and whose x column lies near `x`."""
    b = np.array(y) / np.linalg.norm(y)
    a = np.array(x) - b * (b @ np.array(x))
    a = a / np.linalg.norm(a)
    return np.stack([a, b, np.cross(a, b)], 1)


def _mirrored(T: np.ndarray, side: str) -> np.ndarray:
    """A right hand's pose, or the left hand's seen in the mirror."""
    return _MIRROR @ T @ _MIRROR if side == "left" else T


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
            base = _frame((-0.8, 0.1, rng.uniform(0.2, 0.4)), (-0.25, 0.5, -0.7))
        else:
            base = _frame((0.85, -0.15, rng.uniform(-0.5, -0.35)), (0.1, -1.0, 0.1))
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
        T_view_wrist = _mirrored(pose, self.side)
        elbow = elbow * ([-1, 1, 1] if self.side == "left" else [1, 1, 1])
        state = HandState(self.side, angles, T_view_wrist, elbow)
        return SceneState((state,), T_view_wrist @ T_wrist_object)

    def _elbow(self, pose: np.ndarray) -> np.ndarray:
        return pose[:3, 3] - 0.3 * self._base[:, 1] + np.array([0, 0.06, 0.0])

    def _gait(self, angles: np.ndarray, turn: float, moving: float) -> np.ndarray:
        """Fingers let go one after another and take hold again while the thing turns; at least two always hold."""
        angles = angles.copy()
        for k, finger in enumerate(_FINGERS):
            lift = moving * np.clip(np.sin(8 * turn / 2 + k * np.pi / 2), 0, 1) ** 2
            angles[self._map.index(finger, "mcp", "flex")] -= 0.22 * lift
            angles[self._map.index(finger, "pip")] -= 0.12 * lift
        return angles


class HandoverScene(Scene):
    """One hand brings a thing, the other takes it, shows it, and gives it back."""

    period_s = 14.0

    def __init__(self, item: SimObject, model: HandModel, shape: np.ndarray, seed: int) -> None:
        rng = np.random.default_rng([seed, 902])
        self.item = item
        giver = "left" if rng.random() < 0.5 else "right"
        self.sides = (giver, "left" if giver == "right" else "right")
        views = (_frame((0.88, -0.2, -0.4), (0.1, -1.0, 0.1)), _frame((0.88, -0.05, -0.4), (0.1, -1.0, 0.1)))
        self._bases = [_mirrored(make_transform(v, np.zeros(3)), s)[:3, :3] for v, s in zip(views, self.sides)]
        solvers = [GraspSolver(model, shape, side, item) for side in self.sides]
        grips = _two_grips(item)
        self._standing = self._bases[0] @ solvers[0].rotation_at(grips[0], _TILT, 0.0)
        # The taker's turn about the grip axis is the one that brings its forearm to its own side.
        turns = np.arange(72) * 2 * np.pi / 72
        wrists = [self._standing @ solvers[1].rotation_at(grips[1], _TILT, t).T for t in turns]
        chosen = (0.0, turns[int(np.argmax([(w * self._bases[1]).sum() for w in wrists]))])
        self.cycles = tuple(
            solver.solve(grip, tilt_rad=_TILT, turns=np.array([turn]))
            for solver, grip, turn in zip(solvers, grips, chosen)
        )
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
        assert self.item is not None
        return make_transform(rotation, center - rotation @ self.item.grips[0].center)

    def _hand(self, number: int, T_view_object: np.ndarray, closed: float, near: float) -> HandState:
        side, cycle = self.sides[number], self.cycles[number]
        sign = -1.0 if side == "right" else 1.0
        angles = cycle.open_angles + closed * (cycle.angles[0] - cycle.open_angles)
        hold = T_view_object @ invert_transform(cycle.T_wrist_object[0])
        # An open hand backs off along its palm's normal first, then to its own side.
        hold[:3, 3] -= (0.012 * (1 - closed) + 0.05 * (1 - near)) * hold[:3, 2]
        rest = make_transform(self._bases[number], np.array([sign * 0.2, 0.03, self._depth]))
        T_view_wrist = blend_poses(rest, hold, near)
        elbow = T_view_wrist[:3, 3] - 0.3 * T_view_wrist[:3, 1] + np.array([0.05 * sign, 0.06, 0])
        return HandState(side, angles, T_view_wrist, elbow)


def _two_grips(item: SimObject) -> tuple[GripSite, GripSite]:
    """A lower and an upper place on the grip axis, as far apart as the thing is long."""
    grip = item.grips[0]
    axis = grip.axis
    along = (item.vertices - grip.center) @ axis
    low, high = float(along.min()), float(along.max())
    down = min(low + 0.042, -0.01)
    up = max(min(high - 0.06, down + 0.088), 0.01)
    return (GripSite(grip.center + axis * down, axis, "wrap"), GripSite(grip.center + axis * up, axis, "wrap"))


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
            facing = (
                _frame((-0.15, -1.0, 0.25), (1.0, 0, 0)) if self._views[k] else _frame((-0.15, -1, 0.25), (-1.0, 0, 0))
            )
            rotation = facing @ so3_exp(self._turns[k].at(time_s))
            drift = wave(time_s, self.period_s, np.random.default_rng(self._drift_seed + k), 0.012)
            pose = make_transform(rotation, np.array([self._shift + 0.02, 0.085, self._depth]) + drift)
            elbow = pose[:3, 3] - 0.26 * rotation[:, 1] * [0.7, 1, 1] + np.array([0.06, 0.04, -0.05])
            flip = [-1, 1, 1] if side == "left" else [1, 1, 1]
            hands.append(HandState(side, self._gestures[k].at(time_s), _mirrored(pose, side), elbow * flip))
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
    for finger, curl in zip(_FINGERS, curls):
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
