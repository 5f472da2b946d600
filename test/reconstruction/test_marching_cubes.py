"""Laws of the zero level's triangles."""

import numpy as np
import trimesh

from hoi_ros.reconstruction.marching_cubes import marching_cubes


def surface(field, known=None):
    known = np.ones(field.shape, bool) if known is None else known
    faces, lower, upper, share = marching_cubes(field, known)
    a, b = (np.stack(np.unravel_index(i, field.shape), 1) for i in (lower, upper))
    return a + (b - a) * share[:, None], faces


def ball(size=40, radius=13.0):
    grid = np.stack(np.indices((size,) * 3), -1)
    return (np.linalg.norm(grid - (size / 2 - 0.3), axis=-1) - radius).astype(np.float32)


def test_ball_is_closed_outward_and_has_its_volume():
    vertices, faces = surface(ball())
    body = trimesh.Trimesh(vertices, faces, process=False)
    assert body.is_watertight and body.is_winding_consistent
    assert abs(body.volume / (4 / 3 * np.pi * 13.0**3) - 1) < 0.01
    assert np.abs(np.linalg.norm(vertices - 19.7, axis=1) - 13).max() < 0.02


def test_any_field_gives_a_closed_surface():
    random = np.random.default_rng(3)
    field = np.ones((14, 15, 16), np.float32)
    field[1:-1, 1:-1, 1:-1] = random.normal(size=(12, 13, 14))
    _, faces = surface(field)
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    forward = np.sort(edges[:, 0] * 1_000_000 + edges[:, 1])
    backward = np.sort(edges[:, 1] * 1_000_000 + edges[:, 0])
    np.testing.assert_array_equal(forward, backward)


def test_vertices_lie_where_a_linear_field_is_zero():
    x, y, z = np.indices((9, 9, 9)).astype(np.float32)
    field = 0.3 * x + 0.5 * y - 0.7 * z - 0.11
    vertices, faces = surface(field)
    np.testing.assert_allclose(vertices @ (0.3, 0.5, -0.7), 0.11, atol=1e-5)
    triangles = vertices[faces]
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    assert (normals @ (0.3, 0.5, -0.7) >= -1e-9).all()


def test_unknown_voxels_leave_a_hole():
    field, known = ball(), np.ones((40, 40, 40), bool)
    known[20:] = False
    vertices, faces = surface(field, known)
    assert vertices[:, 0].max() <= 19 and 0 < len(faces) < 0.6 * len(surface(field)[1])


def test_no_surface_gives_empty_arrays():
    vertices, faces = surface(np.ones((4, 4, 4), np.float32))
    assert vertices.shape == (0, 3) and faces.shape == (0, 3)
