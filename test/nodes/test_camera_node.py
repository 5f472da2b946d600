import time

import cv2
import numpy as np
import pytest
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from test_base_node import spin_until

from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame
from hoi_ros.errors import InputError
from hoi_ros.nodes import camera_node as module
from hoi_ros.nodes.camera_node import CameraNode, Pacer, StampClock
from hoi_ros.nodes.conversions import color_from_image, depth_from_image, stamp_of
from hoi_ros.nodes.frame_bus import FrameBus
from hoi_ros.nodes.qos import IMAGE_IN

pytestmark = pytest.mark.ros
MS = 1_000_000


class ListSource:
    """Frames from a list, as a source gives them."""

    live, has_depth, fps, status, warnings, frame_count = False, True, 100.0, "", (), None
    endless = False

    def __init__(self, frames, error=None):
        self.frames, self.error = frames, error

    def __iter__(self):
        yield from self.frames
        if self.error:
            raise self.error

    def close(self):
        pass


def make_frames(count=6):
    rng = np.random.default_rng(0)
    camera = CameraIntrinsics(32, 24, 30.0, 31.0, 15.5, 11.5)
    return [
        RgbdFrame(rng.integers(0, 256, (24, 32, 3), np.uint8), camera, i * 10 * MS, i,
                  rng.uniform(0.3, 1, (24, 32)).astype(np.float32))
        for i in range(count)
    ]  # fmt: skip


@pytest.fixture
def pictures(tmp_path):
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((24, 32, 3), 40 * i, np.uint8))
    return tmp_path


def test_stamps_move_to_the_ros_clock_and_keep_their_spacing():
    clock, now = StampClock(), 1_700_000_000_000 * MS
    out = [clock.stamp(i * 33 * MS, now + i * 33 * MS + jitter * MS) for i, jitter in enumerate((0, 9, -9, 30))]
    assert out == [now, now + 33 * MS, now + 57 * MS, now + 90 * MS], "the third was early: stamps are never ahead"
    assert clock.stamp(4 * 33 * MS, now + 900 * MS) == now + 900 * MS
    assert clock.stamp(0, now + 933 * MS) == now + 933 * MS


def test_a_hitch_does_not_make_every_later_stamp_old():
    clock, now = StampClock(), 1_700_000_000_000 * MS
    clock.stamp(0, now)
    ages = []
    for i in range(1, 60):
        moment = now + (i * 33 + 60 + i % 3) * MS
        ages.append(moment - clock.stamp(i * 33 * MS, moment))
    assert ages[0] == 61 * MS and max(ages[31:]) <= 2 * MS and min(ages) >= 0


def test_a_live_cameras_own_stamp_stays():
    now = 1_700_000_000_000 * MS
    assert StampClock().stamp(now - 40 * MS, now) == now - 40 * MS


def test_pacer_keeps_the_spacing_and_forgives_a_slow_frame():
    pacer = Pacer(0.1)
    assert pacer.delay_s(0, 10.0) == 0
    assert pacer.delay_s(0, 10.02) == pytest.approx(0.08)
    assert pacer.delay_s(0, 15.0) == 0
    assert pacer.delay_s(0, 15.0) == pytest.approx(0.0) and pacer.delay_s(0, 15.0) == pytest.approx(0.1)
    by_stamp = Pacer(None)
    by_stamp.delay_s(0, 1.0)
    assert by_stamp.delay_s(250 * MS, 1.0) == pytest.approx(0.25)


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_topics_and_bus_carry_the_same_frame(ros, monkeypatch, encoding):
    frames = make_frames()
    monkeypatch.setattr(module, "open_source", lambda spec, config: ListSource(frames))
    bus = FrameBus()
    slot = bus.frames.subscribe()
    node = CameraNode({"source": "rgbd:x", "stamps": "source", "depth_encoding": encoding}, bus)
    reader, executor, got = ros.create_node("reader"), SingleThreadedExecutor(), {}
    for kind, topic in ((Image, "color/image_raw"), (Image, "aligned_depth_to_color/image_raw"),
                        (CameraInfo, "color/camera_info")):  # fmt: skip
        got[topic] = []
        reader.create_subscription(kind, topic, got[topic].append, IMAGE_IN)
    executor.add_node(node)
    executor.add_node(reader)
    try:
        node.trigger_configure()
        spin_until(executor, lambda: node._color.get_subscription_count() and node._depth.get_subscription_count()
                   and node._info.get_subscription_count())  # fmt: skip
        node.trigger_activate()
        spin_until(executor, lambda: node.finished and all(len(v) == len(frames) for v in got.values()))
        for color, depth, info, frame in zip(*got.values(), frames):
            assert stamp_of(color) == stamp_of(depth) == stamp_of(info) == frame.stamp_ns
            assert color.header.frame_id == info.header.frame_id == frame.frame_id
            np.testing.assert_array_equal(color_from_image(color), frame.color)
            assert depth.encoding == encoding and info.k[0] == 30.0
        handed = slot.take(0)
        np.testing.assert_array_equal(handed.depth_m, depth_from_image(depth))
        assert np.abs(handed.depth_m - frames[-1].depth_m).max() <= (0.000501 if encoding == "16UC1" else 0)
        assert node.diagnostics.frames == len(frames) and node.diagnostics.state == "finished"
    finally:
        node.close()
        reader.destroy_node()
        executor.shutdown()


def test_a_file_waits_for_its_readers(ros, monkeypatch):
    monkeypatch.setattr(module, "open_source", lambda spec, config: ListSource(make_frames()))
    node, executor, got = CameraNode({"source": "rgbd:x", "readers": "late"}), SingleThreadedExecutor(), []
    node.autostart()
    executor.add_node(node)
    spin_until(executor, lambda: node.diagnostics.state == "waiting for late")
    reader = ros.create_node("late")
    executor.add_node(reader)
    for kind, topic in ((CameraInfo, "color/camera_info"), (Image, "aligned_depth_to_color/image_raw"),
                        (Image, "color/image_raw")):  # fmt: skip
        assert node.diagnostics.frames == 0
        reader.create_subscription(kind, topic, got.append, IMAGE_IN)
    try:
        spin_until(executor, lambda: node.finished and len(got) == 3 * 6)
    finally:
        node.close()
        reader.destroy_node()
        executor.shutdown()


def test_readers_that_never_come_do_not_hold_a_file_for_good(ros, monkeypatch):
    monkeypatch.setattr(module, "open_source", lambda spec, config: ListSource(make_frames()))
    monkeypatch.setattr(module, "READERS_TIMEOUT_S", 0.1)
    node, executor = CameraNode({"source": "rgbd:x", "readers": "nobody"}), SingleThreadedExecutor()
    node.autostart()
    executor.add_node(node)
    try:
        spin_until(executor, lambda: node.finished)
        assert node.diagnostics.frames == 6 and "nobody never came" in node.diagnostics._troubles["readers"][0]
    finally:
        node.close()
        executor.shutdown()


def test_a_folder_plays_looped_with_growing_stamps(ros, pictures):
    bus = FrameBus()
    slot = bus.frames.subscribe()
    node = CameraNode({"source": f"images:{pictures}", "loop": True, "rate_hz": 200.0, "max_frames": 8}, bus)
    node.autostart()
    frames, end = [], time.monotonic() + 5
    while not (node.finished and not slot.pending) and time.monotonic() < end:
        frame = slot.take(0.1)
        if frame is not None:
            frames.append(frame)
    node.close()
    stamps = [f.stamp_ns for f in frames]
    assert len(frames) >= 6 and stamps == sorted(set(stamps))
    assert abs(stamps[-1] * 1e-9 - time.time()) < 10


def test_consumed_pace_drops_nothing(ros, monkeypatch):
    monkeypatch.setattr(module, "open_source", lambda spec, config: ListSource(make_frames(12)))
    bus = FrameBus()
    slot = bus.frames.subscribe()
    node = CameraNode({"source": "rgbd:x", "pace": "consumed"}, bus)
    node.autostart()
    got = []
    while len(got) < 12:
        time.sleep(0.005)
        frame = slot.take(1.0)
        assert frame is not None
        got.append(frame.index)
    node.close()
    assert got == list(range(12)) and slot.dropped == 0


def test_close_frees_a_camera_that_waits_for_a_reader(ros, monkeypatch):
    monkeypatch.setattr(module, "open_source", lambda spec, config: ListSource(make_frames(12)))
    bus = FrameBus()
    bus.frames.subscribe()
    node = CameraNode({"source": "rgbd:x", "pace": "consumed"}, bus)
    node.autostart()
    time.sleep(0.1)
    begin = time.monotonic()
    node.close()
    assert time.monotonic() - begin < 2


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({}, "'source' is empty"),
        ({"source": "vidio:x"}, "did you mean 'video'"),
        ({"source": "images:/nowhere"}, "nowhere"),
        ({"source": "rgbd:x", "pace": "consumed"}, "composed"),
    ],
)
def test_a_bad_source_is_refused(ros, parameters, text):
    node = CameraNode(parameters)
    try:
        with pytest.raises(InputError, match=text):
            node.autostart()
    finally:
        node.close()


def test_a_file_that_breaks_off_is_said_and_ends(ros, monkeypatch):
    broken = ListSource(make_frames(2), InputError("film.mp4 is cut off: copy it again"))
    monkeypatch.setattr(module, "open_source", lambda spec, config: broken)
    node = CameraNode({"source": "video:film.mp4"}, FrameBus())
    node.autostart()
    end = time.monotonic() + 3
    while not node.finished and time.monotonic() < end:
        time.sleep(0.01)
    assert node.finished and node.diagnostics.frames == 2 and node.diagnostics.state == "source failed"
    assert any("cut off" in trouble[0] for trouble in node.diagnostics._troubles.values())
    told = {value.key: value.value for value in node.diagnostics.report(Header()).status[0].values}
    assert told["failure"] == "film.mp4 is cut off: copy it again"
    node.close()


@pytest.mark.parametrize("stopped", [True, False])
def test_a_source_that_fails_as_it_is_closed_by_a_stop_is_no_crash(ros, monkeypatch, stopped):
    closing = ListSource(make_frames(1), ValueError("generator already executing"))
    monkeypatch.setattr(module, "open_source", lambda spec, config: closing)
    node = CameraNode({"source": "video:film.mp4"}, FrameBus())

    def sent(frame, pacer):
        if stopped:
            node._stopping.set()
        return True

    monkeypatch.setattr(node, "_send", sent)
    node.autostart()
    node._thread.join(3)
    node.close()
    assert node.diagnostics.crashes == (0 if stopped else 1)


def test_a_live_camera_that_is_not_there_is_waited_for_and_comes_back(ros, monkeypatch):
    """Absent, then unplugged after two frames, then back."""
    tries = []

    def open_source(spec, config):
        tries.append(spec)
        if len(tries) == 1:
            raise InputError("webcam:0 is not plugged in: plug it in")
        source = ListSource(make_frames(2), OSError("unplugged"))
        source.live = True
        return source

    monkeypatch.setattr(module, "open_source", open_source)
    node = CameraNode({"source": "webcam:0", "retry_s": 0.05}, FrameBus())
    node.autostart()
    assert node.active
    end = time.monotonic() + 5
    while node.diagnostics.frames < 5 and time.monotonic() < end:
        time.sleep(0.01)
    node.close()
    assert node.diagnostics.frames >= 5 and len(tries) >= 4 and not node.finished
    texts = [trouble[0] for trouble in node.diagnostics._troubles.values()]
    assert any("plug it in" in t for t in texts) and any("unplugged" in t for t in texts)


def test_a_source_that_is_still_being_opened_is_waited_for_and_closed(ros, monkeypatch):
    closed = []

    class Slow(ListSource):
        def __init__(self):
            super().__init__([])
            time.sleep(0.3)

        def close(self):
            closed.append(True)

    monkeypatch.setattr(module, "open_source", lambda spec, config: Slow())
    node = CameraNode({"source": "sim"}, FrameBus())
    node.prepare()
    node.close()
    assert closed == [True]
