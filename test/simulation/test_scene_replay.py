"""Captured grasps come back as captured: pose of the thing, joints of the hand, the table under both."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import trimesh

from hoi_ros.errors import InputError
from hoi_ros.geometry import (
    invert_transform,
    make_transform,
    project,
    quaternion_from_matrix,
    so3_exp,
    transform_points,
)
from hoi_ros.hand_model import HandModel
from hoi_ros.simulation import Simulator, SimulatorConfig
from hoi_ros.simulation.grasp import HandParts, SignedDistance
from hoi_ros.simulation.joint_fit import fit_hand
from hoi_ros.simulation.objects import load_object

KEY = "20300101-subject-07__film_1"
TILTED = make_transform(so3_exp(np.array([0.9, -0.2, 0.3])), np.array([0.1, -0.05, 0.9]))
FRAMES = 40


def captured_motion() -> tuple[np.ndarray, np.ndarray]:
    """Left hand joints (T, 21, 3) and object poses (T, 4, 4) in some camera's frame: reach, take, lift, turn."""
    sim = Simulator("grasp:box", SimulatorConfig(seed=1, width=64, height=48))
    stay = next(stay for stay in sim.scene.stays if stay.hold.side == "left")
    joints, poses = [], []
    for time in np.linspace(stay.start + 0.3, stay.closed + 2.6, FRAMES):
        state = sim.scene.at(time)
        hand = next(hand for hand in state.hands if hand.side == "left")
        # Fingers a little too open, as joints captured for another hand model are.
        angles = stay.hold.open_angles + 0.85 * (hand.joint_angles - stay.hold.open_angles)
        pose = sim.model.pose(angles[None], np.array([[0.5, -0.5, *np.zeros(8)]]), "left")
        joints.append(transform_points(TILTED @ hand.T_view_wrist, pose.joints[0]))
        poses.append(TILTED @ state.T_view_object)
    return np.array(joints), np.array(poses)


@pytest.fixture(scope="module")
def motion() -> tuple[np.ndarray, np.ndarray]:
    return captured_motion()


@pytest.fixture(scope="module")
def grasps(motion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("captured")
    (root / "grasps").mkdir()
    (root / "objects_ycb").mkdir()
    joints, poses = motion
    arrays = {
        f"{KEY}/joints21": joints.astype(np.float32),
        f"{KEY}/obj_quat_xyzw": quaternion_from_matrix(poses[:, :3, :3]).astype(np.float32),
        f"{KEY}/obj_trans": poses[:, :3, 3].astype(np.float32),
    }
    np.savez(root / "grasps" / "left.npz", **arrays)
    with (root / "grasps" / "index.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("sequence", "object"), (KEY.replace("__", "/"), "901_box")])
    item = load_object("box")
    trimesh.Trimesh(item.vertices, item.faces).export(root / "objects_ycb" / "box.ply")
    return root / "grasps" / "left.npz"


@cache
def replay(grasps: Path, **settings: object) -> Simulator:
    return Simulator(f"replay:{grasps}", SimulatorConfig(**{"width": 160, "height": 120, **settings}))  # type: ignore[arg-type]


def test_the_thing_moves_as_captured_and_stands_on_the_table(grasps, motion):
    sim = replay(grasps)
    poses = np.stack([sim.scene.at(k / 30).T_view_object for k in range(FRAMES)])
    captured = motion[1]
    np.testing.assert_allclose(np.linalg.inv(poses[0]) @ poses, np.linalg.inv(captured[0]) @ captured, atol=1e-5)
    heights = [transform_points(sim._rest_camera @ pose, sim.scene.item.vertices)[:, 2].min() for pose in poses]
    assert abs(heights[0]) < 1e-4
    assert heights[-1] > 0.04
    assert sim.once_frames == FRAMES - 1 and sim.loop_frames == 2 * (FRAMES - 1)


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_hand_follows_the_joints_and_touches(grasps, motion, side):
    sim = replay(grasps, replay_side=side)
    assert sim.scene.sides == (side,)
    distance, parts = SignedDistance(sim.scene.item), HandParts(sim.model, sim.hand_shape)
    joints, poses = motion
    mirror = np.array([-1.0 if side == "right" else 1.0, 1, 1])
    for k in (2, FRAMES - 3):
        state = sim.scene.at(k / 30)
        pose = sim.model.pose(state.hands[0].joint_angles[None], sim.hand_shape[None], side)
        to_object = invert_transform(state.T_view_object) @ state.hands[0].T_view_wrist
        wanted = transform_points(invert_transform(poses[k]), joints[k]) * mirror
        off = np.linalg.norm(transform_points(to_object, pose.joints[0]) - wanted, axis=1)
        assert off.mean() < 0.009
        gaps = distance(transform_points(to_object, pose.vertices[0].astype(np.float64)))
        assert gaps.min() > -0.005
        if k > 5:
            tips = np.array([gaps[parts.mask(finger, 3)].min() for finger in range(5)])
            assert (tips < 0.003).sum() >= 3


def test_the_free_hand_is_recovered_from_its_own_joints():
    model = HandModel.load()
    rng = np.random.default_rng(4)
    angles = np.clip(rng.normal(0.3, 0.15, (6, len(model.joint_angle_names))), *model.joint_limits.T)
    shape = np.array([1.0, -0.6, *np.zeros(8)])
    pose = model.pose(angles, np.repeat(shape[None], 6, 0), "right")
    T = make_transform(so3_exp(np.array([0.4, -1.0, 2.0])), np.array([0.1, 0.2, 0.7]))
    fit = fit_hand(model, transform_points(T, pose.joints))
    assert fit.residual_m.max() < 0.002
    skin = model.pose(fit.joint_angles, np.repeat(fit.shape[None], 6, 0), "right").vertices
    off = np.linalg.norm(transform_points(fit.T_view_wrist, skin) - transform_points(T, pose.vertices), axis=-1)
    assert off.mean() < 0.004
    with pytest.raises(ValueError, match="finite"):
        fit_hand(model, np.full((2, 21, 3), np.nan))


def test_frames_without_a_hand_are_bridged(grasps, motion, tmp_path):
    with np.load(grasps) as archive:
        arrays = dict(archive)
    arrays[f"{KEY}/joints21"][[0, 17]] = 0
    (tmp_path / "grasps").mkdir()
    np.savez(tmp_path / "grasps" / "left.npz", **arrays)
    (tmp_path / "grasps" / "index.csv").write_text((grasps.parent / "index.csv").read_text())
    sim = replay(tmp_path / "grasps" / "left.npz", object=str(grasps.parent.parent / "objects_ycb" / "box.ply"))
    wrists = np.stack([sim.scene.at(k / 30).hands[0].T_view_wrist[:3, 3] for k in range(FRAMES)])
    assert np.linalg.norm(np.diff(wrists, axis=0), axis=1).max() < 0.09


def test_pictures_and_truth_of_a_replay(grasps):
    frame = replay(grasps).frame(FRAMES - 2)
    (hand,) = frame.truth.hands
    assert hand.handedness == "left" and hand.visible_fraction > 0.3
    assert frame.truth.object_visible["box"] > 0.2
    assert (frame.truth.labels == 1).sum() > 100


def handless(path: Path) -> Path:
    with np.load(path) as archive:
        np.savez(path.parent / "handless.npz", **{**archive, f"{KEY}/joints21": np.zeros((FRAMES, 21, 3))})
    return path.parent / "handless.npz"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: f"replay:{path.parent / 'none.npz'}", "no such file"),
        (lambda path: f"replay:{path}#7", "#0 to #0"),
        (lambda path: f"replay:{path}#other", "no sequence"),
        (lambda path: "replay", "FILE.npz"),
        (lambda path: f"replay:{path.parent / 'index.csv'}", "cannot be read"),
        (lambda path: f"replay:{handless(path)}", "no hand"),
    ],
)
def test_unusable_grasps_are_refused(grasps, change, words):
    with pytest.raises(InputError, match=words):
        Simulator(change(grasps), SimulatorConfig(width=64, height=48))


def test_a_missing_mesh_says_where_it_was_sought(grasps, tmp_path):
    with pytest.raises(InputError, match="with --objects"):
        replay(grasps, object=str(tmp_path))


def test_the_camera_sees_the_whole_motion(grasps):
    sim = replay(grasps)
    for k in range(0, FRAMES, 4):
        pose = sim.scene.at(k / 30).T_view_object
        pixels = project(transform_points(pose, sim.scene.item.vertices.astype(np.float64)), sim.intrinsics)
        assert ((pixels > 0) & (pixels < (160, 120))).all()


def test_a_motion_that_leaves_the_usual_view_moves_the_camera(grasps, motion, tmp_path):
    with np.load(grasps) as archive:
        arrays = dict(archive)
    lift = motion[1][-1][:3, 3] - motion[1][0][:3, 3]
    shift = np.linspace(0, 0.45, FRAMES)[:, None] * lift / np.linalg.norm(lift)
    arrays[f"{KEY}/joints21"] += shift[:, None].astype(np.float32)
    arrays[f"{KEY}/obj_trans"] += shift.astype(np.float32)
    (tmp_path / "grasps").mkdir()
    np.savez(tmp_path / "grasps" / "left.npz", **arrays)
    (tmp_path / "grasps" / "index.csv").write_text((grasps.parent / "index.csv").read_text())
    (tmp_path / "objects_ycb").symlink_to(grasps.parent.parent / "objects_ycb")
    sim = replay(tmp_path / "grasps" / "left.npz")
    for k in (0, FRAMES - 1):
        pose = sim.scene.at(k / 30).T_view_object
        pixels = project(transform_points(pose, sim.scene.item.vertices.astype(np.float64)), sim.intrinsics)
        assert ((pixels > 0) & (pixels < (160, 120))).all()
