"""Hand and object as one thing: a perfect union scores so, a mirrored or shifted hand does not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from hoi_ros.datatypes import HandEstimate, ObjectObservation, TriangleMesh
from hoi_ros.evaluation.datasets.records import HandLabel
from hoi_ros.evaluation.joint_shape import ABSENT_JOINT, HeldHands, hand_in_object, joint_errors
from hoi_ros.geometry import make_transform, so3_exp, transform_points


def mesh_of(body: trimesh.Trimesh) -> TriangleMesh:
    return TriangleMesh(body.vertices.astype(np.float32), body.faces.astype(np.int32))


def lopsided_hand() -> TriangleMesh:
    """A palm with four fingers of one side and a thumb, beside the object."""
    parts = [trimesh.creation.box((0.02, 0.08, 0.09), transform=make_transform(np.eye(3), [0.06, 0.0, -0.02]))]
    for number, length in enumerate((0.06, 0.075, 0.07, 0.05)):
        place = make_transform(np.eye(3), [0.06 - length / 2, -0.03 + 0.02 * number, 0.045])
        parts.append(trimesh.creation.box((length, 0.014, 0.014), transform=place))
    parts.append(trimesh.creation.box((0.05, 0.016, 0.016), transform=make_transform(np.eye(3), [0.04, -0.05, -0.05])))
    return mesh_of(trimesh.util.concatenate(parts))


HAND, OBJECT = lopsided_hand(), mesh_of(trimesh.creation.box((0.06, 0.1, 0.08)))


def moved(mesh: TriangleMesh, T: np.ndarray, scale: float = 1.0) -> TriangleMesh:
    return dataclasses.replace(mesh, vertices=(scale * transform_points(T, mesh.vertices)).astype(np.float32))


@pytest.mark.parametrize("seed", range(3))
def test_a_true_union_is_perfect_wherever_and_however_large_it_is(seed):
    T = make_transform(Rotation.random(random_state=seed).as_matrix(), np.array([0.3, -0.1, 0.5]))
    errors = joint_errors(moved(HAND, T, 0.8 + 0.2 * seed), moved(OBJECT, T, 0.8 + 0.2 * seed), HAND, OBJECT, starts=30)
    for part in (errors.union, errors.hand, errors.object):
        assert part.accuracy_mm < 1.0 and part.completeness_mm < 1.0 and part.f5_percent > 99.5


def test_from_a_known_first_motion_the_alignment_only_descends():
    T = make_transform(Rotation.random(random_state=5).as_matrix(), np.array([0.3, -0.1, 0.5]))
    found = [moved(mesh, T, 1.1) for mesh in (HAND, OBJECT)]
    back = np.linalg.inv(T)
    near = make_transform(so3_exp(np.array([0.1, -0.15, 0.1])), np.array([0.01, 0, -0.02])) @ back
    assert joint_errors(*found, HAND, OBJECT, near).union.f5_percent > 99.5
    over = make_transform(so3_exp(np.array([0, np.pi, 0])), np.zeros(3)) @ back
    assert joint_errors(*found, HAND, OBJECT, over).union.f5_percent < 95, "a wrong one is not mended by search"


def test_a_mirrored_hand_is_no_union():
    mirror = np.float32([1, -1, 1])
    wrong = TriangleMesh(HAND.vertices * mirror, HAND.faces[:, ::-1])
    errors = joint_errors(wrong, OBJECT, HAND, OBJECT)  # the box is its own mirror image: the hand alone can tell
    assert errors.hand.accuracy_mm > 2 and errors.hand.f5_percent < 95
    assert errors.union.accuracy_mm > 1.2 and errors.union.f5_percent < 98


def test_a_hand_ten_millimetres_off_is_seen_and_more_so_farther_off():
    away = [make_transform(np.eye(3), np.array([shift, 0, 0])) for shift in (0.0, 0.01, 0.02)]
    errors = [joint_errors(moved(HAND, T), OBJECT, HAND, OBJECT, starts=10) for T in away]
    accuracy = [e.union.accuracy_mm for e in errors]
    assert accuracy[0] < 0.8 and accuracy[1] > accuracy[0] + 0.8 and accuracy[2] > accuracy[1] + 0.5
    assert errors[2].union.f5_percent < errors[1].union.f5_percent - 3


def test_a_thing_too_large_for_its_hand_is_seen():
    large = moved(OBJECT, np.eye(4), 1.3)
    errors = joint_errors(HAND, large, HAND, OBJECT, starts=10)
    assert errors.union.f5_percent < 85 and errors.object.accuracy_mm > 2


def test_what_is_missing_is_the_worst_value():
    assert joint_errors(None, OBJECT, HAND, OBJECT) is ABSENT_JOINT
    empty = TriangleMesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    errors = joint_errors(HAND, empty, HAND, OBJECT)
    assert errors.union.f5_percent == 0 and np.isinf(errors.union.accuracy_mm)


def test_a_hand_that_is_carried_along_is_found_in_the_object_s_frame():
    random = np.random.default_rng(3)
    poses, hands = [], []
    for _ in range(15):
        T = make_transform(so3_exp(random.normal(0, 0.6, 3)), random.normal(0, 0.1, 3) + [0, 0, 0.5])
        poses.append(T)
        hands.append(transform_points(T, HAND.vertices + random.normal(0, 0.001, 3)))
    for slip in (0, 7, 11):  # frames in which the hand was placed wrongly
        hands[slip] = hands[slip] + [0, 0, 0.08]
    found = hand_in_object(np.stack(poses), np.stack(hands))
    assert np.abs(found - HAND.vertices).max() < 0.002
    with pytest.raises(ValueError, match="same frames"):
        hand_in_object(np.stack(poses), np.stack(hands[1:]))
    with pytest.raises(ValueError, match="0 poses"):
        hand_in_object(np.zeros((0, 4, 4)), np.zeros((0, 5, 3)))


def estimate(T_camera_hand: np.ndarray, track_id: int) -> HandEstimate:
    """The lopsided hand somewhere in the picture."""
    skin = transform_points(T_camera_hand, HAND.vertices)
    nothing = np.zeros((21, 3))
    return HandEstimate(
        track_id, "right", 1.0, nothing[:, :2], np.zeros(4), nothing, skin, T_camera_hand,
        np.tile(np.eye(3), (21, 1, 1)), np.zeros(22), np.zeros(10), 0.005,
    )  # fmt: skip


def film(held: HeldHands, object_id: int, tie: np.ndarray, *, hand_off_m: float = 0.0, lost: bool = False) -> None:
    """Ten frames in which hand 1 holds and hand 2 is elsewhere; the tracker's object frame is off by `tie`."""
    random = np.random.default_rng(object_id)
    for _ in range(10):
        T = make_transform(so3_exp(random.normal(0, 0.5, 3)), random.normal(0, 0.1, 3) + [0, 0, 0.5])
        away = make_transform(np.eye(3), np.array([0.4, 0, 0.5]))
        slipped = T @ make_transform(np.eye(3), np.array([0, hand_off_m, 0]))
        seen = ObjectObservation("tracking", object_id, None if lost else T @ tie, hand_track_id=1)
        true = [HandLabel("right", vertices_camera=transform_points(at, HAND.vertices)) for at in (away, T)]
        held.add(seen, [estimate(away, 2), estimate(slipped, 1)], T, true)


def test_of_a_film_the_holding_hand_is_judged_beside_the_true_one_nearest_to_it():
    tie = make_transform(so3_exp(np.array([0.4, 1.0, -0.3])), np.array([0.02, 0, 0.05]))
    found = moved(OBJECT, np.linalg.inv(tie))
    held = HeldHands({"right": HAND.faces}, HAND.faces)
    assert held.errors(found, OBJECT, tie) is ABSENT_JOINT, "no frame yet"
    film(held, 0, tie, lost=True)
    assert held.errors(found, OBJECT, tie) is ABSENT_JOINT, "a lost object has no place in the hand"
    film(held, 1, tie, hand_off_m=0.04)
    assert held.errors(found, OBJECT, tie).union.f5_percent < 80
    film(held, 2, tie)
    errors = held.errors(found, OBJECT, tie)
    assert min(errors.union.f5_percent, errors.hand.f5_percent) > 99.5, "what was seen of another object is forgotten"
    assert held.errors(None, OBJECT, tie) is ABSENT_JOINT
