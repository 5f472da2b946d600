"""The simulator's pictures agree with its truth, and repeat."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from hoi_ros.datatypes import LABEL_LEFT_HAND, LABEL_OBJECT, LABEL_RIGHT_HAND
from hoi_ros.errors import InputError
from hoi_ros.geometry import invert_transform, pointmap_from_depth, project, rotation_angle, transform_points
from hoi_ros.simulation import Simulator, SimulatorConfig
from hoi_ros.simulation.grasp import SignedDistance
from hoi_ros.simulation.raycast import TriangleScene

LABEL_OF = {"left": LABEL_LEFT_HAND, "right": LABEL_RIGHT_HAND}


@cache
def simulator(scene: str, **settings: object) -> Simulator:
    return Simulator(scene, SimulatorConfig(**{"seed": 3, "width": 320, "height": 240, **settings}))  # type: ignore[arg-type]


def points_of(frame, label: int) -> np.ndarray:
    pointmap = pointmap_from_depth(frame.truth.depth_m, frame.intrinsics)
    return pointmap[frame.truth.labels == label].astype(np.float64)


def test_same_seed_gives_the_same_picture_in_any_order():
    first = simulator("rotate:box")
    again = Simulator("rotate:box", first.config)
    for index in (40, 7):
        a, b = first.frame(index), again.frame(index)
        assert np.array_equal(a.color, b.color)
        assert np.array_equal(a.depth_m, b.depth_m)
    a, b = again.frame(7), again.frame(40)
    assert np.array_equal(a.color, first.frame(7).color)
    assert not np.array_equal(a.color, b.color)
    other = Simulator("empty", SimulatorConfig(seed=8, width=320, height=240))
    assert not np.array_equal(other.frame(0).color, simulator("empty").frame(0).color)


def test_stamps_and_intrinsics_are_exact():
    frame = simulator("empty").frame(45)
    assert frame.stamp_ns == 1_500_000_000
    assert frame.index == 45
    assert (frame.intrinsics.fx, frame.intrinsics.cx, frame.intrinsics.cy) == (305.0, 159.5, 119.5)


@pytest.mark.parametrize("scene", ["rotate:box", "rotate:mug", "handover:box"])
@pytest.mark.parametrize("index", [0, 100, 333])
def test_exact_depth_lies_on_the_true_object(scene, index):
    sim = simulator(scene)
    frame = sim.frame(index)
    points = points_of(frame, LABEL_OBJECT)
    assert len(points) > 300
    (pose,) = frame.truth.T_camera_object.values()
    local = transform_points(invert_transform(pose), points)
    assert np.abs(SignedDistance(sim.scene.item)(local)).max() < 0.001


@pytest.mark.parametrize("scene", ["rotate:box", "handover:box", "bare"])
def test_exact_depth_lies_on_the_true_hands(scene):
    import open3d as o3d

    sim = simulator(scene)
    for index in (10, 170):
        frame = sim.frame(index)
        for hand in frame.truth.hands:
            surface = o3d.t.geometry.RaycastingScene()
            surface.add_triangles(
                hand.vertices_camera.astype(np.float32), sim.model.faces(hand.handedness).astype(np.uint32)
            )
            points = points_of(frame, LABEL_OF[hand.handedness])
            assert len(points) > 100
            assert surface.compute_distance(points.astype(np.float32)).numpy().max() < 0.001


def test_object_mesh_is_the_surface_that_is_seen():
    sim = simulator("rotate:mug")
    ((name, mesh),) = sim.object_meshes().items()
    assert name == "mug"
    assert mesh.colors is not None and len(mesh.colors) == len(mesh.vertices)
    assert np.abs(SignedDistance(sim.scene.item)(mesh.vertices.astype(np.float64))).max() < 1e-4
    frame = sim.frame(60)
    pixels = project(transform_points(frame.truth.T_camera_object["mug"], mesh.vertices), frame.intrinsics)
    y, x = np.nonzero(frame.truth.labels == LABEL_OBJECT)
    assert pixels[:, 0].min() - 1 <= x.min() and x.max() <= pixels[:, 0].max() + 1
    assert pixels[:, 1].min() - 1 <= y.min() and y.max() <= pixels[:, 1].max() + 1


@pytest.mark.parametrize("index", [20, 200])
def test_labels_and_joints_lie_on_the_hands(index):
    frame = simulator("bare").frame(index)
    assert frame.truth.hands
    for hand in frame.truth.hands:
        mine = frame.truth.labels == LABEL_OF[hand.handedness]
        pixels = project(hand.vertices_camera, frame.intrinsics).round().astype(int)
        inside = mine[np.clip(pixels[:, 1], 0, 239), np.clip(pixels[:, 0], 0, 319)]
        assert inside.mean() > 0.85
        joints = project(hand.joints_camera, frame.intrinsics).round().astype(int)
        grown = np.pad(mine, 2)
        near = [grown[y : y + 5, x : x + 5].any() for x, y in joints]
        assert np.mean(near) > 0.95
        assert 0.5 < hand.visible_fraction <= 1.0


def test_camera_rays_of_the_table_meet_it():
    frame = simulator("empty").frame(0)
    assert frame.truth.hands == () and frame.truth.T_camera_object == {}
    assert not frame.truth.labels.any()
    world = transform_points(frame.truth.T_world_camera, pointmap_from_depth(frame.truth.depth_m, frame.intrinsics)[-1])
    assert np.abs(world[:, 2]).max() < 1e-4


def test_object_turns_all_the_way_round_and_hand_and_object_keep_to_human_speed():
    sim = simulator("rotate:box")
    times = np.arange(0, sim.scene.period_s, 1 / 30)
    states = [sim.scene.at(t) for t in times]
    views = np.stack([s.T_view_object[:3, :3] for s in states])
    hands = np.stack([s.hands[0].T_view_wrist for s in states])
    relative = np.linalg.inv(hands[:, :3, :3]) @ views
    axis = sim.scene.item.grips[0].axis
    other = np.array([1.0, 0, 0])
    swept = relative[0].T @ relative @ other
    angle = np.degrees(np.unwrap(np.arctan2(swept @ np.cross(axis, other), swept @ other)))
    assert np.ptp(angle) > 300
    speed = np.linalg.norm(np.diff(hands[:, :3, 3], axis=0), axis=1) * 30
    assert speed.max() < 0.5
    turning = np.degrees(rotation_angle(np.swapaxes(views[:-1], 1, 2) @ views[1:])) * 30
    assert turning.max() < 120
    swing = np.degrees(rotation_angle(hands[0, :3, :3].T @ hands[:, :3, :3]))
    assert swing.max() < 160


@pytest.mark.parametrize("scene", ["rotate:box", "handover:box", "bare"])
def test_the_course_repeats_without_a_jump(scene):
    sim = simulator(scene)
    last, first, after = (sim.scene.at(sim.scene.period_s + t / 30) for t in (-1, 0, 1))
    start = sim.scene.at(0.0)
    for a, b in zip(first.hands, start.hands):
        assert np.allclose(a.T_view_wrist, b.T_view_wrist, atol=1e-9)
        assert np.allclose(a.joint_angles, b.joint_angles, atol=1e-9)
    for a, b, c in zip(last.hands, first.hands, after.hands):
        for u, v in ((a, b), (b, c)):
            assert np.linalg.norm(u.T_view_wrist[:3, 3] - v.T_view_wrist[:3, 3]) < 0.5 / 30
            assert np.abs(u.joint_angles - v.joint_angles).max() < 0.2
    quiet = Simulator("empty", SimulatorConfig(seed=3, width=320, height=240, sensor_noise=0.0))
    assert np.array_equal(quiet.frame(0).color, quiet.frame(quiet.loop_frames).color)


def test_handover_passes_from_hand_to_hand():
    sim = simulator("handover:box")
    assert set(sim.scene.sides) == {"left", "right"}
    distance = SignedDistance(sim.scene.item)

    def touching(time: float) -> dict[str, bool]:
        state = sim.scene.at(time)
        out = {}
        for hand in state.hands:
            pose = sim.model.pose(hand.joint_angles[None], sim.hand_shape[None], hand.side)
            local = transform_points(invert_transform(state.T_view_object) @ hand.T_view_wrist, pose.vertices[0])
            out[hand.side] = bool(distance(local).min() < 0.003)
        return out

    giver, taker = sim.scene.sides
    assert touching(1.0) == {giver: True, taker: False}
    assert touching(4.8) == {giver: True, taker: True}
    assert touching(7.0) == {giver: False, taker: True}
    for index in range(0, sim.loop_frames, 70):
        assert {h.handedness for h in sim.frame(index).truth.hands} == {"left", "right"}


def test_moving_camera_moves_and_truth_follows():
    sim = simulator("rotate:box", moving_camera=True)
    frames = [sim.frame(i) for i in (0, 120)]
    poses = [f.truth.T_world_camera for f in frames]
    assert np.linalg.norm(poses[0][:3, 3] - poses[1][:3, 3]) > 0.02
    for frame in frames:
        table = pointmap_from_depth(frame.truth.depth_m, frame.intrinsics)[-1, :20]
        assert np.abs(transform_points(frame.truth.T_world_camera, table)[:, 2]).max() < 1e-3


def test_options_change_the_picture():
    plain = simulator("bare").frame(30)
    blurred = simulator("bare", motion_blur=True).frame(30)
    lit = simulator("bare", light_changes=True).frame(90)
    assert not np.array_equal(plain.color, blurred.color)
    assert abs(lit.color.mean() / simulator("bare").frame(90).color.mean() - 1) > 0.02
    exact = simulator("bare", depth_noise=False).frame(30)
    assert np.array_equal(exact.depth_m, exact.truth.depth_m)


@pytest.mark.parametrize(
    ("scene", "hint"),
    [
        ("rotat", "rotate"),
        ("rotate:mugg", "mug"),
        ("bare:mug", "leave out"),
        ("rotate:/none/thing.glb", "no such file"),
    ],
)
def test_unknown_names_are_refused_with_a_hint(scene, hint):
    with pytest.raises(InputError, match=hint):
        Simulator(scene)


@pytest.mark.parametrize("item", ["box", "can"])
def test_hands_that_pass_a_thing_leave_each_other_room(item):
    sim = simulator(f"handover:{item}")
    for time in np.linspace(0, sim.scene.period_s, 15, endpoint=False):
        skins = []
        for hand in sim.scene.at(time).hands:
            pose = sim.model.pose(hand.joint_angles[None], sim.hand_shape[None], hand.side)
            skins.append(transform_points(hand.T_view_wrist, pose.vertices[0].astype(float)))
        first = sim.scene.at(time).hands[0].side
        assert TriangleScene(skins[0], sim.model.faces(first)).signed_distance(skins[1]).min() > -0.005
