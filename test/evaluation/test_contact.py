"""Volume, depth and contact of bodies whose intersection is known."""

import numpy as np
import pytest
import trimesh

from hoi_ros.datatypes import TriangleMesh
from hoi_ros.errors import InputError
from hoi_ros.evaluation import metrics as m
from hoi_ros.evaluation.checks import closed_at_holes, open_edges
from hoi_ros.hand_model import HandModel


def mesh_of(body: trimesh.Trimesh) -> TriangleMesh:
    """The record of a trimesh body."""
    return TriangleMesh(np.asarray(body.vertices, np.float32), np.asarray(body.faces, np.int32))


def ball(radius: float, x: float = 0.0) -> trimesh.Trimesh:
    """A sphere on the x axis."""
    body = trimesh.creation.icosphere(4, radius)
    body.apply_translation([x, 0, 0])
    return body


def test_volume_of_two_balls_is_the_lens():
    radius, apart = 0.04, 0.05
    lens = np.pi * (2 * radius - apart) ** 2 * (apart**2 + 4 * apart * radius) / (12 * apart) * 1e6
    first, second = ball(radius), ball(radius, apart)
    found = m.intersection_volume_cm3(m.Solid(mesh_of(first)), m.Solid(mesh_of(second)), 0.002)
    assert found == pytest.approx(lens, rel=0.03)
    exact = trimesh.boolean.intersection([first, second], engine="manifold").volume * 1e6
    assert found == pytest.approx(exact, rel=0.03)
    coarse = m.intersection_volume_cm3(m.Solid(mesh_of(first)), m.Solid(mesh_of(second)))
    assert coarse == pytest.approx(exact, rel=0.15)


def test_bodies_apart_share_nothing():
    first, second = (m.Solid(mesh_of(ball(0.04, x))) for x in (0.0, 0.2))
    assert m.intersection_volume_cm3(first, second) == 0
    assert m.intersection_volume_cm3(first, m.Solid(mesh_of(ball(0.04, 0.079)))) < 0.5
    assert m.penetration_depth_m(ball(0.04, 0.2).vertices, first) == 0


def test_depth_is_what_was_pushed_in():
    thing = m.Solid(mesh_of(trimesh.creation.box((0.1, 0.1, 0.1))))
    pushed = ball(0.01, 0.053).vertices
    assert m.penetration_depth_m(pushed, thing) == pytest.approx(0.007, abs=1e-4)
    points = np.random.default_rng(1).uniform(-0.08, 0.08, (400, 3))
    brute = np.max(np.abs(points) - 0.05, axis=1)
    outside = np.linalg.norm(np.maximum(np.abs(points) - 0.05, 0), axis=1)
    expected = np.where(brute < 0, brute, outside)
    np.testing.assert_allclose(thing.signed_distances(points), expected, atol=1e-5)
    np.testing.assert_array_equal(thing.contains(points), brute < 0)


def test_contact_recall_and_precision():
    thing = m.Solid(mesh_of(trimesh.creation.box((0.1, 0.1, 0.1))))
    vertices = np.array([[x, 0, 0] for x in (0.045, 0.052, 0.054, 0.056, 0.07)])
    truth = m.contact_mask(vertices, thing)
    assert list(truth) == [True, True, True, False, False]
    assert m.contact_recall(truth, truth) == m.contact_precision(truth, truth) == 1
    moved = m.contact_mask(vertices + (0.002, 0, 0), thing)
    assert m.contact_recall(moved, truth) == pytest.approx(2 / 3) and m.contact_precision(moved, truth) == 1
    assert np.isnan(m.contact_recall(truth, np.zeros(5, bool)))
    with pytest.raises(ValueError, match="hand model"):
        m.contact_recall(truth, truth[:3])


def test_the_free_hand_is_a_solid_and_shares_its_volume_with_itself():
    model = HandModel.load()
    pose = model.pose(np.zeros((1, len(model.joint_angle_names))), np.zeros((1, 10)), "right")
    hand = TriangleMesh(pose.vertices[0].astype(np.float32), model.faces("right"))
    solid = m.Solid(hand, "hand")
    whole = trimesh.Trimesh(hand.vertices, hand.faces).volume * 1e6
    assert m.intersection_volume_cm3(solid, solid, 0.003) == pytest.approx(whole, rel=0.05) and whole > 100


def test_an_open_mesh_is_refused_by_name_and_can_be_closed():
    box = trimesh.creation.box((0.1, 0.1, 0.1))
    opened = TriangleMesh(box.vertices.astype(np.float32), box.faces[1:].astype(np.int32))
    with pytest.raises(InputError, match=r"mug\.ply, field 'faces': .*3 open edges"):
        m.Solid(opened, "mug.ply")
    closed = closed_at_holes(opened)
    assert open_edges(closed) == 0
    assert m.Solid(closed).contains(np.zeros((1, 3))).all()
    assert trimesh.Trimesh(closed.vertices, closed.faces).volume == pytest.approx(0.001)
    turned = TriangleMesh(opened.vertices, np.vstack([box.faces[:1, ::-1], box.faces[1:]]).astype(np.int32))
    assert open_edges(turned) == 3
    with pytest.raises(InputError, match="no triangle"):
        m.Solid(TriangleMesh(opened.vertices, np.zeros((0, 3), np.int32)), "a.ply")


def test_split_vertices_do_not_open_a_mesh():
    box = trimesh.creation.box((0.1, 0.1, 0.1))
    corners = box.vertices[box.faces].reshape(-1, 3)
    split = TriangleMesh(corners.astype(np.float32), np.arange(len(corners), dtype=np.int32).reshape(-1, 3))
    assert open_edges(split) == 0


def test_a_solid_needs_finite_vertices():
    box = mesh_of(trimesh.creation.box((0.1, 0.1, 0.1)))
    vertices = box.vertices.copy()
    vertices[3, 1] = np.nan
    with pytest.raises(InputError, match=r"mug\.ply, field 'vertices': row 3 is not finite \(1 of 8 rows\)"):
        m.Solid(TriangleMesh(vertices, box.faces), "mug.ply")
