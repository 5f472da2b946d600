"""The simulator behind the face of a source."""

from __future__ import annotations

import numpy as np
import pytest

from hoi_ros.errors import InputError
from hoi_ros.sources import SourceConfig, open_source

SMALL = {"width": 160, "height": 120, "sim_settings": "sensor_noise=0 depth_noise=false"}


def test_settings_reach_the_simulator_and_limits_hold():
    config = SourceConfig(**SMALL, fps=10.0, seed=3, start_frame=2, max_frames=3)
    with open_source("sim:rotate", config) as source:
        frames = list(source)
        again = list(source)
    assert [f.index for f in frames] == [2, 3, 4] and source.frame_count == 3 and not source.endless
    assert source.simulator.config.seed == 3
    assert source.fps == 10.0 and np.diff([f.stamp_ns for f in frames]).tolist() == [100_000_000] * 2
    assert frames[0].color.shape == (120, 160, 3) and not frames[0].intrinsics.guessed
    np.testing.assert_array_equal(frames[0].depth_m, frames[0].truth.depth_m)
    np.testing.assert_array_equal(frames[1].color, again[1].color)


def test_without_limit_it_has_no_end():
    with open_source("sim:empty", SourceConfig(**SMALL)) as source:
        assert source.frame_count is None and source.endless and source.has_depth and not source.live


@pytest.mark.parametrize(
    ("spec", "settings", "words"),
    [
        ("sim:rotat", "", "rotate"),
        ("sim", "motion_blurr=true", "motion_blur"),
        ("sim", "sensor_noise=900", "range"),
        ("sim", "fast", "NAME=VALUE"),
        ("sim", "seed=[", "NAME=VALUE"),
    ],
)
def test_unknown_scene_and_settings_are_refused(spec, settings, words):
    with pytest.raises(InputError, match=words):
        open_source(spec, SourceConfig(sim_settings=settings))
