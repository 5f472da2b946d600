"""Contacts of a made-up hand with a ball."""

import numpy as np
import pytest
import trimesh

from hoi_ros.datatypes import TriangleMesh
from hoi_ros.errors import InputError
from hoi_ros.reconstruction.contacts import find_contacts

BODY = trimesh.creation.icosphere(4, 0.04)
BALL = TriangleMesh(np.float32(BODY.vertices), np.int32(BODY.faces))


def patch(distance_m, count=30, seed=0):
    """Points around +x at a distance from the ball's surface."""
    directions = np.array([1.0, 0, 0]) + 0.2 * np.random.default_rng(seed).normal(size=(count, 3))
    return (0.04 + distance_m) * directions / np.linalg.norm(directions, axis=1, keepdims=True)


def test_distances_and_contacts_of_three_regions():
    vertices = np.concatenate([patch(0.002), patch(0.03), patch(-0.006)])
    regions = {name: np.repeat(np.arange(3) == i, 30) for i, name in enumerate(("tip", "palm", "inside"))}
    found = find_contacts(vertices, regions, BALL)
    assert found["tip"].touching and found["inside"].touching and not found["palm"].touching
    assert found["tip"].distance_m == pytest.approx(0.002, abs=0.0007)
    assert found["palm"].distance_m == pytest.approx(0.03, abs=0.0007)
    assert found["inside"].distance_m == pytest.approx(-0.006, abs=0.0007)
    assert not len(found["palm"].points)
    np.testing.assert_allclose(np.linalg.norm(found["tip"].points, axis=1), 0.04, atol=0.0005)


def test_cloud_agrees_with_mesh_outside():
    vertices = patch(0.003)
    regions = {"tip": np.arange(30)}
    cloud = find_contacts(vertices, regions, trimesh.sample.sample_surface(BODY, 30_000, seed=1)[0])["tip"]
    mesh = find_contacts(vertices, regions, BALL)["tip"]
    assert cloud.touching and mesh.touching and cloud.distance_m == pytest.approx(mesh.distance_m, abs=0.0007)


def test_coarse_mesh_is_measured_at_its_faces():
    box = trimesh.creation.box((0.2, 0.2, 0.2))
    coarse = TriangleMesh(np.float32(box.vertices), np.int32(box.faces))
    vertices = np.array([[0.102, 0.01 * i, 0.003] for i in range(5)])
    assert find_contacts(vertices, {"tip": np.arange(5)}, coarse)["tip"].touching


def test_nan_vertices_do_not_touch():
    vertices = np.full((10, 3), np.nan)
    assert not find_contacts(vertices, {"tip": np.arange(10)}, BALL)["tip"].touching


def test_refusals():
    with pytest.raises(InputError, match="hand vertices"):
        find_contacts(np.zeros(3), {}, BALL)
    with pytest.raises(InputError, match="object model"):
        find_contacts(np.zeros((4, 3)), {}, np.zeros((0, 3)))
