"""Hands closed on random things with contact, solved as they are used; and how such things are painted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hoi_ros.geometry import so3_exp, transform_points
from hoi_ros.hand_model import HandModel
from hoi_ros.simulation.grasp import GraspSolver, SignedDistance
from hoi_ros.simulation.holds import Hold, holds_of, sites_along
from hoi_ros.simulation.surface import SimObject
from hoi_ros.training.held_shapes import random_thing
from hoi_ros.training.pointmap_shapes import solid_texture

FIRST_THINGS, MOST_THINGS, DRAWS_A_THING = 3, 8, 16
TURNS, SITES = 6, 2
BOTH_SIDES_SHARE = 0.35
WORST_COST_M = 0.01
"""Of a hold that counts: gaps under the fingers and what sinks in."""
TOUCHES_M, APART_M = 0.002, 0.008
"""Skin nearer than the first surely touches, farther than the second it surely does not."""
SKIN_TONES = np.array([[236, 190, 165], [205, 150, 120], [150, 100, 72], [92, 60, 44]], np.float64)
Paint = Callable[[np.ndarray], np.ndarray]
"""Points (N, 3) of a thing, metres in its own frame, to colours (N, 3) 0 to 255."""


@dataclass(frozen=True)
class HeldThing:
    """A thing and the holds that were found for it."""

    item: SimObject
    corners: np.ndarray
    """(3 M, 3) vertices of their own for each face, so that edges stay sharp."""
    normals: np.ndarray
    """(3 M, 3) unit."""
    distance: SignedDistance
    shape: np.ndarray
    """(10,) of the hands that hold it."""
    holds: tuple[Hold, ...]

    @property
    def faces(self) -> np.ndarray:
        """(M, 3) into `corners`."""
        return np.arange(len(self.corners), dtype=np.int32).reshape(-1, 3)

    def distance_near(self, points: np.ndarray, reach_m: float) -> np.ndarray:
        """(N,) signed metres from points (N, 3), own frame; inf where farther from its bounds than `reach_m`."""
        low, high = self.corners.min(0) - reach_m, self.corners.max(0) + reach_m
        near = np.flatnonzero(((points > low) & (points < high)).all(1))
        out = np.full(len(points), np.inf, np.float32)
        if len(near):
            out[near] = self.distance(points[near])
        return out


class ThingStock:
    """A changing handful of held things; the same source of chance gives the same things."""

    def __init__(self, model: HandModel, rng: np.random.Generator) -> None:
        self._model, self._rng = model, rng
        self._things: list[HeldThing] = []
        self._draws = 0

    def draw(self) -> tuple[HeldThing, Hold]:
        """A thing and one of its holds; now and then the oldest thing goes and a new one comes."""
        if self._draws >= DRAWS_A_THING:
            self._things = [*self._things, self.next()][-MOST_THINGS:]
            self._draws = 0
        self._draws += 1
        thing = self.any()
        return thing, thing.holds[self._rng.integers(len(thing.holds))]

    def any(self) -> HeldThing:
        """One of the things."""
        while len(self._things) < FIRST_THINGS:
            self._things.append(self.next())
        return self._things[self._rng.integers(len(self._things))]

    def next(self) -> HeldThing:
        """A thing that a hand can close on."""
        while True:
            item = random_thing(self._rng)
            shape = np.clip(self._rng.normal(0, 0.9, 10), -2.5, 2.5)
            side = str(self._rng.choice(["left", "right"]))
            sides = ("left", "right") if self._rng.random() < BOTH_SIDES_SHARE else (side,)
            holds = [hold for side in sides for hold in self._holds(item, shape, side)]
            if holds:
                corners = item.vertices[item.faces.reshape(-1)].astype(np.float64)
                normals = item.corner_normals.reshape(-1, 3)
                return HeldThing(item, corners, normals, SignedDistance(item), shape, tuple(holds))

    def _holds(self, item: SimObject, shape: np.ndarray, side: str) -> list[Hold]:
        rng, solver = self._rng, GraspSolver(self._model, shape, side, item)
        # Places of its own, as a handle, are taken as often as all others together.
        sites = sites_along(item, np.array([0.0, 0.0, 1.0]), low=True, high=True)
        own = item.grips[1:]
        sites = list(own) if own and rng.random() < 0.5 else sites
        chosen = rng.permutation(len(sites))[:SITES]
        turns = rng.uniform(0, 2 * np.pi) + np.arange(TURNS) * 2 * np.pi / TURNS
        tilt = float(rng.normal(0.1, 0.2))
        found = [hold for k in chosen for hold in holds_of(solver.solve(sites[k], tilt_rad=tilt, turns=turns), side)]
        return [hold for hold in found if hold.cost < WORST_COST_M]


def touch(thing: HeldThing, hold: Hold, vertices_wrist: np.ndarray) -> np.ndarray:
    """(V,) float32 0 to 1 how surely skin touches a held thing.

    Args:
        thing: what is held.
        hold: by which.
        vertices_wrist: (V, 3) skin, wrist frame, metres.
    """
    return touching_share(thing.distance_near(transform_points(hold.T_object_wrist, vertices_wrist), APART_M))


def touching_share(distance_m: np.ndarray) -> np.ndarray:
    """0 to 1 float32, how surely skin at such signed distances touches."""
    return np.clip((APART_M - distance_m) / (APART_M - TOUCHES_M), 0, 1).astype(np.float32)


def random_paint(rng: np.random.Generator, picture: np.ndarray) -> Paint:
    """A coat, or two or three that meet at planes across the thing: bodies, lids and grips of different colours."""
    coats = [_coat(rng, picture) for _ in range(1 + int(rng.random() < 0.45) + int(rng.random() < 0.2))]
    cuts = [(_direction(rng), rng.normal(0, 0.03)) for _ in coats[1:]]

    def lay_on(points: np.ndarray) -> np.ndarray:
        out = coats[0](points)
        for coat, (across, level) in zip(coats[1:], cuts):
            beyond = points @ across > level
            out[beyond] = coat(points[beyond])
        return out

    return lay_on


def _direction(rng: np.random.Generator) -> np.ndarray:
    """(3,) unit: mostly along the thing."""
    along = np.array([0.0, 0.0, 1.0]) if rng.random() < 0.6 else rng.standard_normal(3)
    return along / np.linalg.norm(along)


def _coat(rng: np.random.Generator, picture: np.ndarray) -> Paint:
    """One colour, a solid pattern, or a picture (S, S, 3) laid round the thing or across it."""
    seed, kind = int(rng.integers(1 << 30)), rng.random()
    if kind < 0.3:
        color = _plain(rng)
        return lambda points: np.tile(color, (len(points), 1))
    if kind < 0.7:
        return lambda points: _pattern(points, seed)
    turn, per_m = so3_exp(rng.normal(0, 1.0, 3)), rng.uniform(800, 3000)
    round_it = rng.random() < 0.5

    def print_on(points: np.ndarray) -> np.ndarray:
        local = points if round_it else points @ turn.T
        across = 0.035 * np.arctan2(local[:, 1], local[:, 0]) if round_it else local[:, 0]
        along = local[:, 2] if round_it else local[:, 1]
        column, row = (np.floor(x * per_m).astype(int) % len(picture) for x in (across, along))
        return picture[row, column].astype(np.float64)

    return print_on


def _pattern(points: np.ndarray, seed: int) -> np.ndarray:
    if not len(points):
        return np.zeros((0, 3))
    return solid_texture(points, np.random.default_rng(seed)).astype(np.float64)


def _plain(rng: np.random.Generator) -> np.ndarray:
    """Any colour, a grey, or one that skin has too."""
    kind = rng.random()
    if kind < 0.45:
        return rng.uniform(8, 247, 3)
    if kind < 0.8:
        return rng.uniform(8, 250) * rng.uniform(0.93, 1.05, 3)
    return SKIN_TONES[rng.integers(len(SKIN_TONES))] * rng.uniform(0.8, 1.15, 3)
