"""Synthetic crops: exact labels, both sides, poses within limits that do not sink in, the same seed the same crops."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from hoi_ros import cli
from hoi_ros.datatypes import CameraIntrinsics
from hoi_ros.errors import InputError
from hoi_ros.geometry import transform_points
from hoi_ros.hand_model import HandModel
from hoi_ros.simulation.grasp import GraspSolver, SignedDistance
from hoi_ros.training import feature_cache, held_shapes
from hoi_ros.training.crop_pictures import Backgrounds, Harshness
from hoi_ros.training.feature_cache import harshness_of, read_card, read_shard
from hoi_ros.training.hand_crops import CROP_SIDE, HAND, OBJECT, HandCropSource
from hoi_ros.training.hand_poses import sample_hands
from hoi_ros.training.held_shapes import random_thing
from hoi_ros.training.held_things import ThingStock, random_paint, touch


@pytest.fixture(scope="module")
def source():
    return HandCropSource(5, held_share=0.0, skins=3)


@pytest.fixture(scope="module")
def crops(source):
    source.restart(0)
    return [source.crop(Harshness.even(0.3)) for _ in range(24)]


def test_joints_project_where_they_are_labelled(crops):
    for crop in crops:
        seen = crop.joints + crop.translation
        points = seen[:, :2] / seen[:, 2:] * crop.camera[:2] + crop.camera[2:]
        np.testing.assert_allclose(points, crop.joints_2d, atol=1e-4)
        assert abs(crop.joints.mean(0)).max() < 1e-6


def test_the_drawn_hand_lies_under_its_vertices(crops):
    """Most of the hand's vertices in the picture fall on hand or object; now and then an arm is before it."""
    covered = []
    for crop in crops:
        seen = (crop.vertices + crop.translation).astype(float)
        pixel = (seen[:, :2] / seen[:, 2:] * crop.camera[:2] + 0.5) * CROP_SIDE
        inside = ((pixel > 1) & (pixel < CROP_SIDE - 1)).all(1)
        x, y = pixel[inside].astype(int).T
        covered.append(np.isin(crop.segments[y, x], (HAND, OBJECT)).mean())
        # and nothing of the hand is drawn far from them
        drawn = np.stack(np.nonzero(crop.segments == HAND)[::-1], 1)[::7]
        nearest = np.linalg.norm(drawn[:, None] - pixel[None], axis=-1).min(1)
        assert nearest.max() < 12
    assert np.median(covered) > 0.85 and (np.array(covered) > 0.6).mean() > 0.9


def test_both_sides_occur_and_the_label_is_right(crops):
    faces = HandModel.load().right_faces
    for crop in crops:
        corners = crop.vertices[faces].astype(float)
        volume = np.einsum("fc,fc->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))
        assert (volume > 0) == crop.right
    assert {crop.right for crop in crops} == {True, False}


def test_the_same_series_gives_the_same_crops(source, crops):
    source.restart(0)
    again = source.crop(Harshness.even(0.3))
    np.testing.assert_array_equal(again.image, crops[0].image)
    source.restart(1)
    assert not np.array_equal(source.crop(Harshness.even(0.3)).image, crops[0].image)


@pytest.fixture(scope="module")
def held_crops():
    source = HandCropSource(6, held_share=1.0, skins=2)
    source.restart(1)
    return [source.crop(Harshness.even(0.2)) for _ in range(40)]


def test_contact_is_only_where_a_thing_is(crops, held_crops):
    for crop in [*crops, *held_crops]:
        assert crop.contact.min() >= 0 and crop.contact.max() <= 1
        if not (crop.segments == OBJECT).any():
            assert crop.contact.mean() < 0.5
    touching = np.array([crop.contact.mean() for crop in held_crops])
    assert (touching > 0.03).mean() > 0.6 and touching.max() < 0.6


def test_held_things_are_as_large_as_real_ones(held_crops):
    """Of what is held more is seen than slips of it between fingers."""
    shares = np.array(
        [(crop.segments == OBJECT).mean() / max((crop.segments == HAND).mean(), 1e-3) for crop in held_crops]
    )
    assert (shares > 0.3).mean() > 0.3 and np.median(shares) > 0.08


def test_things_have_hand_size_and_close():
    rng = np.random.default_rng(4)
    for _ in range(25):
        thing = random_thing(rng)
        size = np.ptp(thing.vertices, axis=0)
        assert 0.04 <= size.max() <= 0.27 and size.min() < 0.11
        corners = thing.vertices[thing.faces].astype(float)
        volume = np.einsum("fc,fc->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
        assert 1e-6 < volume < size.prod() * 1.01


def test_a_cups_handle_is_a_place_to_grip_on_the_cups_own_surface(monkeypatch):
    monkeypatch.setattr(held_shapes, "SHARES", [float(kind == "cup") for kind in held_shapes.KINDS])
    rng, seen = np.random.default_rng(9), 0
    for _ in range(8):
        thing = random_thing(rng)
        for grip in thing.grips[1:]:
            seen += 1
            assert np.linalg.norm(thing.vertices - grip.center, axis=1).min() < 0.012
            assert np.hypot(*grip.center[:2]) > 0.02, "beside the axis"
    assert seen


def test_holds_touch_and_hardly_sink_in():
    stock = ThingStock(HandModel.load(), np.random.default_rng(8))
    model = HandModel.load()
    for _ in range(6):
        thing, hold = stock.draw()
        skin = model.pose(hold.angles[None], thing.shape[None], hold.side).vertices[0].astype(float)
        distance = thing.distance(transform_points(hold.T_object_wrist, skin))
        assert distance.min() > -0.012
        share = touch(thing, hold, skin)
        assert share.max() == 1 and (share[distance > 0.01] == 0).all() and (share[distance < 0.001] == 1).all()


def test_gaps_of_a_closed_hand_are_the_exact_ones():
    model, rng = HandModel.load(), np.random.default_rng(3)
    for side in ("left", "right"):
        thing = random_thing(rng)
        solver = GraspSolver(model, np.zeros(10), side, thing)
        cycle = solver.solve(thing.grips[0], turns=np.arange(3) * 2.0)
        skin = model.pose(cycle.angles, np.zeros((3, 10)), side).vertices
        T, masks = cycle.T_wrist_object, [solver.parts.mask(finger, 3) for finger in range(5)]
        points = (skin - T[:, None, :3, 3]) @ T[:, :3, :3]
        gaps = SignedDistance(thing)(points)
        np.testing.assert_allclose(cycle.depth_m, np.clip(-gaps.min(1), 0, None), atol=1e-6)
        np.testing.assert_allclose(cycle.tip_gap_m, np.stack([gaps[:, m].min(1) for m in masks], 1), atol=1e-6)
        # and where fingertips stand off by centimetres
        away = points + np.array([[[0.012, 0, 0]], [[0, 0.02, 0]], [[0, 0, -0.03]]])
        gaps, found = SignedDistance(thing)(away), solver._closest_gaps(away)
        for mask in masks:
            np.testing.assert_allclose(found[:, mask].min(1), gaps[:, mask].min(1), atol=1e-6)


def test_distances_near_a_thing_are_the_exact_ones_and_far_ones_are_not_asked_for():
    thing = ThingStock(HandModel.load(), np.random.default_rng(8)).any()
    points = np.random.default_rng(0).uniform(-0.2, 0.2, (400, 3))
    near, exact = thing.distance_near(points, 0.02), thing.distance(points)
    known = np.isfinite(near)
    np.testing.assert_array_equal(near[known], exact[known])
    assert known.any() and (exact[~known] >= 0.02).all() and (~known).any()


def test_a_shard_is_made_with_one_blas_thread(monkeypatch, tmp_path):
    threads = []

    def make(*_):
        threads.extend(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")
        return {"nothing": np.zeros(1)}

    monkeypatch.setattr(feature_cache, "_workshop", lambda *_: (None, None))
    monkeypatch.setattr(feature_cache, "_shard_arrays", make)
    with threadpool_limits(2, user_api="blas"):
        assert [path.name for path in feature_cache.make_shards(tmp_path, 1)] == ["shard_00000.npz"]
    assert threads and set(threads) == {1}


def test_shards_over_photos_are_not_shippable_unless_the_user_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(feature_cache, "_workshop", lambda *_: (None, None))
    monkeypatch.setattr(feature_cache, "_shard_arrays", lambda *_: {"nothing": np.zeros(1)})

    def card(folder, count, *options):
        arguments = ["train", "crops", "--out", str(tmp_path / folder), "--shards", str(count), "--processes", "1"]
        assert cli.main([*arguments, "--quiet", *options]) == 0
        return read_card(tmp_path / folder)

    photos = ("--backgrounds", str(tmp_path))
    assert card("plain", 1) == {
        "data": "synthetic crops of the free hand",
        "shippable": True,
        "hand_model": "free hand",
    }
    data = "synthetic crops of the free hand over the user's photos"
    closed = {"data": data, "shippable": False, "hand_model": "free hand"}
    assert card("photos", 1, *photos) == closed
    assert card("photos", 2, *photos, "--shippable") == closed, "its first shard stays what it is"
    assert card("said", 1, *photos, "--shippable") == closed | {"shippable": True}
    # Shards over photos beside plain ones close the folder, however the next ones are made.
    assert card("plain", 1, *photos)["shippable"], "nothing was made"
    assert card("plain", 2, *photos) == closed
    assert card("plain", 3) == closed


def test_a_coat_of_paint_belongs_to_the_thing():
    rng = np.random.default_rng(0)
    picture, points = rng.uniform(0, 255, (16, 16, 3)), rng.normal(0, 0.05, (50, 3))
    for _ in range(12):
        paint = random_paint(rng, picture)
        colors = paint(points)
        assert colors.shape == (50, 3) and np.isfinite(colors).all() and colors.min() >= 0
        np.testing.assert_array_equal(paint(points), colors)
        assert paint(points[:0]).shape == (0, 3)


def test_poses_keep_to_limits_and_do_not_sink_in():
    model, rng = HandModel.load(), np.random.default_rng(2)
    angles, shape, holds = sample_hands(model, rng, 300)
    low, high = model.joint_limits.T
    assert (angles >= low).all() and (angles <= high).all() and shape.shape == (300, 10)
    assert 0.02 < holds.mean() < 0.4
    joints = model.pose(angles, shape, "right").joints
    tips = joints[:, [4, 8, 12, 16, 20]]
    gap = np.linalg.norm(tips[:, :, None] - tips[:, None], axis=-1) + np.eye(5)
    assert gap.min() > 0.009
    # Fists and straight hands both occur.
    bend = angles[:, [8, 12, 16, 20]].mean(1)
    assert (bend < 0.3).mean() > 0.1 and (bend > 1.2).mean() > 0.1


def test_the_curriculum_rises_and_stays():
    levels = [harshness_of(k) for k in (0, 20, 60, 1000)]
    assert levels[0] < levels[1] < levels[2] == levels[3] <= 1


def test_backgrounds_of_an_empty_folder_and_a_damaged_shard_are_named(tmp_path):
    with pytest.raises(InputError, match="background folder"):
        Backgrounds(0, tmp_path)
    (tmp_path / "shard_00000.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read"):
        read_shard(tmp_path / "shard_00000.npz")


def test_intrinsics_of_a_crop_are_those_of_a_camera_that_looks_at_its_middle(crops):
    camera = crops[0].camera * CROP_SIDE
    assert CameraIntrinsics(CROP_SIDE, CROP_SIDE, *camera[:2], *(camera[2:] - 0.5)).cx == (CROP_SIDE - 1) / 2
