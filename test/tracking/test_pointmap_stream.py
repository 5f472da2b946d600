"""Pairs chosen as a stream, and motions from a network that is always right, sometimes noisy, sometimes a liar."""

from __future__ import annotations

import numpy as np
import pytest
from scenes import CAMERA, box_layer, pose

from hoi_ros.geometry import invert_transform, rotation_angle, transform_points
from hoi_ros.tracking.pointmap_asking import NetworkPairs
from hoi_ros.tracking.pointmap_crop import look_at_box
from hoi_ros.tracking.pointmap_motion import MotionConfig
from hoi_ros.tracking.pointmap_network import PointmapNetwork, PointmapNetworkConfig
from hoi_ros.tracking.pointmap_stream import (
    PairPointmaps,
    StreamConfig,
    StreamView,
    choose_partners,
    pair_motion,
    place_view,
    wants_view,
)

MOTION = MotionConfig(sigma=0.003)
POSES = [pose((0, 12 * k, 4 * k), (0.01 * k, 0.0, 0.5)) for k in range(6)]


class Oracle:
    """Answers from the true surface, with noise, and a share of nonsense."""

    def __init__(self, noise: float = 0.0, nonsense: float = 0.0) -> None:
        self.rng, self.noise, self.nonsense = np.random.default_rng(0), noise, nonsense

    def __call__(self, first: StreamView, second: StreamView) -> PairPointmaps:
        maps = []
        for view in (first, second):
            T = POSES[view.index]
            plain = box_layer(T)[0]
            cut = view.crop.cut(np.where(np.isfinite(plain), plain, 0).astype(np.float32), nearest=True)
            depth = view.crop.depth_along_crop(cut)
            camera = view.crop.camera_points(view.crop.pointmap(depth).astype(float))
            moved = transform_points(POSES[first.index] @ invert_transform(T), camera.reshape(-1, 3))
            crop = first.crop.crop_points(moved) - [0, 0, first.depth_m]
            points = (crop / (first.depth_m * first.crop.half_tangent)).reshape(camera.shape)
            points += self.rng.normal(0, self.noise, points.shape)
            wrong = self.rng.random(points.shape[:2]) < self.nonsense
            points[wrong] = self.rng.uniform(-1, 1, (int(wrong.sum()), 3))
            maps.append(points)
        ones = np.ones(maps[0].shape[:2])
        return PairPointmaps(maps[0], maps[1], ones, ones)


def view(k: int, known: bool = True) -> StreamView:
    mask = np.isfinite(box_layer(POSES[k])[0])
    rows, columns = np.nonzero(mask)
    crop = look_at_box(np.array([columns.min(), rows.min(), columns.max(), rows.max()], float), CAMERA, 48)
    inner = crop.cut(mask.astype(np.uint8), nearest=True) > 0
    inner[1:-1, 1:-1] &= inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
    picture = np.random.default_rng(k).integers(0, 256, (48, 48, 3), np.uint8)
    return StreamView(k, crop, picture, inner, 0.5, POSES[k] if known else None)


def off_deg(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.degrees(rotation_angle(a[:3, :3] @ b[:3, :3].T)))


@pytest.mark.parametrize(("noise", "nonsense", "limit"), [(0.0, 0.0, 0.05), (0.03, 0.0, 1.0), (0.03, 0.3, 1.5)])
def test_a_pair_gives_the_true_motion(noise, nonsense, limit):
    truth = POSES[0] @ invert_transform(POSES[2])
    edge = pair_motion(view(0), view(2), Oracle(noise, nonsense), MOTION)
    assert edge is not None and off_deg(edge.T_first_second, truth) < limit
    middle = POSES[2][:3, 3]
    assert (
        np.linalg.norm(transform_points(edge.T_first_second, middle[None]) - transform_points(truth, middle[None]))
        < 0.002
    )


def test_the_other_order_gives_the_inverse():
    there = pair_motion(view(0), view(2), Oracle(), MOTION)
    back = pair_motion(view(2), view(0), Oracle(), MOTION)
    np.testing.assert_allclose(there.T_first_second @ back.T_first_second, np.eye(4), atol=1e-5)


def test_steps_compose():
    one, two = (pair_motion(view(a), view(b), Oracle(), MOTION) for a, b in ((0, 1), (1, 2)))
    whole = pair_motion(view(0), view(2), Oracle(), MOTION)
    np.testing.assert_allclose(one.T_first_second @ two.T_first_second, whole.T_first_second, atol=1e-3)


def test_nonsense_alone_settles_nothing():
    assert pair_motion(view(0), view(2), Oracle(0.0, 1.0), MOTION) is None


def test_a_new_view_is_placed_by_its_partners():
    found, edges = place_view(view(3, known=False), [view(2), view(1), view(0)], Oracle(0.02), MOTION)
    assert len(edges) == 3 and off_deg(found, POSES[3]) < 0.6
    assert place_view(view(3, known=False), [], Oracle(), MOTION) == (None, [])


def test_partners_are_the_one_before_and_the_nearest_sides():
    kept = [view(k) for k in range(5)]
    chosen = choose_partners(kept, view(4), pose((0, 15, 5)), StreamConfig(pairs=3))
    assert [v.index for v in chosen] == [4, 1, 2]
    narrow = choose_partners(kept, None, POSES[5], StreamConfig(pairs=5, widest_angle_deg=20.0))
    assert [v.index for v in narrow] == [4]


def test_views_are_kept_where_none_is_near():
    kept = [view(0), view(1)]
    assert not wants_view(kept, POSES[1], StreamConfig())
    assert wants_view(kept, POSES[3], StreamConfig())
    assert not wants_view(kept, POSES[3], StreamConfig(most_keyframes=2))


@pytest.mark.parametrize("output", ["centred", "camera"])
def test_a_network_answers_and_encodes_each_view_once(output):
    network = PointmapNetwork(PointmapNetworkConfig(8, 48, 32, 1, 2, 32, 1, 2, output=output))
    calls = []
    encode = network.encode
    network.encode = lambda images: calls.append(1) or encode(images)
    ask = NetworkPairs(network)
    a, b = view(0), view(1)
    there, back = ask(a, b), ask(b, a)
    assert len(calls) == 2
    assert there.first.shape == (48, 48, 3) and (there.second_confidence > 1).all()
    assert not np.allclose(there.first, back.first)
    if output == "camera":
        assert np.median(there.first[a.object_mask][:, 2]) == pytest.approx(0, abs=1e-6)
    ask.forget(0)
    ask(a, b)
    assert len(calls) == 3
