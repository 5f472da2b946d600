"""The batched rasteriser: what rays hit, it draws; through the camera's plane, in parts, mirrored, without gaps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hoi_ros.errors import InputError
from hoi_ros.geometry import so3_exp
from hoi_ros.hand_model import HandModel
from hoi_ros.simulation.raycast import TriangleScene
from hoi_ros.training.batch_raster import Triangles, rasterize

SIDE = 96


def triangles(meshes, outward=0.0):
    """Meshes (vertices, faces), one a camera."""
    counts = [len(vertices) for vertices, _ in meshes]
    starts = np.cumsum([0, *counts])
    faces = np.concatenate([faces + start for (_, faces), start in zip(meshes, starts)])
    owner = np.concatenate([np.full(len(faces), k) for k, (_, faces) in enumerate(meshes)])
    vertices = np.concatenate([vertices for vertices, _ in meshes]).astype(np.float32)
    sides = torch.full((len(faces),), float(outward))
    return Triangles(torch.from_numpy(vertices), torch.from_numpy(faces).long(), torch.from_numpy(owner), sides)


def cast(vertices, faces, focal):
    """First hits of the rays through every pixel."""
    x, y = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    across = ((np.stack([x, y], -1).reshape(-1, 2) + 0.5) / SIDE - 0.5) / focal
    rays = np.concatenate([across, np.ones((len(across), 1))], 1)
    return TriangleScene(vertices, faces).cast(np.zeros(3), rays)


@pytest.fixture(scope="module")
def hands():
    """Bent hands before a camera each, in front of a slanted tube that passes through the camera's plane."""
    model, rng = HandModel.load(), np.random.default_rng(0)
    low, high = model.joint_limits.T
    posed = model.pose(rng.uniform(0.5 * low, 0.8 * high, (6, len(low))), rng.normal(0, 0.8, (6, 10)), "right")
    angle, far = np.meshgrid(0.3 + np.linspace(0, 2 * np.pi, 9)[:-1], [-0.5, -0.3, 0.6, 0.9])
    ring = np.stack([0.05 * np.cos(angle) + 0.1, 0.05 * np.sin(angle) + 0.1, far], -1).reshape(-1, 3)
    a = np.arange(24)
    b = a // 8 * 8 + (a + 1) % 8
    tube = np.concatenate([np.stack([a, b, a + 8], 1), np.stack([b, b + 8, a + 8], 1)])
    meshes = []
    for points in posed.vertices:
        turn = so3_exp(rng.normal(0, 2, 3))
        hand = (points - points.mean(0)) @ turn.T + [0, 0, rng.uniform(0.25, 0.6)]
        meshes.append((np.concatenate([hand, ring]), np.concatenate([model.right_faces, tube + len(hand)])))
    return meshes, np.array([1.6, 2.0, 2.4, 1.2, 3.0, 2.0])


def test_every_pixel_shows_what_its_ray_hits(hands):
    meshes, focal = hands
    drawn = triangles(meshes)
    raster = rasterize(drawn, torch.tensor(focal, dtype=torch.float32), SIDE)
    weights = torch.zeros(len(meshes) * SIDE * SIDE, 3)
    weights[raster.pixels] = raster.weights
    face = torch.full((len(weights),), -1)
    face[raster.pixels] = raster.faces
    behind_the_plane, first = 0, 0
    for k, (vertices, faces) in enumerate(meshes):
        hit = cast(vertices, faces, focal[k])
        ours, theirs = raster.depth[k].numpy().reshape(-1), hit["t_hit"]
        assert (np.isfinite(ours) == np.isfinite(theirs)).mean() > 0.9995
        both = np.isfinite(ours) & np.isfinite(theirs)
        number = face[k * SIDE * SIDE : (k + 1) * SIDE * SIDE].numpy() - first
        same = both & (number == hit["primitive_ids"].astype(np.int64))
        assert same[both].mean() > 0.998
        assert np.quantile(np.abs(ours[both] - theirs[both]), 0.998) < 1e-4
        uv = weights[k * SIDE * SIDE : (k + 1) * SIDE * SIDE].numpy()[same, 1:]
        assert np.quantile(np.abs(uv - hit["primitive_uvs"][same]), 0.99) < 2e-3
        crossing = (vertices[faces][..., 2] < 0).any(1) & (vertices[faces][..., 2] > 0).any(1)
        behind_the_plane += crossing[number[same]].sum()
        first += len(faces)
    assert behind_the_plane > 50  # the tube's faces that pass the camera were seen, and rightly


def test_parts_give_the_same_picture(hands):
    meshes, focal = hands
    drawn, lengths = triangles(meshes), torch.tensor(focal, dtype=torch.float32)
    whole, parts = (rasterize(drawn, lengths, SIDE, pixels_at_once=n) for n in (10**9, 700))
    assert torch.equal(whole.depth, parts.depth) and torch.equal(whole.faces, parts.faces)


def test_closed_meshes_are_the_same_from_one_side(hands):
    """Both sides drawn, or outward faces only: a closed mesh looks the same; inward faces alone do not."""
    meshes, focal = hands
    model = HandModel.load()
    closed = [(vertices[: model.vertex_count], model.right_faces) for vertices, _ in meshes]
    mirrored = [(vertices * [-1, 1, 1], faces) for vertices, faces in closed]
    lengths = torch.tensor(focal, dtype=torch.float32)
    both = rasterize(triangles(closed), lengths, SIDE).depth
    torch.testing.assert_close(rasterize(triangles(closed, 1), lengths, SIDE).depth, both)
    assert not torch.equal(rasterize(triangles(closed, -1), lengths, SIDE).depth, both)
    seen = rasterize(triangles(mirrored, -1), lengths, SIDE).depth
    torch.testing.assert_close(seen.flip(2), both, atol=2e-4, rtol=0)


def test_neighbours_leave_no_gap_and_edges_cover_pixel_middles():
    """A plane of many slivers has no hole; pixel middles on its rim belong to it."""
    rng = np.random.default_rng(1)
    from scipy.spatial import Delaunay

    points = np.concatenate([rng.uniform(-1, 1, (400, 2)), [[-1, -1], [-1, 1], [1, -1], [1, 1]]])
    faces = Delaunay(points).simplices
    plane = np.concatenate([points, np.full((len(points), 1), 1.0)], 1)
    raster = rasterize(triangles([(plane, faces)]), torch.tensor([0.4]), SIDE)
    inside = torch.isfinite(raster.depth[0])
    rows = torch.nonzero(inside.any(1))[:, 0]
    assert inside[rows[0] : rows[-1] + 1, rows[0] : rows[-1] + 1].all() and 70 < len(rows) < 80
    torch.testing.assert_close(raster.weights.sum(1), torch.ones(len(raster.weights)))
    mixed = raster.mix(torch.from_numpy(plane).float(), triangles([(plane, faces)]))
    torch.testing.assert_close(mixed, raster.rays, atol=1e-4, rtol=0)


def test_an_empty_picture_and_wrong_shapes():
    behind = (np.array([[0, 0, -1.0], [1, 0, -1], [0, 1, -1]]), np.array([[0, 1, 2]]))
    raster = rasterize(triangles([behind]), torch.ones(1), SIDE)
    assert len(raster.pixels) == 0 and torch.isinf(raster.depth).all()
    good = triangles([behind])
    with pytest.raises(InputError, match="outward"):
        rasterize(Triangles(good.vertices, good.faces, good.crops, torch.zeros(4)), torch.ones(1), SIDE)
