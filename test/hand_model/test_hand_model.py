"""The free hand: topology, kinematics against a plain loop, mirror law, limits, refusals."""

import numpy as np
import pytest

from hoi_ros.datatypes import JOINT_NAMES
from hoi_ros.errors import InputError
from hoi_ros.geometry import so3_exp
from hoi_ros.hand_model import HandModel
from hoi_ros.hand_model.anatomy import BONE_PARENTS, HINGE_BONES, KEYPOINT_BONES
from hoi_ros.hand_model.kinematics import forward_kinematics, keypoint_jacobian


@pytest.fixture(scope="module")
def model() -> HandModel:
    return HandModel.load()


def random_hands(model: HandModel, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    low, high = model.joint_limits.T
    return rng.uniform(low, high, (count, len(low))), rng.normal(size=(count, 10))


def loop_kinematics(model: HandModel, angles: np.ndarray, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One hand, bone by bone with 4x4 matrices: keypoints and skin."""
    skeleton = model.skeleton
    rest = skeleton.keypoints + np.einsum("k,kjc->jc", shape, skeleton.keypoint_directions)
    origin = [
        rest[[0, *range(1, 4), *range(5, 8), *range(9, 12), *range(13, 16), *range(17, 20)][b]] for b in range(16)
    ]
    world = [np.eye(4)]
    for bone in range(1, 16):
        local = np.eye(4)
        local[:3, 3] = origin[bone] - origin[BONE_PARENTS[bone]]
        for hinge in np.flatnonzero(bone == HINGE_BONES):
            turn = angles[hinge] - skeleton.hinges.rest_angles[hinge]
            local[:3, :3] = local[:3, :3] @ so3_exp(skeleton.hinges.axes[hinge] * turn)
        world.append(world[BONE_PARENTS[bone]] @ local)
    keypoints = [world[b][:3, :3] @ (rest[k] - origin[b]) + world[b][:3, 3] for k, b in enumerate(KEYPOINT_BONES)]
    template = model.template + np.einsum("k,kvc->vc", shape, model.shape_directions)
    skin = np.zeros_like(template)
    for bone in range(16):
        moved = (template - origin[bone]) @ world[bone][:3, :3].T + world[bone][:3, 3]
        skin += model.weights[:, bone, None] * moved
    return np.array(keypoints), skin


def test_mesh_is_closed_and_faces_outwards(model):
    faces = model.faces("right")
    assert model.vertex_count == 778 and faces.shape == (1552, 3) and faces.dtype == np.int32
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    assert len({tuple(e) for e in edges}) == len(edges)  # every directed edge once ...
    assert {tuple(e) for e in edges} == {tuple(e[::-1]) for e in edges}  # ... and its opposite
    corners = model.template[faces]
    volume = np.einsum("fc,fc->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert 150e-6 < volume < 500e-6


def test_pose_agrees_with_a_plain_loop(model):
    angles, shape = random_hands(model, 3)
    pose = model.pose(angles, shape, "right")
    for i in range(3):
        keypoints, skin = loop_kinematics(model, angles[i], shape[i])
        np.testing.assert_allclose(pose.joints[i], keypoints, atol=1e-9)
        np.testing.assert_allclose(pose.vertices[i], skin, atol=1e-6)


def test_jacobian_agrees_with_differences(model):
    angles, shape = random_hands(model, 2, seed=1)
    motion = forward_kinematics(model.skeleton, angles, shape)
    by_angle, by_shape = keypoint_jacobian(model.skeleton, motion)
    step = 1e-6
    for array, jacobian in ((angles, by_angle), (shape, by_shape)):
        for column in range(array.shape[1]):
            array[:, column] += step
            ahead = forward_kinematics(model.skeleton, angles, shape).keypoints
            array[:, column] -= 2 * step
            behind = forward_kinematics(model.skeleton, angles, shape).keypoints
            array[:, column] += step
            np.testing.assert_allclose(jacobian[..., column], (ahead - behind) / (2 * step), atol=1e-7)


def test_batch_agrees_with_single(model):
    angles, shape = random_hands(model, 4, seed=2)
    whole = model.pose(angles, shape, "left")
    one = model.pose(angles[2:3], shape[2:3], "left")
    np.testing.assert_allclose(whole.vertices[2], one.vertices[0], atol=1e-6)


def test_left_is_the_mirror_image(model):
    angles, shape = random_hands(model, 2, seed=3)
    right, left = model.pose(angles, shape, "right"), model.pose(angles, shape, "left")
    np.testing.assert_allclose(left.vertices * [-1, 1, 1], right.vertices, atol=1e-7)
    np.testing.assert_allclose(np.linalg.det(left.bone_rotations), 1, atol=1e-9)
    np.testing.assert_array_equal(model.faces("left"), model.faces("right")[:, ::-1])


def test_wrist_frame_and_bone_frames(model):
    pose = model.pose(np.zeros((1, 22)), np.zeros((1, 10)), "right")
    joints = pose.joints[0]
    np.testing.assert_allclose(joints[0], 0, atol=1e-9)
    assert joints[9, 1] > 0.06 and abs(joints[9, 0]) < 1e-6  # y to the middle finger
    assert joints[5, 0] > joints[17, 0]  # x to the thumb's side
    for k in (5, 6, 9, 10, 13, 17):
        bone = joints[k + 1] - joints[k]
        np.testing.assert_allclose(pose.bone_rotations[0, k][:, 1], bone / np.linalg.norm(bone), atol=1e-6)


def test_zero_angles_are_a_flat_straight_hand_and_flexion_bends_to_the_palm(model):
    flat = model.pose(np.zeros((1, 22)), np.zeros((1, 10)), "right").joints[0]
    for finger in range(1, 5):
        points = flat[1 + 4 * finger : 5 + 4 * finger]
        bones = np.diff(points, axis=0)
        bones /= np.linalg.norm(bones, axis=1, keepdims=True)
        assert bones[0] @ bones[1] > np.cos(np.radians(8)) and bones[1] @ bones[2] > np.cos(np.radians(8))
    for index, name in enumerate(model.joint_angle_names):
        if not name.startswith("thumb") and name.endswith("flexion"):
            angles = np.zeros((1, 22))
            angles[0, index] = 0.5
            moved = model.pose(angles, np.zeros((1, 10)), "right").joints[0]
            finger = ("thumb", "index", "middle", "ring", "little").index(name.split("_")[0])
            assert moved[4 + 4 * finger, 2] > flat[4 + 4 * finger, 2] + 0.005


def test_abduction_opens_the_hand(model):
    at = {name: i for i, name in enumerate(model.joint_angle_names)}
    angles = np.zeros((2, 22))
    for finger in ("index", "ring", "little"):
        angles[1, at[f"{finger}_mcp_abduction"]] = 0.2
    closed, open_ = model.pose(angles, np.zeros((2, 10)), "right").joints
    assert open_[8, 0] > closed[8, 0] + 0.01
    assert open_[20, 0] < closed[20, 0] - 0.005


def test_length_shapes_change_one_finger_only(model):
    longer = np.zeros((2, 10))
    longer[1, 7] = 1  # the middle finger's own direction
    rest = model.skeleton.hinges.rest_angles[None].repeat(2, 0)
    a, b = model.pose(rest, longer, "right").joints
    moved = np.linalg.norm(b - a, axis=1)
    assert moved[12] > 0.003 and np.delete(moved, [10, 11, 12]).max() < 1e-9


def test_scale_multiplies(model):
    angles, shape = random_hands(model, 2, seed=4)
    one, two = model.pose(angles, shape, "left"), model.pose(angles, shape, "left", np.array([2.0, 0.5]))
    np.testing.assert_allclose(two.joints, one.joints * np.array([2, 0.5])[:, None, None], atol=1e-12)
    np.testing.assert_allclose(two.vertices, one.vertices * np.array([2, 0.5])[:, None, None], atol=1e-6)


def test_regions_cover_every_finger_and_the_palm(model):
    count = np.bincount(model.skin_regions, minlength=len(model.region_names))
    assert count.shape == (12,) and (count >= 10).all()
    pads = [model.region_names.index(f"{f}_pad") for f in ("thumb", "index", "middle", "ring", "little")]
    for finger, pad in enumerate(pads):
        centre = model.template[model.skin_regions == pad].mean(0)
        assert np.linalg.norm(centre - model.skeleton.keypoints[4 + 4 * finger]) < 0.015


def test_names_limits_and_size(model):
    assert len(model.joint_angle_names) == 22 == len(set(model.joint_angle_names))
    assert (model.joint_limits[:, 0] < 0).all() and (model.joint_limits[:, 1] > 0).all()
    flat = model.pose(np.zeros((1, 22)), np.zeros((1, 10)), "right").joints[0]
    assert 0.165 < np.linalg.norm(flat[JOINT_NAMES.index("middle_tip")]) < 0.185


@pytest.mark.parametrize("side", ["both", "", "Right"])
def test_refuses_an_unknown_side(model, side):
    with pytest.raises(InputError, match="hand side"):
        model.faces(side)


def test_refuses_wrong_shapes(model):
    with pytest.raises(InputError, match="joint angles"):
        model.pose(np.zeros((1, 21)), np.zeros((1, 10)), "right")
    with pytest.raises(InputError, match="shape"):
        model.pose(np.zeros((2, 22)), np.zeros((1, 10)), "right")
