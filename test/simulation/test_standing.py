"""Things that stand on the table: in picture and truth, upright, out of everybody's way, hiding and hidden."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from hoi_ros.datatypes import LABEL_STANDING
from hoi_ros.errors import InputError
from hoi_ros.geometry import invert_transform, pointmap_from_depth, transform_points
from hoi_ros.simulation import Simulator, SimulatorConfig
from hoi_ros.simulation.grasp import SignedDistance
from hoi_ros.simulation.objects import load_object

NAMES = ("can", "box", "can_2")


@cache
def simulator(scene: str = "rotate:bottle", **settings: object) -> Simulator:
    values = {"seed": 3, "width": 320, "height": 240, "standing": "can,box,can", **settings}
    return Simulator(scene, SimulatorConfig(**values))  # type: ignore[arg-type]


def test_they_stand_upright_on_the_table_and_their_pixels_lie_on_them():
    frame = simulator().frame(0)
    truth = frame.truth
    assert tuple(truth.T_camera_object) == ("bottle", *NAMES) == tuple(simulator().object_meshes())
    points = pointmap_from_depth(truth.depth_m, frame.intrinsics)
    for k, name in enumerate(NAMES):
        item = load_object(name.split("_")[0])
        pose = truth.T_camera_object[name]
        world = transform_points(truth.T_world_camera @ pose, item.vertices.astype(np.float64))
        assert abs(world[:, 2].min()) < 1e-6
        assert (truth.T_world_camera @ pose)[2, 2] == pytest.approx(1)
        mine = points[truth.labels == LABEL_STANDING + k].astype(np.float64)
        assert len(mine) > 100
        assert np.abs(SignedDistance(item)(transform_points(invert_transform(pose), mine))).max() < 1e-3
        assert 0 < truth.object_visible[name] <= 1


@pytest.mark.parametrize("scene", ["rotate:bottle", "handover:box", "bare"])
def test_nothing_passes_through_them(scene):
    sim = simulator(scene)
    first = len(sim.object_names) - 3
    for time in np.linspace(0, sim.scene.period_s, 30, endpoint=False):
        for hand in sim.scene.at(time).hands:
            pose = sim.model.pose(hand.joint_angles[None], sim.hand_shape[None], hand.side)
            world = transform_points(sim._rest_camera @ hand.T_view_wrist, pose.vertices[0].astype(np.float64))
            for item, T_world_object in zip(sim._items[first:], sim._T_world_standing):
                assert SignedDistance(item)(transform_points(invert_transform(T_world_object), world)).min() > 0


def test_hands_hide_some_of_them_and_a_moving_camera_leaves_them_standing():
    sim = simulator(moving_camera=True)
    frames = [sim.frame(index) for index in range(0, sim.loop_frames, 40)]
    hidden = [1 - frame.truth.object_visible[name] for frame in frames for name in NAMES]
    assert max(hidden) > 0.1
    worlds = np.stack([f.truth.T_world_camera @ f.truth.T_camera_object["box"] for f in frames])
    assert np.abs(worlds - worlds[0]).max() < 1e-9


def test_a_number_picks_other_things_than_the_held_one():
    sim = Simulator("rotate:mug", SimulatorConfig(seed=4, width=64, height=48, standing="3"))
    assert len(sim.object_names) == 4 and len(set(sim.object_names)) == 4


@pytest.mark.parametrize(
    ("text", "words"), [("muug", "mug"), ("12", "at most"), ("can,can,can,can,can,can,can", "fit")]
)
def test_unusable_lists_are_refused(text, words):
    with pytest.raises(InputError, match=words):
        Simulator("empty", SimulatorConfig(width=64, height=48, standing=text))
