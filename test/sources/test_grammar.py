"""The grammar of sources, and what all sources share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator

import numpy as np
import pytest
from PIL import Image

from hoi_ros.config import make_config
from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame
from hoi_ros.errors import InputError
from hoi_ros.sources import SOURCE_KINDS, Source, SourceConfig, open_source
from hoi_ros.sources.grammar import _OPENERS, parse_source


class CountingSource(Source):
    """Ten frames, 0.1 s apart, that remember how often they were opened and released."""

    fps = 10.0

    def __init__(self, config: SourceConfig | None = None) -> None:
        super().__init__("counting", config or SourceConfig())
        self.opened = self.released = 0

    def _total_frames(self) -> int:
        return 10

    def _frames(self, start: int) -> Generator[RgbdFrame, None, None]:
        self.opened += 1
        try:
            for i in range(start, 10):
                color = np.full((2, 2, 3), i, np.uint8)
                yield RgbdFrame(color, CameraIntrinsics.from_fov(2, 2), 5_000 + i * 100_000_000, i)
        finally:
            self.released += 1


def test_every_kind_has_an_opener():
    assert set(SOURCE_KINDS) == set(_OPENERS)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("sim", ("sim", "")),
        ("sim:rotate:mug", ("sim", "rotate:mug")),
        ("video:a:b.mp4", ("video", "a:b.mp4")),
        ("webcam:/dev/video3", ("webcam", "3")),
        ("webcam", ("webcam", "")),
        ("realsense:0123", ("realsense", "0123")),
        ("topics", ("topics", "")),
    ],
)
def test_specs_are_split_at_the_first_colon(spec, expected):
    assert parse_source(spec) == expected


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("vidoe:a.mp4", "did you mean 'video'"),
        ("realsens", "did you mean 'realsense'"),
        ("", "choose one of: bag, images"),
        ("video", "video:FILE"),
        ("bag:", "bag:PATH"),
        ("topics:x", "takes no argument"),
        ("webcam:front", "webcam:0"),
        ("topics", "only on ROS"),
    ],
)
def test_unusable_specs_name_the_remedy(spec, words):
    with pytest.raises(InputError, match=r"^[^\n]*$") as caught:
        open_source(spec)
    assert words in str(caught.value)


def test_bare_path_is_told_its_kind(tmp_path):
    film = tmp_path / "a.mp4"
    film.touch()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "both" / "depth").mkdir(parents=True)
    (tmp_path / "rec.mcap").touch()
    for path, kind in ((film, "video"), (tmp_path / "pictures", "images"), (tmp_path / "both", "rgbd"),
                       (tmp_path / "rec.mcap", "bag")):  # fmt: skip
        with pytest.raises(InputError, match=f"did you mean '{kind}:"):
            open_source(str(path))


@pytest.mark.parametrize("kind", ["video", "images", "rgbd", "bag"])
def test_missing_path_is_named(kind, tmp_path):
    with pytest.raises(InputError, match=r"missing.*check the path"):
        open_source(f"{kind}:{tmp_path / 'missing'}")


@pytest.mark.parametrize(
    ("values", "words"), [({"fov_deg": 0.0}, "range"), ({"fvo_deg": 60.0}, "fov_deg"), ({"max_frames": -1}, "range")]
)
def test_settings_are_checked(values, words):
    with pytest.raises(InputError, match=words):
        make_config(SourceConfig, values)


@pytest.mark.parametrize(
    ("start", "limit", "expected"), [(0, 0, range(10)), (7, 0, range(7, 10)), (2, 3, range(2, 5)), (8, 5, range(8, 10))]
)
def test_limits(start, limit, expected):
    source = CountingSource(SourceConfig(start_frame=start, max_frames=limit))
    assert [frame.index for frame in source] == list(expected)
    assert source.frame_count == len(expected)
    assert source.opened == source.released == 1


def test_loop_runs_stamps_and_numbers_on():
    source = CountingSource(SourceConfig(loop=True, start_frame=6, max_frames=11))
    frames = list(source)
    assert [frame.index for frame in frames] == list(range(6, 17))
    assert [frame.color[0, 0, 0] for frame in frames] == [6, 7, 8, 9, 6, 7, 8, 9, 6, 7, 8]
    assert set(np.diff([frame.stamp_ns for frame in frames])) == {100_000_000}
    assert source.frame_count == 11


def test_endless_loop_has_no_count():
    assert CountingSource(SourceConfig(loop=True)).frame_count is None


def test_start_past_the_end_is_refused(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="start_frame 3 lies past the end"):
        open_source(f"images:{tmp_path}", SourceConfig(start_frame=3))


def test_closing_releases_a_running_iteration_and_ends_the_source():
    with CountingSource() as source:
        iterator = iter(source)
        next(iterator)
        assert (source.opened, source.released) == (1, 0)
    assert source.released == 1
    assert list(iterator) == []
    with pytest.raises(ValueError, match="closed source counting"):
        iter(source)
    source.close()


def test_iterating_again_starts_again():
    source = CountingSource()
    assert [f.index for f in source] == [f.index for f in source]


def test_guess_is_stated_once(caplog):
    source = CountingSource(SourceConfig(fov_deg=90.0))
    cameras = [source.guessed_intrinsics(640, 480) for _ in range(3)]
    assert cameras[0].fx == pytest.approx(320.0)
    assert cameras[0].guessed and source.intrinsics_guessed
    assert len(caplog.records) == len(source.warnings) == 1
    assert "90 degrees" in source.warnings[0]


def test_importing_the_sources_is_light():
    code = (
        "import sys, hoi_ros.sources as s\n"
        "heavy = set('cv2 av rosbags open3d torch PIL pyrealsense2 apsw scipy'.split()) & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
