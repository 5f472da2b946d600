"""Old views of a thing that colour alone follows: found where they show again, and the drift since taken back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scenes import CAMERA, box_layer, frame, mask_of, pose
from test_pointmap_tracker import ALONE, course, follow

from hoi_ros.geometry import invert_transform, rotation_angle, transform_points
from hoi_ros.tracking import pointmap_loops, pointmap_tracker
from hoi_ros.tracking.pointmap_loops import AWAY_RAD, FRAMES_BETWEEN, MOST_VIEWS, NEAR_RAD, OldViews
from hoi_ros.tracking.pointmap_object import FollowedObject
from hoi_ros.tracking.pointmap_places import unprojected
from hoi_ros.tracking.pointmap_seeding import take_in
from hoi_ros.tracking.pointmap_structure import projected
from hoi_ros.tracking.pointmap_tracker import ColorTracker

HALF = (0.055, 0.06, 0.03)
THEN = pose((10, 20, 0), (0, -0.02, 0.42))
FAR = pose((10, 75, 0), (0.02, -0.02, 0.42))
BACK = pose((12, 24, 2), (0.01, -0.03, 0.43))
DRIFTED = pose((15, 37, -2), (0.016, -0.026, 0.446))


def turned(pose_: np.ndarray, other: np.ndarray) -> float:
    """Degrees."""
    return float(np.degrees(rotation_angle(pose_[:3, :3] @ other[:3, :3].T)))


def picture(T: np.ndarray, textured: bool = True, index: int = 0) -> np.ndarray:
    """(H, W) uint8."""
    return cv2.cvtColor(frame(box_layer(T, HALF, textured), index=index).color, cv2.COLOR_RGB2GRAY)


def shown(T: np.ndarray) -> np.ndarray:
    return mask_of(box_layer(T, HALF))


def followed() -> FollowedObject:
    """The box as met at THEN, its points at their true depths."""
    depth = box_layer(THEN, HALF)[0]
    inner = cv2.erode(np.isfinite(depth).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    rows, columns = (n[::60] for n in np.nonzero(inner))
    track = FollowedObject(0, THEN)
    take_in(track, np.stack([columns, rows], 1).astype(float), depth[rows, columns], 0.01, CAMERA)
    track.old_views.remember(THEN, np.arange(len(track.points)), track.pixels, picture(THEN), 0.0)
    return track


def look(track: FollowedObject, T_thought: np.ndarray, T_true: np.ndarray, textured: bool = True) -> bool:
    """Frames until an old view must have been looked for; whether one was found."""
    track.pose = T_thought
    now, where = picture(T_true, textured, 7), shown(T_true)
    return any([track.close_loop(now, where, CAMERA) for _ in range(FRAMES_BETWEEN)])


def went_away(track: FollowedObject) -> FollowedObject:
    """Turned until nothing of the first view is followed."""
    assert not look(track, FAR, FAR)
    track.alive[:] = False
    track.travelled = np.radians(130.0)
    return track


def test_where_a_side_shows_again_the_drift_is_taken_back():
    track = went_away(followed())
    assert turned(DRIFTED, BACK) > 11
    assert look(track, DRIFTED, BACK)
    assert turned(track.pose, BACK) < 1.5 and np.linalg.norm(track.pose[:3, 3] - BACK[:3, 3]) < 0.006
    true = transform_points(BACK, transform_points(invert_transform(THEN), THEN[None, :3, 3]))
    assert np.linalg.norm(transform_points(track.pose, np.zeros((1, 3))) - true) < 0.006
    assert track.alive.sum() > 0.5 * len(track.points)
    assert np.allclose(track.keyframes[0].T_camera_object, THEN)


def test_the_turn_is_as_sure_again_as_it_was_then():
    track = went_away(followed())
    assert look(track, DRIFTED, BACK)
    assert track.travelled == pytest.approx(np.radians(turned(DRIFTED, track.pose)))


def test_what_was_met_since_then_is_followed_on_only_where_it_agrees():
    track = went_away(followed())
    known = len(track.points)
    places = np.array([[150.0, 100.0], [170.0, 110.0]])
    track.pose = DRIFTED
    take_in(track, places, np.full(2, 0.4), 0.01, CAMERA)
    # One lies where BACK shows it too, the other where the drift put it.
    at = unprojected(places[:1], 0.4, CAMERA)
    track.points[known] = transform_points(invert_transform(BACK), at)[0]
    assert look(track, DRIFTED, BACK)
    assert track.alive[known] and not track.alive[known + 1]


def test_a_side_without_its_print_is_not_taken_for_it():
    track = went_away(followed())
    assert not look(track, DRIFTED, BACK, textured=False)
    assert np.array_equal(track.pose, DRIFTED) and not track.alive.any()


def test_another_side_is_not_taken_for_it():
    other = pose((10, 200, 0), (0, -0.02, 0.42))
    track = went_away(followed())
    assert not look(track, DRIFTED, other)
    assert np.array_equal(track.pose, DRIFTED)


def test_a_sliver_of_it_is_not_enough():
    track, now, where = went_away(followed()), picture(BACK, index=7), shown(BACK)
    sliver = where & (np.arange(CAMERA.width) < np.percentile(np.flatnonzero(where.any(0)), 25))
    track.pose = DRIFTED
    assert not any([track.close_loop(now, sliver, CAMERA) for _ in range(FRAMES_BETWEEN)])
    assert np.array_equal(track.pose, DRIFTED)


@pytest.mark.parametrize(("astray", "closed"), [(0.2, True), (0.6, False)])
def test_places_that_no_pose_explains_are_not_enough(monkeypatch, astray, closed):
    track = went_away(followed())

    def places(flow, pixels, start):
        rng = np.random.default_rng(0)
        found = projected(track.points, BACK, CAMERA)[0]
        wrong = rng.random(len(found)) < astray
        return np.where(wrong[:, None], found + rng.uniform(-25, 25, found.shape), found), np.ones(len(found), bool)

    monkeypatch.setattr(pointmap_loops, "followed_patches", places)
    assert look(track, DRIFTED, BACK) == closed


def test_it_is_not_looked_for_before_it_was_gone_nor_where_its_points_are_followed_nor_far_from_it():
    near = followed()
    near.alive[:] = False
    assert not look(near, DRIFTED, BACK)  # never away
    track = went_away(followed())
    track.alive[:] = True
    assert not look(track, DRIFTED, BACK)
    track = went_away(followed())
    far = pose((10, 20 + np.degrees(NEAR_RAD) + 5, 0), (0, -0.02, 0.42))
    assert np.radians(turned(far, THEN)) > max(AWAY_RAD, NEAR_RAD)
    assert not look(track, far, BACK)


def test_few_views_are_remembered_the_first_of_them_for_good():
    views = OldViews()
    points, pixels, gray = np.arange(20), np.zeros((20, 2)), picture(THEN)
    views.remember(THEN, points, pixels, gray, 0.0)
    views.remember(pose((10, 22, 0)), points, pixels, gray, 0.0)  # the same side
    views.remember(pose((10, 60, 0)), points[:5], pixels[:5], gray, 0.0)  # too little of it
    assert len(views.views) == 1
    for k in range(60):
        views.remember(pose((0, 0, 6.5 * k % 360) if k % 2 else (6.5 * k % 360, 0, 0)), points, pixels, gray, k + 1.0)
    assert len(views.views) == MOST_VIEWS and views.views[0].travelled == 0.0
    assert views.views[-1].travelled > views.views[1].travelled > 10


def test_what_fingers_turn_and_turn_back_ends_nearer_to_where_it_was(monkeypatch):
    shares = [*[0.0] * 5, *np.linspace(0.1, 1, 10), *np.linspace(0.9, 0, 10), *[0.0] * 4]
    rest = pose((10, 20, 0), (0, -0.02, 0.42))
    rows = [(pose((10, 20 + 60 * s, 0), (0.02 * s, -0.02, 0.42)), rest) for s in shares]
    seen, (*_, (mended, truth, _)) = follow(rows)
    assert seen[-1].state == "tracking" and turned(truth, np.eye(4)) < 1e-6
    monkeypatch.setattr(OldViews, "find", lambda *_, **__: None)
    _, (*_, (drifted, _, _)) = follow(rows)
    assert turned(mended, np.eye(4)) < 0.6 * turned(drifted, np.eye(4))


def test_what_can_be_followed_no_longer_is_looked_for_at_once(monkeypatch):
    track = followed()
    track.alive[:] = False
    found = track.seen_before(DRIFTED, picture(BACK, index=7), shown(BACK), CAMERA)
    assert found is not None and turned(found.T_camera_object, BACK) < 1.5 and found.share == 1
    true = projected(track.points[found.points], BACK, CAMERA)[0]
    assert np.median(np.linalg.norm(found.pixels - true, axis=1)) < 1
    plain = picture(BACK, textured=False, index=7)
    assert track.seen_before(DRIFTED, plain, shown(BACK), CAMERA) is None
    patches = pointmap_loops.followed_patches

    def some_wrong(flow, old, guess):
        new, good = patches(flow, old, guess)
        new[np.flatnonzero(good)[::4]] += 12.0
        return new, good

    monkeypatch.setattr(pointmap_loops, "followed_patches", some_wrong)
    found = track.seen_before(DRIFTED, picture(BACK, index=7), shown(BACK), CAMERA)
    assert found is not None and 0.65 < found.share < 0.8


def test_old_views_alone_keep_a_thing_that_no_pixel_can_be_followed_of(monkeypatch):
    rows = course(24.0, held=False)
    lost = pointmap_tracker.followed_points

    def nothing(track, flow, guess, camera):
        pixels, fine = lost(track, flow, guess, camera)
        return pixels, fine & False

    monkeypatch.setattr(pointmap_tracker, "followed_points", nothing)
    tracker = ColorTracker(ALONE)
    _, (*_, (found, truth, _)) = follow(rows, tracker=tracker)
    assert turned(found, truth) < 0.8 * turned(truth, np.eye(4))
    # What was taken back is no motion that goes on.
    assert np.linalg.norm(tracker._object.spin) < 1e-3 and tracker._object.travelled < np.radians(3)
    monkeypatch.setattr(OldViews, "find", lambda *_, **__: None)
    _, (*_, (found, _, _)) = follow(rows)
    assert turned(found, truth) > 0.95 * turned(truth, np.eye(4))
