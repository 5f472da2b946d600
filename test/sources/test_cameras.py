"""Cameras: stand-ins for the drivers, since no camera is needed to test what happens around it."""

from __future__ import annotations

import json
import sys
import threading
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from hoi_ros.errors import InputError, MissingLibraryError
from hoi_ros.sources import SourceConfig, default_source, open_source, presence
from hoi_ros.sources.presence import webcam_numbers

QUICK = {"retry_s": 0.02, "open_timeout_s": 0.5}


def wait_until(condition, timeout_s=5.0):
    """Poll until `condition()`; fail when it never comes true."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "the condition never came true"
        time.sleep(0.005)


class FakeWebcams:
    """Stands for cv2.VideoCapture; picture number n is n everywhere."""

    def __init__(self, count=1, shape=(48, 64, 3)):
        self.count, self.shape = count, shape
        self.plugged, self.gives = True, True
        self.grabbed = self.alive = 0
        self.period_s = 0.004

    def __call__(self, number, _api):
        return FakeCapture(self, number)


class FakeCapture:
    def __init__(self, cameras, number):
        self.cameras = cameras
        self.open = cameras.plugged and number < cameras.count
        cameras.alive += 1

    def isOpened(self):
        return self.open

    def set(self, _key, _value):
        return True

    def get(self, _key):
        return 25.0

    def grab(self):
        time.sleep(self.cameras.period_s)
        if not (self.cameras.plugged and self.cameras.gives):
            return False
        self.cameras.grabbed += 1
        return True

    def retrieve(self):
        picture = np.full(self.cameras.shape, self.cameras.grabbed % 256, np.uint8)
        if picture.ndim == 3:
            picture[..., 2] = 200  # red, in OpenCV's order
        return True, picture

    def read(self):
        return self.retrieve() if self.grab() else (False, None)

    def release(self):
        self.cameras.alive -= 1


@pytest.fixture
def webcams(monkeypatch):
    cameras = FakeWebcams()
    monkeypatch.setattr(cv2, "VideoCapture", cameras)
    return cameras


def test_webcam_gives_rgb_and_the_computers_time(webcams, nothing_leaks):
    before = time.time_ns()
    with open_source("webcam", SourceConfig(max_frames=5)) as source:
        frames = list(source)
    assert len(frames) == 5 and source.live and source.fps == 25.0
    assert all((frame.color[..., 0] == 200).all() for frame in frames)
    stamps = [before, *(frame.stamp_ns for frame in frames), time.time_ns()]
    assert stamps == sorted(stamps)
    assert frames[0].intrinsics.guessed and len(source.warnings) == 1
    assert webcams.alive == 0


def test_gray_webcam(webcams):
    webcams.shape = (48, 64)
    with open_source("webcam") as source:
        assert next(iter(source)).color.shape == (48, 64, 3)


def test_slow_reader_gets_the_newest_picture(webcams):
    with open_source("webcam") as source:
        frames = iter(source)
        first = next(frames)
        wait_until(lambda: webcams.grabbed > 20)
        later = next(frames)
        assert later.index >= first.index + 15
        assert next(frames).index > later.index


def test_webcam_comes_back_after_an_unplug(webcams, caplog, nothing_leaks):
    with open_source("webcam", SourceConfig(**QUICK)) as source:
        frames = iter(source)
        next(frames)
        webcams.plugged = False
        wait_until(lambda: source.status)
        assert "lost" in source.status
        time.sleep(0.2)  # several tries
        webcams.plugged = True
        wait_until(lambda: not source.status)
        count = webcams.grabbed
        wait_until(lambda: webcams.grabbed > count + 3)
        assert next(frames).index > 0
    messages = [record.getMessage() for record in caplog.records]
    assert sum("lost" in m for m in messages) == 1 and sum("back" in m for m in messages) == 1
    assert webcams.alive == 0


def test_closing_ends_a_reader_that_waits_for_an_unplugged_camera(webcams, nothing_leaks):
    source = open_source("webcam", SourceConfig(**QUICK))
    got = []
    reader = threading.Thread(target=lambda: got.extend(source))
    reader.start()
    wait_until(lambda: len(got) > 2)
    webcams.plugged = False
    wait_until(lambda: source.status)
    source.close()
    reader.join(timeout=2.0)
    assert not reader.is_alive() and webcams.alive == 0


def test_failure_while_reading_reaches_the_reader(webcams, caplog):
    with open_source("webcam") as source:
        frames = iter(source)
        next(frames)
        webcams.shape = (48,)
        with pytest.raises((ValueError, IndexError, cv2.error)):
            list(frames)


@pytest.mark.parametrize(("change", "words"), [({"count": 0}, "cannot be opened"), ({"gives": False}, "no picture")])
def test_unusable_webcam_is_refused(webcams, change, words, nothing_leaks):
    vars(webcams).update(change)
    with pytest.raises(InputError, match=words):
        open_source("webcam:0")
    assert webcams.alive == 0


def test_webcam_camera_file(webcams, tmp_path):
    (tmp_path / "cam.json").write_text(json.dumps({"fx": 50, "fy": 51, "cx": 30, "cy": 20, "width": 64, "height": 48}))
    with open_source("webcam", SourceConfig(camera_file=str(tmp_path / "cam.json"))) as source:
        assert next(iter(source)).intrinsics.fy == 51 and not source.warnings


class FakeRealSense(SimpleNamespace):
    """Stands for the module pyrealsense2 with one or more cameras at its USB ports."""

    def __init__(self, serials=("111", "222")):
        super().__init__()
        self.serials = list(serials)
        self.number, self.skip, self.started, self.pipelines = 0, 0, 0, 0
        self.enabled, self.options = [], {}
        self.domain = "global"
        self.intrinsics = SimpleNamespace(width=8, height=6, fx=9.0, fy=9.5, ppx=3.5, ppy=2.5, coeffs=[0.0] * 5)
        self.error = None
        self.stream = SimpleNamespace(color="color", depth="depth")
        self.format = SimpleNamespace(rgb8="rgb8", z16="z16")
        self.option = SimpleNamespace(global_time_enabled="global_time")
        self.camera_info = SimpleNamespace(serial_number="serial")
        self.timestamp_domain = SimpleNamespace(hardware_clock="hardware", global_time="global")

    def context(self):
        return SimpleNamespace(
            query_devices=lambda: [SimpleNamespace(get_info=lambda _k, s=s: s) for s in self.serials]
        )

    def config(self):
        return SimpleNamespace(
            enable_device=lambda serial: self.enabled.append(serial),
            enable_stream=lambda *what: self.enabled.append(what),
        )

    def align(self, target):
        assert target == "color"
        return SimpleNamespace(process=lambda frames: frames)

    def pipeline(self):
        return FakePipeline(self)


class FakePipeline:
    def __init__(self, module):
        self.module = module

    def start(self, _config):
        if self.module.error:
            raise RuntimeError(self.module.error)
        self.module.pipelines += 1
        self.module.started += 1
        sensor = SimpleNamespace(supports=lambda key: True, set_option=self.module.options.__setitem__)
        device = SimpleNamespace(
            query_sensors=lambda: [sensor],
            first_depth_sensor=lambda: SimpleNamespace(get_depth_scale=lambda: 0.0005),
        )
        video = SimpleNamespace(get_intrinsics=lambda: self.module.intrinsics)
        stream = SimpleNamespace(as_video_stream_profile=lambda: video)
        return SimpleNamespace(get_device=lambda: device, get_stream=lambda _kind: stream)

    def wait_for_frames(self, timeout_ms):
        module = self.module
        time.sleep(0.004)
        if not module.serials:
            time.sleep(0.02)
            raise RuntimeError(f"Frame didn't arrive within {timeout_ms}")
        module.number += 1 + module.skip
        color = FakeFrame(np.full((6, 8, 3), module.number % 256, np.uint8), module)
        depth = FakeFrame(np.full((6, 8), 2000, np.uint16), module)
        return SimpleNamespace(get_color_frame=lambda: color, get_depth_frame=lambda: depth)

    def stop(self):
        self.module.pipelines -= 1


class FakeFrame:
    def __init__(self, pixels, module):
        self.pixels, self.number, self.domain = pixels, module.number, module.domain

    def get_data(self):
        return self.pixels

    def get_frame_number(self):
        return self.number

    def get_timestamp(self):
        return (1_700_000_000_000 if self.domain == "global" else 5_000) + self.number * 33.25

    def get_frame_timestamp_domain(self):
        return self.domain


@pytest.fixture
def realsense(monkeypatch):
    module = FakeRealSense()
    monkeypatch.setitem(sys.modules, "pyrealsense2", module)
    return module


def test_realsense_frames(realsense, nothing_leaks):
    with open_source("realsense:222", SourceConfig(max_frames=4)) as source:
        frames = list(source)
    assert realsense.enabled[:3] == ["222", ("color", 640, 480, "rgb8", 30), ("depth", 640, 480, "z16", 30)]
    assert realsense.options == {"global_time": 1} and realsense.pipelines == 0
    frame = frames[0]
    assert frame.depth_m.dtype == np.float32 and np.allclose(frame.depth_m, 1.0)
    camera = frame.intrinsics
    assert (camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy) == (8, 6, 9.0, 9.5, 3.5, 2.5)
    assert not camera.guessed and source.live and source.has_depth and not source.warnings
    assert abs(frame.stamp_ns - 1_700_000_000_033_250_000) < 1e9
    assert np.diff([f.stamp_ns for f in frames]).min() >= 33_000_000


def test_realsense_counts_what_the_sensor_dropped(realsense):
    with open_source("realsense") as source:
        assert source.dropped_frames == 0
        realsense.skip = 2
        wait_until(lambda: source.dropped_frames >= 6)
        assert source.dropped_frames % 2 == 0


def test_realsense_clock_that_does_not_count_from_1970_is_shifted(realsense):
    realsense.domain = "hardware"
    with open_source("realsense") as source:
        frames = iter(source)
        a, b = next(frames), next(frames)
    assert abs(a.stamp_ns - time.time_ns()) < 5e9
    assert (b.stamp_ns - a.stamp_ns) % 33_250_000 == 0


def test_realsense_comes_back_after_an_unplug(realsense, caplog, nothing_leaks):
    with open_source("realsense", SourceConfig(**QUICK)) as source:
        frames = iter(source)
        next(frames)
        realsense.serials.clear()
        wait_until(lambda: source.status)
        realsense.serials[:] = ["222"]  # another camera is not taken for the lost one
        time.sleep(0.1)
        assert source.status
        realsense.serials[:] = ["222", "111"]
        wait_until(lambda: not source.status)
        assert realsense.enabled[-3] == "111" and realsense.started == 2
        next(frames), next(frames)
        assert source.dropped_frames == 0
    assert realsense.pipelines == 0
    messages = [record.getMessage() for record in caplog.records]
    assert sum("lost" in m for m in messages) == 1 and sum("back" in m for m in messages) == 1


def test_realsense_refusals(realsense, monkeypatch, nothing_leaks):
    with pytest.raises(InputError, match=r"no RealSense with serial 333: connected are 111, 222"):
        open_source("realsense:333")
    realsense.error = "Couldn't resolve requests"
    with pytest.raises(InputError, match=r"does not start.*resolve requests.*640x480"):
        open_source("realsense")
    realsense.error = None
    realsense.intrinsics.fx = 0.0
    with pytest.raises(InputError, match="not usable"):
        open_source("realsense")
    assert realsense.pipelines == 0
    realsense.serials.clear()
    with pytest.raises(InputError, match="no RealSense found"):
        open_source("realsense")
    monkeypatch.setitem(sys.modules, "pyrealsense2", None)
    with pytest.raises(MissingLibraryError, match="pip install pyrealsense2") as caught:
        open_source("realsense")
    assert isinstance(caught.value, ImportError) and isinstance(caught.value, InputError)


def test_default_source_takes_the_first_that_exists(realsense, webcams, monkeypatch):
    monkeypatch.setattr(presence, "webcam_numbers", lambda: [0, 1])
    spec, reason = default_source()
    assert spec == "realsense:111" and "111" in reason
    realsense.serials.clear()
    spec, reason = default_source()
    assert spec == "webcam:0" and "no RealSense is connected" in reason
    webcams.gives = False
    spec, reason = default_source()
    assert spec == "sim" and "none of /dev/video0, /dev/video1 gives a picture" in reason
    monkeypatch.setattr(presence, "webcam_numbers", list)
    monkeypatch.setitem(sys.modules, "pyrealsense2", None)
    spec, reason = default_source()
    assert spec == "sim" and "pip install pyrealsense2" in reason and "no webcam" in reason
    assert "\n" not in reason and webcams.alive == 0


def test_webcam_numbers(tmp_path):
    for name in ("video10", "video2", "video-dec", "vbi0"):
        (tmp_path / name).touch()
    assert webcam_numbers(tmp_path) == [2, 10]
