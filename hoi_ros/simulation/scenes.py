"""The scenes by name."""

from __future__ import annotations

import numpy as np

from hoi_ros.errors import InputError, unknown_name
from hoi_ros.hand_model import HandModel
from hoi_ros.simulation.objects import load_object
from hoi_ros.simulation.scene import Scene
from hoi_ros.simulation.scene_bare import BareScene
from hoi_ros.simulation.scene_grasp import GraspScene
from hoi_ros.simulation.scene_handover import HandoverScene
from hoi_ros.simulation.scene_replay import ReplayScene
from hoi_ros.simulation.scene_rotate import RotateScene
from hoi_ros.simulation.simulator_config import SimulatorConfig

SCENES = ("rotate", "handover", "grasp", "replay", "bare", "empty")
DEFAULT_OBJECTS = {"rotate": "bottle", "handover": "bottle", "grasp": "bottle"}


def parse_scene(text: str, object_name: str) -> tuple[str, str]:
    """Split `rotate`, `rotate:mug` or `rotate:PATH` into scene and object; the text's object wins.

    Raises:
        InputError: unknown scene, or an object for a scene that holds none.
    """
    scene, _, item = text.partition(":")
    if scene not in SCENES:
        raise unknown_name("scene", scene, SCENES)
    if scene == "replay":
        if not item:
            raise InputError("scene 'replay' lacks its grasps: write replay:FILE.npz or replay:FILE.npz#NUMBER")
        return scene, item
    item = item or object_name
    if scene not in DEFAULT_OBJECTS:
        if item:
            raise InputError(f"scene '{scene}' holds no object: leave out '{item}', or take rotate, handover or grasp")
        return scene, ""
    return scene, item or DEFAULT_OBJECTS[scene]


def make_scene(
    name: str, item: str, model: HandModel, shape: np.ndarray, config: SimulatorConfig, T_world_view: np.ndarray
) -> Scene:
    """Build a scene by name.

    Args:
        name: one of SCENES.
        item: as `parse_scene` gave it.
        model: hand model.
        shape: (10,) of both hands; a replayed hand brings its own.
        config: seed and choices.
        T_world_view: (4, 4) of the resting camera; the world's z is up, its table at 0.
    """
    seed = config.seed
    if name == "replay":
        return ReplayScene(item, config.object, config.replay_side, model, seed, T_world_view)
    if name == "grasp":
        return GraspScene(load_object(item), model, shape, seed, T_world_view)
    if name == "rotate":
        return RotateScene(load_object(item), model, shape, seed)
    if name == "handover":
        return HandoverScene(load_object(item), model, shape, seed)
    return BareScene(model, seed) if name == "bare" else Scene()
