"""Grasps: hand and thing move as one, fingers touch without sinking in, the table is solid, all sides are shown."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from hoi_ros.datatypes import LABEL_OBJECT
from hoi_ros.geometry import invert_transform, project, rotation_angle, transform_points
from hoi_ros.simulation import Simulator, SimulatorConfig
from hoi_ros.simulation.grasp import HandParts, SignedDistance
from hoi_ros.simulation.surface import face_areas_normals


@cache
def simulator() -> Simulator:
    return Simulator("grasp:box", SimulatorConfig(seed=1, width=160, height=120))


def skin_of(sim: Simulator, hand) -> np.ndarray:
    pose = sim.model.pose(hand.joint_angles[None], sim.hand_shape[None], hand.side)
    return transform_points(hand.T_view_wrist, pose.vertices[0].astype(np.float64))


def holding_times(sim: Simulator, count: int) -> list[float]:
    return [t for t in np.linspace(0, sim.scene.period_s, count, endpoint=False) if sim.scene.held_by(t)]


def test_hand_and_thing_move_as_one_while_held():
    sim = simulator()
    times = holding_times(sim, 120)
    assert len(times) > 60
    lifted = 0
    for time in times:
        state = sim.scene.at(time)
        hands = {hand.side: hand for hand in state.hands}
        for hold in sim.scene.held_by(time):
            hand = hands[hold.side]
            relative = invert_transform(hand.T_view_wrist) @ state.T_view_object
            assert np.abs(relative - hold.T_wrist_object).max() < 1e-9
            assert np.abs(hand.joint_angles - hold.angles).max() < 1e-9
        heights = transform_points(sim._rest_camera @ state.T_view_object, sim.scene.item.vertices)[:, 2]
        lifted += heights.min() > 0.05
    assert lifted > 0.7 * len(times)
    assert {hold.side for t in times for hold in sim.scene.held_by(t)} == {"left", "right"}


def test_fingers_touch_and_do_not_sink_in():
    sim = simulator()
    distance, parts = SignedDistance(sim.scene.item), HandParts(sim.model, sim.hand_shape)
    for time in holding_times(sim, 24):
        state = sim.scene.at(time)
        for hand in state.hands:
            if hand.side not in {hold.side for hold in sim.scene.held_by(time)}:
                continue
            gaps = distance(transform_points(invert_transform(state.T_view_object), skin_of(sim, hand)))
            assert gaps.min() > -0.004
            tips = np.array([gaps[parts.mask(finger, 3)].min() for finger in range(5)])
            assert tips[0] < 0.003 and (tips < 0.003).sum() >= 3


def test_the_thing_rests_on_the_table_when_no_hand_holds_it_and_nothing_sinks_into_it():
    sim = simulator()
    times = np.linspace(0, sim.scene.period_s, 90, endpoint=False)
    for time in times:
        state = sim.scene.at(time)
        lowest = transform_points(sim._rest_camera @ state.T_view_object, sim.scene.item.vertices)[:, 2].min()
        if not sim.scene.held_by(time):
            assert abs(lowest) < 1e-6
        assert lowest > -1e-6
        for hand in state.hands:
            assert transform_points(sim._rest_camera, skin_of(sim, hand))[:, 2].min() > -0.003


def test_motion_is_smooth_at_human_speed_and_repeats():
    sim = simulator()
    times = np.arange(0, sim.scene.period_s, 1 / 30)
    states = [sim.scene.at(t) for t in (*times, sim.scene.period_s)]
    poses = np.stack([s.T_view_object for s in states])
    assert np.allclose(poses[0], poses[-1], atol=1e-9)
    turning = np.degrees(rotation_angle(np.swapaxes(poses[:-1, :3, :3], 1, 2) @ poses[1:, :3, :3])) * 30
    assert turning.max() < 110
    for number in range(2):
        wrists = np.stack([s.hands[number].T_view_wrist[:3, 3] for s in states])
        assert np.linalg.norm(np.diff(wrists, axis=0), axis=1).max() * 30 < 0.9


def test_at_least_four_fifths_of_the_surface_are_shown():
    sim = simulator()
    item = sim.scene.item
    areas, normals = face_areas_normals(item.vertices, item.faces)
    centers = item.vertices[item.faces].mean(1).astype(np.float64)
    seen = np.zeros(len(centers), bool)
    for index in range(0, sim.loop_frames, 30):
        frame = sim.frame(index)
        pose = frame.truth.T_camera_object["box"]
        points = transform_points(pose, centers)
        x, y = np.round(project(points, frame.intrinsics)).astype(int).T
        inside = (x >= 0) & (x < 160) & (y >= 0) & (y < 120)
        x, y = np.clip(x, 0, 159), np.clip(y, 0, 119)
        near = np.abs(frame.truth.depth_m[y, x] - points[:, 2]) < 0.006
        facing = np.einsum("ij,ij->i", normals @ pose[:3, :3].T, points) < 0
        seen |= inside & near & facing & (frame.truth.labels[y, x] == LABEL_OBJECT)
    assert areas[seen].sum() / areas.sum() > 0.8


@pytest.mark.parametrize("number", [0, 1])
def test_an_open_hand_does_not_pass_for_a_hold(number):
    hold = (simulator().scene.plan.first, simulator().scene.plan.third)[number]
    sim = simulator()
    pose = sim.model.pose(hold.open_angles[None], sim.hand_shape[None], hold.side)
    gaps = SignedDistance(sim.scene.item)(transform_points(hold.T_object_wrist, pose.vertices[0].astype(np.float64)))
    parts = HandParts(sim.model, sim.hand_shape)
    assert sum(gaps[parts.mask(finger, 3)].min() < 0.003 for finger in range(5)) < 3
