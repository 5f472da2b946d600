"""A guessed focal length: read off pointmaps, pooled over pictures, and never looked for where it is given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scenes import CAMERA, box_layer, frame, pose
from test_pointmap_guide import TINY, Scene
from test_pointmap_tracker import ALONE

from hoi_ros.datatypes import CameraIntrinsics
from hoi_ros.tracking.pointmap_guide import PointmapGuide
from hoi_ros.tracking.pointmap_intrinsics import ENOUGH, GUESS_SIGMA, FocalBelief, focal_from_pointmap
from hoi_ros.tracking.pointmap_network import PointmapNetwork
from hoi_ros.tracking.pointmap_stream import PairPointmaps
from hoi_ros.tracking.pointmap_tracker import ColorTracker

GUESS = CameraIntrinsics.from_fov(640, 480)


def test_the_focal_length_is_read_off_a_pointmap():
    rng = np.random.default_rng(0)
    focal = 310.0
    v, u = np.mgrid[:96, :128].astype(float)
    depth = 0.5 + 0.1 * rng.random((96, 128))
    points = np.stack([(u - 63.5) / focal * depth, (v - 47.5) / focal * depth, depth], -1) * 2.3
    assert focal_from_pointmap(points, np.ones((96, 128))) == pytest.approx(focal, rel=1e-6)
    noisy = points + rng.normal(size=points.shape) * 0.01
    assert focal_from_pointmap(noisy, np.ones((96, 128))) == pytest.approx(focal, rel=0.01)
    noisy[rng.random((96, 128)) < 0.1] += 0.5
    assert focal_from_pointmap(noisy, np.ones((96, 128))) == pytest.approx(focal, rel=0.05)
    assert np.isnan(focal_from_pointmap(-points, np.ones((96, 128))))


def test_without_evidence_the_guess_stays_and_says_how_sure_it_is():
    belief = FocalBelief(GUESS)
    belief.learn(float("nan"))
    assert belief.estimate.focal_px == pytest.approx(GUESS.fx) and belief.estimate.sigma == GUESS_SIGMA
    assert belief.estimate.fov_deg == pytest.approx(60) and not belief.settled


def test_pictures_outweigh_the_guess_and_outliers_do_not():
    rng = np.random.default_rng(0)
    belief, true = FocalBelief(GUESS), 1.4 * GUESS.fx
    for k in range(ENOUGH):
        assert not belief.settled
        belief.learn(3e3 if k == 2 else true * float(np.exp(rng.normal() * 0.05)))
    found = belief.estimate
    assert belief.settled and 0.05 < found.sigma < 0.5 * GUESS_SIGMA
    assert GUESS.fx * 1.25 < found.focal_px < true * 1.03
    assert abs(np.log(true / found.focal_px)) < 2 * found.sigma
    assert f"{found.focal_px:.0f} px" in str(found) and f"fov_deg={found.fov_deg:.0f}" in str(found)


def test_pictures_that_contradict_each_other_say_less():
    agreeing, quarrelling = FocalBelief(GUESS), FocalBelief(GUESS)
    for share in np.exp(np.linspace(-1, 1, ENOUGH)):
        agreeing.learn(700.0)
        quarrelling.learn(700.0 * share)
    assert quarrelling.estimate.sigma > 1.5 * agreeing.estimate.sigma
    assert quarrelling.estimate.focal_px < agreeing.estimate.focal_px


def camera_guide(true_px: float) -> PointmapGuide:
    """A network that counts from the camera and is right: a bumpy wall, seen with another focal length than guessed."""
    guide = PointmapGuide(PointmapNetwork(replace(TINY, output="camera")))
    relief = np.random.default_rng(0).uniform(0.8, 1.2, (TINY.image_px, TINY.image_px, 1))

    def ask(first, second):
        guessed = first.crop.half_tangent
        true = guessed * first.crop.intrinsics.fx / true_px
        axis = (np.arange(TINY.image_px) - (TINY.image_px - 1) / 2) / (TINY.image_px / 2) * true
        rays = np.concatenate([np.stack(np.meshgrid(axis, axis), -1), np.ones(relief.shape)], -1)
        points = (rays * relief - [0, 0, 1]) / guessed
        ones = np.ones(relief.shape[:2])
        return PairPointmaps(points, points, ones, ones)

    ask.forget = lambda index: None
    guide._ask = ask
    return guide


def test_the_guide_reads_the_focal_length_off_the_whole_picture():
    picture = frame(box_layer(pose((10, 20, 0), (0, 0, 0.5))))
    for true in (0.7, 1.0, 1.6):
        found = camera_guide(true * CAMERA.fx).focal_px(picture)
        assert found == pytest.approx(true * CAMERA.fx, rel=1e-6)


def test_a_network_that_counts_from_the_camera_is_asked_through_its_own_points():
    class Pinhole(PointmapNetwork):
        def decode(self, first, second, size):
            answer = super().decode(first, second, size)
            axis = (torch.arange(size[0]) - (size[0] - 1) / 2) / (size[0] / 2) * 0.3
            v, u = torch.meshgrid(axis, axis, indexing="ij")
            rays = torch.stack([u, v, torch.ones_like(u)], -1)
            depth = 3 + torch.rand(size, generator=torch.Generator().manual_seed(0))[..., None]
            return replace(answer, points=(rays * depth).expand(1, 2, *size, 3))

    guide = PointmapGuide(Pinhole(replace(TINY, output="camera")))
    found = guide.focal_px(frame(box_layer(pose((10, 20, 0), (0, 0, 0.5)))))
    assert found == pytest.approx((CAMERA.height - 1) / 2 / 0.3, rel=1e-4)


def track(guessed: bool, guide: PointmapGuide | None, turns=range(0, 120, 6)) -> tuple[ColorTracker, list[np.ndarray]]:
    """The tracker after a box was turned in the hand, and the poses it gave."""
    scene, tracker = Scene([0, 0, 0, 0, *turns]), ColorTracker(ALONE)
    tracker._guide = scene.guide()
    if guide is not None:
        tracker._guide.sees_focal, tracker._guide.focal_px = True, guide.focal_px
    poses = []
    for picture, estimate in zip(scene.frames, scene.hands):
        picture = replace(picture, intrinsics=replace(picture.intrinsics, guessed=guessed))
        seen = tracker.track(picture, [estimate])
        if seen.T_camera_object is not None:
            poses.append(seen.T_camera_object)
    return tracker, poses


def test_a_guessed_camera_is_asked_about_and_the_poses_stay_as_they_are():
    asked, poses = track(True, camera_guide(1.3 * CAMERA.fx))
    assert asked.focal is not None
    assert 1.15 * CAMERA.fx < asked.focal.focal_px < 1.3 * CAMERA.fx and asked.focal.guessed_px == CAMERA.fx
    given, others = track(False, camera_guide(1.3 * CAMERA.fx))
    assert given.focal is None and len(poses) > 10
    np.testing.assert_array_equal(poses, others)
    assert track(True, None)[0].focal is None
