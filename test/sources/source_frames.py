"""Small frames that the tests of the sources share."""

from __future__ import annotations

import numpy as np

from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame

CAMERA = CameraIntrinsics(64, 48, 61.5, 60.25, 31.0, 24.5)


def make_frames(count: int, *, depth: bool = True, seed: int = 0, period_ns: int = 33_333_333) -> list[RgbdFrame]:
    """Random pictures; depth lies on whole millimetres with holes, so that 16 bit hold it exactly."""
    rng = np.random.default_rng(seed)
    frames = []
    for index in range(count):
        color = rng.integers(0, 256, (48, 64, 3), np.uint8)
        millimetres = rng.integers(200, 5000, (48, 64)).astype(np.float32)
        millimetres[rng.random((48, 64)) < 0.1] = 0
        depth_m = millimetres * np.float32(0.001) if depth else None
        stamp_ns = 1_700_000_000_123_456_789 + index * period_ns
        frames.append(RgbdFrame(color, CAMERA, stamp_ns, index, depth_m))
    return frames


def assert_same_frames(read: list[RgbdFrame], written: list[RgbdFrame]) -> None:
    """Colour, depth, stamp, number and camera equal bit for bit."""
    assert len(read) == len(written)
    for a, b in zip(read, written):
        np.testing.assert_array_equal(a.color, b.color)
        assert (a.depth_m is None) == (b.depth_m is None)
        if a.depth_m is not None:
            assert a.depth_m.dtype == np.float32
            np.testing.assert_array_equal(a.depth_m, b.depth_m)
        assert (a.stamp_ns, a.index, a.intrinsics) == (b.stamp_ns, b.index, b.intrinsics)
