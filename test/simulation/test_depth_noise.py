"""Depth noise grows with the square of distance, has no bias, and leaves holes where a stereo camera does."""

from __future__ import annotations

import numpy as np

from hoi_ros.datatypes import CameraIntrinsics
from hoi_ros.simulation.depth_noise import DepthNoise

CAMERA = CameraIntrinsics(320, 240, 305.0, 305.0, 159.5, 119.5)


def errors_at(depth_m: float) -> np.ndarray:
    exact = np.full((240, 320), depth_m, np.float32)
    noisy = DepthNoise().apply(exact, CAMERA, np.random.default_rng(0))
    assert (noisy > 0).mean() > 0.99
    return (noisy - exact)[noisy > 0]


def test_axial_noise_grows_with_the_square_of_depth_and_is_zero_mean():
    near, far = errors_at(0.8), errors_at(1.6)
    assert 3.4 < far.std() / near.std() < 4.6
    assert abs(far.std() / DepthNoise().sigma_m(1.6, CAMERA.fx) - 1) < 0.1
    for errors in (near, far):
        assert abs(errors.mean()) < 0.03 * errors.std() + 1e-5


def test_depth_comes_in_whole_millimetres_and_not_from_too_near():
    noisy = DepthNoise().apply(np.full((240, 320), 0.7, np.float32), CAMERA, np.random.default_rng(0))
    steps = noisy[noisy > 0] * 1000
    assert np.abs(steps - np.round(steps)).max() < 1e-3
    near = DepthNoise().apply(np.full((240, 320), 0.1, np.float32), CAMERA, np.random.default_rng(0))
    assert not near.any()


def test_an_edge_gets_holes_on_one_side_and_flying_pixels():
    exact = np.full((240, 320), 1.2, np.float32)
    exact[60:180, 120:200] = 0.5
    noisy = DepthNoise().apply(exact, CAMERA, np.random.default_rng(0))
    left, right = noisy[70:170, 105:118], noisy[70:170, 203:216]
    assert (left == 0).mean() > 0.5
    assert (right == 0).mean() < 0.05
    assert ((noisy > 0.6) & (noisy < 1.1)).sum() > 20


def test_grazing_surfaces_lose_depth_and_facing_ones_do_not():
    rows = np.arange(240, dtype=np.float32)[:, None]
    plane = np.broadcast_to(1 / (0.3 + (239 - rows) / 60), (240, 320)).astype(np.float32)
    noisy = DepthNoise().apply(plane, CAMERA, np.random.default_rng(0))
    # Steepness of this plane: 305 / 60 * depth; the camera gives up beyond 6.25.
    assert (noisy[plane > 1.6] == 0).mean() > 0.5
    assert (noisy[(plane < 1.1) & (plane > 0.3)] == 0).mean() < 0.1


def test_same_seed_same_noise():
    exact = np.full((240, 320), 0.9, np.float32)
    a, b, c = (DepthNoise().apply(exact, CAMERA, np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
