"""Things that stand on the table beside what is held: they hide and are hidden, and nothing passes through them."""

from __future__ import annotations

import numpy as np

from hoi_ros.datatypes import CameraIntrinsics
from hoi_ros.errors import InputError
from hoi_ros.geometry import invert_transform, make_transform, project, so3_exp, transform_points
from hoi_ros.hand_model import HandModel
from hoi_ros.simulation.objects import load_object, object_names
from hoi_ros.simulation.scene import Scene
from hoi_ros.simulation.surface import SimObject

_TRIES = 400
_ROOM_M = 0.012
_ARM_RADIUS_M = 0.05


def parse_standing(text: str, held: SimObject | None, seed: int) -> list[SimObject]:
    """Load 'mug,can' or pick at random for a number, such as '2'; never the same thing as is held, if picked.

    Raises:
        InputError: unknown name, unreadable file, or more things than a table has room for.
    """
    words = [word for word in text.replace(" ", "").split(",") if word]
    if len(words) == 1 and words[0].isdecimal():
        rng = np.random.default_rng([seed, 905])
        others = [name for name in object_names() if held is None or name != held.name]
        count = int(words[0])
        if count > len(others):
            raise InputError(f"standing '{text}': at most {len(others)} things; name them to have one twice")
        words = [str(name) for name in rng.permutation(others)[:count]]
    if len(words) > 6:
        raise InputError(f"standing '{text}': at most 6 things fit on the table")
    try:
        return [load_object(word) for word in words]
    except InputError as error:
        raise InputError(f"standing: {error}") from error


def place_standing(
    items: list[SimObject], scene: Scene, model: HandModel, shape: np.ndarray, T_world_view: np.ndarray,
    intrinsics: CameraIntrinsics, seed: int,
) -> list[np.ndarray]:  # fmt: skip
    """(4, 4) T_world_object for every thing: upright, inside the picture, out of the way of hands, arms and each other.

    Places near the hands in the picture are preferred, since there things hide each other.

    Raises:
        InputError: no room.
    """
    rng = np.random.default_rng([seed, 906])
    taken = _swept_points(scene, model, shape, T_world_view)
    busy_px = project(transform_points(invert_transform(T_world_view), taken[::7]), intrinsics) if len(taken) else None
    poses: list[np.ndarray] = []
    for item in items:
        found = _find_place(item, taken, busy_px, T_world_view, intrinsics, rng)
        if found is None:
            raise InputError(f"standing: no room on the table for '{item.name}' in this scene; leave it out")
        poses.append(found)
        taken = np.concatenate([taken, transform_points(found, item.vertices.astype(np.float64))])
    return poses


def _find_place(
    item: SimObject, taken: np.ndarray, busy_px: np.ndarray | None, T_world_view: np.ndarray,
    intrinsics: CameraIntrinsics, rng: np.random.Generator,
) -> np.ndarray | None:  # fmt: skip
    low, high = item.vertices.min(0).astype(np.float64), item.vertices.max(0).astype(np.float64)
    middle = (low + high) / 2
    radius = float(np.linalg.norm((item.vertices - middle)[:, :2], axis=1).max())
    near = taken[taken[:, 2] < high[2] - low[2] + _ROOM_M]
    places = rng.uniform([-0.34, -0.1], [0.34, 0.42], (_TRIES, 2))
    turns = rng.uniform(-np.pi, np.pi, _TRIES)
    best, least = None, np.inf
    for place, turn in zip(places, turns):
        if len(near) and np.min(np.linalg.norm(near[:, :2] - place, axis=1)) < radius + _ROOM_M:
            continue
        rotation = so3_exp(np.array([0, 0, turn]))
        pose = make_transform(rotation, np.array([*place, 0.0]) - rotation @ np.array([middle[0], middle[1], low[2]]))
        corners = np.array([place - radius, place + radius])
        box = np.array([[x, y, z] for x in corners[:, 0] for y in corners[:, 1] for z in (0, high[2] - low[2])])
        pixels = project(transform_points(invert_transform(T_world_view), box), intrinsics)
        size = np.array([intrinsics.width, intrinsics.height])
        if not ((pixels > 0.01 * size) & (pixels < 0.99 * size)).all():
            continue
        away = np.inf if busy_px is None else float(np.linalg.norm(busy_px - pixels.mean(0), axis=1).min())
        # Partly behind or before the hands, not wholly.
        cost = abs(min(away / intrinsics.width, 1.0) - 0.05) + rng.uniform(0, 0.1)
        if cost < least:
            best, least = pose, cost
    return best


def _swept_points(scene: Scene, model: HandModel, shape: np.ndarray, T_world_view: np.ndarray) -> np.ndarray:
    """(N, 3) points in the world where hands, forearms and the held thing are at some time."""
    points = [np.zeros((0, 3))]
    for time in np.linspace(0, scene.period_s, 40, endpoint=False):
        state = scene.at(time)
        for hand in state.hands:
            skin = model.pose(hand.joint_angles[None], shape[None], hand.side).vertices[0, ::6].astype(np.float64)
            points.append(transform_points(hand.T_view_wrist, skin))
            arm = hand.elbow_view + np.linspace(0, 1.3, 10)[:, None] * (hand.T_view_wrist[:3, 3] - hand.elbow_view)
            points += [arm + offset for offset in _ARM_RADIUS_M * np.concatenate([np.eye(3), -np.eye(3)])]
        if scene.item is not None and state.T_view_object is not None:
            points.append(transform_points(state.T_view_object, scene.item.vertices[::5].astype(np.float64)))
    return transform_points(T_world_view, np.concatenate(points))


def unique_names(items: list[SimObject]) -> list[str]:
    """A name for each thing; the second of a kind gets '_2'."""
    names: list[str] = []
    for item in items:
        count = sum(name == item.name or name.startswith(f"{item.name}_") for name in names)
        names.append(f"{item.name}_{count + 1}" if count else item.name)
    return names
