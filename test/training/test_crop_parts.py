"""Parts of a crop's scene: what is left out is never seen, and what is read off the rays is right."""

from __future__ import annotations

import numpy as np
import pytest

from hoi_ros.geometry import so3_exp
from hoi_ros.hand_model import HandModel
from hoi_ros.simulation.raycast import TriangleScene
from hoi_ros.simulation.skin import ForearmShape
from hoi_ros.training.crop_parts import crevices, mix, pixel_rays, seen_triangles, small_solid
from hoi_ros.training.hand_poses import sample_hands

SIDE = 112


def scene(seed):
    """Vertices, triangles and whether they close, of a hand with its open forearm and a thing, before a camera."""
    rng, model = np.random.default_rng(seed), HandModel.load()
    angles, shape, _ = sample_hands(model, rng, 1)
    side = "left" if seed % 2 else "right"
    hand = model.pose(angles, shape, side).vertices[0].astype(np.float64)
    rest = model.pose(np.zeros_like(angles), np.zeros((1, 10)), "right").vertices[0].astype(np.float64)
    arm = ForearmShape(rest, model.faces("right"), 0.02, seed)
    tube = arm.build(np.eye(4), np.array([0.1, -0.3, 0.1]), side)
    solid, solid_faces = small_solid(rng, 0.02)
    sides = [model.faces(side), arm.faces if side == "right" else arm.faces[:, ::-1], solid_faces]
    starts = np.cumsum([0, len(hand), len(tube)])
    vertices = np.concatenate([hand, tube, solid + hand.mean(0)])
    vertices = (vertices - hand.mean(0)) @ so3_exp(rng.normal(0, 2, 3)).T + [0, 0, rng.uniform(0.2, 0.5)]
    closed = np.repeat([True, False, True], [len(faces) for faces in sides])
    return vertices, np.concatenate([faces + start for faces, start in zip(sides, starts)]), closed


@pytest.mark.parametrize("seed", range(8))
def test_what_is_left_out_is_never_seen(seed):
    vertices, triangles, closed = scene(seed)
    focal = 1.6 if seed < 6 else 4.0
    kept, pixels = seen_triangles(vertices, triangles, closed, focal, SIDE)
    everywhere = pixel_rays(np.arange(SIDE * SIDE), focal, SIDE)
    whole = TriangleScene(vertices, triangles).cast(np.zeros(3), everywhere)
    part = TriangleScene(vertices, triangles[kept]).cast(np.zeros(3), pixel_rays(pixels, focal, SIDE))
    depth = np.full(SIDE * SIDE, np.inf, np.float32)
    depth[pixels] = part["t_hit"]
    hit = np.isfinite(whole["t_hit"])
    assert hit.sum() > 500
    # Where flesh folds into itself its inside may show for a pixel or two.
    other = np.isfinite(depth) != hit
    other[hit] |= np.abs(depth[hit] - whole["t_hit"][hit]) > 1e-5
    assert other.sum() <= 2
    assert len(kept) < 0.7 * len(triangles)
    assert len(pixels) < 1.5 * hit.sum() + 2000


def test_triangles_all_round_the_camera_are_seen_where_they_are():
    rng = np.random.default_rng(3)
    for _ in range(10):
        vertices, triangles = rng.normal(0, 0.3, (18, 3)), np.arange(18).reshape(6, 3)
        kept, pixels = seen_triangles(vertices, triangles, np.zeros(6, bool), 0.9, SIDE)
        whole = TriangleScene(vertices, triangles).cast(np.zeros(3), pixel_rays(np.arange(SIDE * SIDE), 0.9, SIDE))
        hit = np.isfinite(whole["t_hit"])
        assert set(np.unique(whole["primitive_ids"][hit])) <= set(kept)
        assert np.isin(np.flatnonzero(hit), pixels).all()


def test_a_triangle_that_reaches_beside_the_camera_is_kept_and_one_behind_it_shows_nothing():
    vertices = np.array([[-0.1, 0.02, 0.3], [0.1, 0.02, 0.3], [0.0, 0.02, -0.5]])
    for faces in ([[0, 1, 2]], [[0, 2, 1]]):
        kept, pixels = seen_triangles(vertices, np.array(faces), np.ones(1, bool), 1.2, SIDE)
        assert kept.tolist() == [0] and len(pixels) == SIDE * SIDE
    kept, pixels = seen_triangles(vertices + [3, 0, 1], np.array([[0, 1, 2]]), np.zeros(1, bool), 1.2, SIDE)
    assert not len(kept) and not len(pixels)


def test_values_are_mixed_by_their_shares_of_the_triangle():
    rng = np.random.default_rng(0)
    corners, triangles = rng.normal(size=(7, 30)).astype(np.float32), rng.integers(0, 30, (50, 3))
    uv = rng.dirichlet((1, 1, 1), 50)[:, :2].astype(np.float32)
    shares = np.concatenate([1 - uv.sum(1, keepdims=True), uv], 1)
    expected = np.einsum("cnk,nk->cn", corners[:, triangles], shares)
    np.testing.assert_allclose(mix(corners, triangles, uv), expected, atol=1e-5)


def test_only_what_lies_deeper_than_its_surroundings_is_darkened():
    depth = np.full((64, 64), 0.5, np.float32)
    depth[30:34] = 0.52
    depth[:10] = np.inf
    hits = np.flatnonzero(np.isfinite(depth))
    shade = np.zeros(depth.size, np.float32)
    shade[hits] = crevices(depth, hits, 0.6)
    shade = shade.reshape(depth.shape)
    assert shade[32, 32] == pytest.approx(0.6, abs=0.02) and not shade[45:].any() and not shade[:10].any()
    assert crevices(np.full((8, 8), np.inf, np.float32), np.zeros(0, int), 0.5).shape == (0,)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_part_of_the_hand_is_posed_like_the_whole(side):
    model, rng = HandModel.load(), np.random.default_rng(1)
    kept = rng.random(model.vertex_count) < 0.3
    angles, shape, _ = sample_hands(model, rng, 4)
    whole, part = (m.pose(angles, shape, side, 1.1).vertices for m in (model, model.part(kept)))
    np.testing.assert_allclose(part, whole[:, kept], atol=1e-7)
