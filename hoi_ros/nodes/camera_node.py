"""Publish any source as the topics of a camera driver."""

from __future__ import annotations

import dataclasses
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any

import numpy as np
from sensor_msgs.msg import CameraInfo, Image

from hoi_ros.datatypes import RgbdFrame
from hoi_ros.errors import InputError
from hoi_ros.nodes.base_node import HoiNode, run_node
from hoi_ros.nodes.conversions import camera_info_message, depth_to_millimetres, image_message, make_header
from hoi_ros.nodes.diagnostics import kind_of
from hoi_ros.nodes.frame_bus import FrameBus
from hoi_ros.nodes.inputs import COLOR_TOPIC, DEPTH_TOPIC, INFO_TOPIC
from hoi_ros.nodes.node_configs import CameraNodeConfig, NodeConfig
from hoi_ros.nodes.qos import IMAGE_OUT
from hoi_ros.sources import SourceConfig, open_source

LIVE_KINDS = ("realsense", "webcam")
DEFAULT_RATE_HZ = 30.0
OPENING_TIMEOUT_S, OPENING_POLL_S = 20.0, 0.1
READERS_TIMEOUT_S, READERS_POLL_S, READERS_SETTLE_S, READERS_UNNAMED_S = 30.0, 0.05, 0.3, 1.0
"""How long a file waits for its readers, how often it looks, what they get to find each other; and how long as many
readers as are expected stay unnamed before they count: the graph of ROS now and then loses a name for good."""
DRIFT_NS = 100_000_000
DELAY_FRAMES = 15


class StampClock:
    """Moves a source's stamps onto the ROS clock: the source's spacing, never ahead of now nor 0.1 s behind it.

    A file that was held up once plays on later than before: when `DELAY_FRAMES` frames in a row are late, the least of
    their delays is taken over, so that a stamp's age is not the sum of all hitches so far.
    """

    def __init__(self) -> None:
        self._offset_ns: int | None = None
        self._last_ns = -1
        self._delays_ns: list[int] = []

    def stamp(self, source_ns: int, now_ns: int) -> int:
        """Stamp on the ROS clock, always later than the one before."""
        lag_ns = now_ns - source_ns
        if self._offset_ns is None and 0 <= lag_ns < 10 * DRIFT_NS:
            self._offset_ns = 0
        # A live camera's own stamps may be old by its transfer; ten times the drift is another clock.
        patience_ns = 10 * DRIFT_NS if self._offset_ns == 0 else DRIFT_NS
        if self._offset_ns is None or not self._offset_ns <= lag_ns <= self._offset_ns + patience_ns:
            self._offset_ns = lag_ns
            self._delays_ns.clear()
        if self._offset_ns:
            self._follow_delay(lag_ns - self._offset_ns)
        self._last_ns = max(source_ns + self._offset_ns, self._last_ns + 1)
        return self._last_ns

    def _follow_delay(self, delay_ns: int) -> None:
        self._delays_ns.append(delay_ns)
        if len(self._delays_ns) >= DELAY_FRAMES and self._offset_ns is not None:
            self._offset_ns += min(self._delays_ns)
            self._delays_ns.clear()


class Pacer:
    """Waits so that frames leave at their own spacing; one that comes late does not hurry the next ones."""

    def __init__(self, period_s: float | None) -> None:
        """`period_s` fixes the spacing; None takes it from the stamps."""
        self._period_s = period_s
        self._due: float | None = None
        self._last_ns: int | None = None

    def delay_s(self, stamp_ns: int, now_s: float) -> float:
        """Seconds to wait before this frame leaves; remembers when it is due."""
        if self._due is None or self._last_ns is None:
            self._due = now_s
        else:
            step = self._period_s
            if step is None:
                spacing = (stamp_ns - self._last_ns) * 1e-9
                step = spacing if 0 < spacing < 1 else 1 / DEFAULT_RATE_HZ
            self._due = max(self._due + step, now_s - step)
        self._last_ns = stamp_ns
        return max(0.0, self._due - now_s)


class CameraNode(HoiNode):
    """Publish a source's pictures; a live camera that goes away is waited for."""

    node_name = "camera_node"
    config_classes = (CameraNodeConfig, SourceConfig)

    def __init__(self, parameters: Any = None, bus: FrameBus | None = None, context: Any = None) -> None:
        super().__init__(parameters, bus, context)
        self.finished = False
        """True when a source that ends was played to its end."""
        self._failure = ""
        self._source: Any = None
        self._opening: Future[Any] | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def prepare(self) -> None:
        """Begin to open the source in a thread of its own, while other nodes are set up; `setup` waits for it."""
        kind = self.setting(CameraNodeConfig).source.split(":", 1)[0]
        if kind and kind not in LIVE_KINDS and self.setting(NodeConfig).autostart:
            self._opening = Future()
            threading.Thread(target=self._open_into, args=(self._opening,), name="source", daemon=True).start()

    def await_source(self, check: Callable[[], None]) -> None:
        """Wait for the source that `prepare` began to open; `check` is called meanwhile and may raise."""
        while self._opening is not None and not wait([self._opening], OPENING_POLL_S).done:
            check()

    def setup(self) -> None:
        config = self.setting(CameraNodeConfig)
        if not config.source:
            raise InputError("camera_node: parameter 'source' is empty: give e.g. realsense, webcam:0 or video:FILE")
        if config.pace == "consumed" and self.bus is None:
            raise InputError("camera_node: pace 'consumed' works with composed nodes only: use pace 'realtime'")
        self.finished = False
        self._clock_map = StampClock()
        if config.source.split(":", 1)[0] not in LIVE_KINDS:
            opening, self._opening = self._opening, None
            self._source = self._open() if opening is None else opening.result()
        if self.bus is not None:
            self.bus.lossless = config.pace == "consumed"
        self._color = self.make_publisher(Image, COLOR_TOPIC, IMAGE_OUT)
        self._depth = self.make_publisher(Image, DEPTH_TOPIC, IMAGE_OUT)
        self._info = self.make_publisher(CameraInfo, INFO_TOPIC, IMAGE_OUT)
        self.diagnostics.value("source", config.source)

    def start(self) -> None:
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name=self.node_name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(5.0)
        self._close_source()

    def release(self) -> None:
        self._close_source()

    def close(self) -> None:
        self._close_source()  # one that is still being opened: setup never took it
        super().close()

    def refresh_state(self) -> None:
        source = self._source
        if source is None:
            return
        for text in source.warnings:
            self.diagnostics.note(text, text)
        if source.status:
            self.diagnostics.state = "camera lost"
            self.diagnostics.say("camera", source.status)
        else:
            self.diagnostics.over("camera")

    def _open(self) -> Any:
        return open_source(self.setting(CameraNodeConfig).source, self.setting(SourceConfig))

    def _open_into(self, opening: Future[Any]) -> None:
        try:
            opening.set_result(self._open())
        except BaseException as error:  # handed to whoever waits for the source
            opening.set_exception(error)

    def _close_source(self) -> None:
        opening, self._opening = self._opening, None
        # Waited for: a thread that is still building when the interpreter ends spoils the exit.
        if opening is not None and opening in wait([opening], OPENING_TIMEOUT_S).done and not opening.exception():
            opening.result().close()
        source, self._source = self._source, None
        if source is not None:
            source.close()

    def _run(self) -> None:
        """Play the source until stopped; a live one that goes away is opened again."""
        config = self.setting(CameraNodeConfig)
        live = config.source.split(":", 1)[0] in LIVE_KINDS
        while not self._stopping.is_set():
            complete = self._play()
            if self._stopping.is_set():
                return
            self._close_source()
            if not live or (complete and self.setting(SourceConfig).max_frames):
                if not complete:
                    self.diagnostics.value("failure", self._failure)
                self.diagnostics.state = "finished" if complete else "source failed"
                self.finished = True
                return
            if live:
                self.diagnostics.state = f"waiting for camera {config.source}"
                self._stopping.wait(self.setting(SourceConfig).retry_s)

    def _play(self) -> bool:
        """Publish every frame of the source; False when it failed on the way."""
        try:
            if self._source is None:
                self._source = self._open()
            if self.setting(CameraNodeConfig).readers and not (self._source.live or self._source.endless):
                self._await_readers()
            pacer = self._pacer()
            for frame in self._source:
                if not self._send(frame, pacer):
                    return True
        except (InputError, ImportError) as error:
            self._failure = str(error)
            self.diagnostics.say(kind_of(error), str(error))
            return False
        except Exception as error:
            self._failure = f"the source failed: {error}"
            if self.context.ok() and not self._stopping.is_set():  # who stops closes the source under this thread
                self.diagnostics.crashes += 1
                trace = traceback.format_exc()
                self.diagnostics.say(f"crash, {kind_of(error)}", f"the source failed: {error}\n{trace}", "error")
            return False
        return True

    def _await_readers(self) -> None:
        """Hold a file back until the nodes named in `readers` have subscribed, so that none misses its begin."""
        names = set(self.setting(CameraNodeConfig).readers.split())
        end, many_since = time.monotonic() + READERS_TIMEOUT_S, float("inf")
        while not self._stopping.is_set():
            present = self._readers(len(names))
            missing = " ".join(sorted(names - (present or set())))
            many_since = float("inf") if present is None else min(many_since, time.monotonic())
            if not missing or time.monotonic() >= many_since + READERS_UNNAMED_S:
                self._stopping.wait(READERS_SETTLE_S)
                return
            if time.monotonic() >= end:
                self.diagnostics.say("readers", f"{missing} never came to read the pictures: beginning all the same")
                return
            self.diagnostics.state = f"waiting for {missing}"
            self._stopping.wait(READERS_POLL_S)

    def _readers(self, least: int) -> set[str] | None:
        """Names of the nodes that read all topics; None while these have fewer readers than `least`."""
        publishers = (self._color, self._depth, self._info)
        if min(one.get_subscription_count() for one in publishers) < least:
            return None
        found = [{info.node_name for info in self.get_subscriptions_info_by_topic(p.topic_name)} for p in publishers]
        return set.intersection(*found)

    def _pacer(self) -> Pacer | None:
        config = self.setting(CameraNodeConfig)
        if config.rate_hz > 0:
            return Pacer(1 / config.rate_hz)
        if config.pace == "consumed" or self._source.live:
            return None
        return Pacer(None if self._source.fps is None else 1 / self._source.fps)

    def _send(self, frame: RgbdFrame, pacer: Pacer | None) -> bool:
        """Publish one frame when it is due; False ends the playing."""
        config = self.setting(CameraNodeConfig)
        if pacer is not None and self._stopping.wait(pacer.delay_s(frame.stamp_ns, time.monotonic())):
            return False
        if self._stopping.is_set():
            return False
        begin = time.perf_counter()
        now_ns = self.get_clock().now().nanoseconds
        stamp_ns = self._clock_map.stamp(frame.stamp_ns, now_ns) if config.stamps == "clock" else frame.stamp_ns
        self._publish(frame, stamp_ns)
        self.diagnostics.state = "streaming"
        latency_ns = self.get_clock().now().nanoseconds - stamp_ns
        self.diagnostics.frame_done((time.perf_counter() - begin) * 1e3, latency_ns * 1e-6)
        return True

    def _publish(self, frame: RgbdFrame, stamp_ns: int) -> None:
        header = make_header(stamp_ns, frame.frame_id)
        depth_m, depth_pixels = frame.depth_m, frame.depth_m
        encoding = self.setting(CameraNodeConfig).depth_encoding
        if depth_m is not None and encoding == "16UC1":
            # Nodes in this process get the same millimetres as those that read the topic.
            depth_pixels = depth_to_millimetres(depth_m)
            depth_m = depth_pixels * np.float32(0.001)
        if self.bus is not None:
            self.bus.frames.put(dataclasses.replace(frame, stamp_ns=stamp_ns, depth_m=depth_m), self._stopping.is_set)
        if self._info.get_subscription_count():
            self._info.publish(camera_info_message(frame.intrinsics, header))
        if depth_pixels is not None and self._depth.get_subscription_count():
            self._depth.publish(image_message(depth_pixels, encoding, header))
        if self._color.get_subscription_count():
            self._color.publish(image_message(frame.color, "rgb8", header))


def main(args: list[str] | None = None) -> int:
    """Run camera_node."""
    return run_node(CameraNode, args)


if __name__ == "__main__":
    sys.exit(main())
