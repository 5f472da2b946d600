"""What Foxglove is fed with: each feed reads its topic only while a client looks at it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import cv2
import numpy as np
from foxglove import Context, Schema, ServerListener
from foxglove.channel import Channel
from foxglove.channels import CompressedImageChannel, FrameTransformsChannel
from foxglove.messages import CompressedImage, FrameTransform, FrameTransforms, Quaternion, Timestamp, Vector3
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image

from hoi_ros.datatypes import OPTICAL_FRAME, RgbdFrame
from hoi_ros.nodes.conversions import color_from_image, stamp_of
from hoi_ros.nodes.pose_transforms import POSE_TOPICS, PoseTransforms
from hoi_ros.nodes.topics import TOPICS, Topic, message_definition
from hoi_ros.nodes.worker import LatestSlot, Worker

VIEW_FRAME = "view"
"""Root that exists in Foxglove only: z up, as its 3D panel wants it; the camera looks along x."""


class Reader(Protocol):
    """The node that feeds read through."""

    def read(self, topic: Topic, callback: Callable[[bytes], None]) -> Any:
        """Subscribe to a topic, serialised as it is."""

    def on_feed_error(self, error: Exception) -> None:
        """Something could not be shown."""

    def resolve_topic_name(self, topic: str) -> str:
        """Full name after namespace and remapping."""

    def destroy_subscription(self, subscription: Any) -> bool:
        """End a subscription."""

    def get_clock(self) -> Any:
        """The ROS clock."""


class Listener(ServerListener):
    """Remembers which topics someone has newly subscribed to."""

    def __init__(self) -> None:
        self._topics: set[str] = set()
        self._lock = threading.Lock()

    def on_subscribe(self, client: Any, channel: Any) -> None:
        with self._lock:
            self._topics.add(channel.topic)

    def take(self) -> set[str]:
        """Topics subscribed to since the last call."""
        with self._lock:
            topics, self._topics = self._topics, set()
        return topics


class CdrFeed:
    """A ROS topic passed on byte by byte, subscribed to only while a client looks."""

    def __init__(self, node: Reader, topic: Topic, context: Context) -> None:
        self.name = node.resolve_topic_name(topic.name)
        self._node, self._topic = node, topic
        schema = Schema(name=topic.type, encoding="ros2msg", data=message_definition(topic.type).encode())
        self._channel = Channel(self.name, schema=schema, message_encoding="cdr", context=context)
        self._subscription: Any = None
        self._last: bytes | None = None

    def look(self, newly_wanted: bool) -> None:
        """Begin or end reading; `newly_wanted` when a client came since the last look."""
        wanted = self._channel.has_sinks()
        if wanted and self._subscription is None:
            self._subscription = self._node.read(self._topic, self._on_message)
        elif not wanted and self._subscription is not None:
            self._drop_subscription()
        elif newly_wanted and self._topic.latched and self._last is not None:
            self._channel.log(self._last)

    def _on_message(self, data: bytes) -> None:
        self._last = data if self._topic.latched else None
        self._channel.log(data)

    def _drop_subscription(self) -> None:
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription, self._last = None, None

    def close(self) -> None:
        """End reading and showing."""
        self._drop_subscription()
        self._channel.close()


class PictureFeed:
    """Pictures as JPEG, made in a thread and only while a client looks."""

    def __init__(
        self,
        node: Reader,
        topic: Topic,
        context: Context,
        *,
        slot: LatestSlot[Any] | None,
        jpeg_quality: int,
        rate_hz: float,
    ) -> None:
        self.name = node.resolve_topic_name(topic.name) + "/compressed"
        self._node, self._topic, self._from_bus = node, topic, slot is not None
        self._jpeg_quality, self._rate_hz = jpeg_quality, rate_hz
        self._channel = CompressedImageChannel(self.name, context=context)
        self._subscription: Any = None
        self._due = 0.0
        self._worker = Worker(self.name, slot or LatestSlot(), self._send, node.on_feed_error)
        self._worker.start()

    def look(self, newly_wanted: bool) -> None:
        """Begin or end reading; `newly_wanted` when a client came since the last look."""
        if self._from_bus:
            return
        wanted = self._channel.has_sinks()
        if wanted and self._subscription is None:
            self._subscription = self._node.read(self._topic, self._worker.slot.put)
        elif not wanted and self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def _send(self, item: RgbdFrame | bytes) -> None:
        now, quality, rate_hz = time.monotonic(), self._jpeg_quality, self._rate_hz
        # Half a millisecond of leave, so that 30 Hz pictures pass a limit of 30 Hz.
        if not self._channel.has_sinks() or now < self._due - 0.0005:
            return
        self._due = max(self._due, now - 1 / rate_hz) + 1 / rate_hz
        if isinstance(item, RgbdFrame):
            color, stamp_ns, frame_id = item.color, item.stamp_ns, item.frame_id
        else:
            message = deserialize_message(item, Image)
            color, stamp_ns, frame_id = color_from_image(message), stamp_of(message), message.header.frame_id
        bgr = np.ascontiguousarray(color[..., ::-1])
        data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        stamp = _timestamp(stamp_ns)
        self._channel.log(CompressedImage(timestamp=stamp, frame_id=frame_id, data=data, format="jpeg"))

    def close(self) -> None:
        """End reading and showing."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None
        self._worker.stop()
        self._channel.close()


class TransformFeed:
    """The frames of wrists and object, told from their pose topics: works without any TF package."""

    def __init__(self, node: Reader, context: Context) -> None:
        self.name = "/tf"
        self._node = node
        self._topics = [topic for topic in TOPICS if topic.name in POSE_TOPICS]
        self._channel = FrameTransformsChannel(self.name, context=context)
        self._poses = PoseTransforms()
        self._subscriptions: list[Any] = []
        self._due = 0.0

    def look(self, newly_wanted: bool) -> None:
        """Begin or end reading; `newly_wanted` when a client came since the last look."""
        wanted = self._channel.has_sinks()
        if wanted and not self._subscriptions:
            self._subscriptions = [self._node.read(topic, self._reader(topic.name)) for topic in self._topics]
        elif not wanted:
            self._drop_subscriptions()
        if wanted and (newly_wanted or time.monotonic() > self._due):
            self._due = time.monotonic() + 1.0
            self._log_view()

    def _reader(self, topic: str) -> Any:
        def on_message(data: bytes) -> None:
            found = self._poses.take(topic, data)
            if found is None:
                return
            place, turn = found.transform.translation, found.transform.rotation
            self._log(
                stamp_of(found),
                found.header.frame_id,
                found.child_frame_id,
                (place.x, place.y, place.z),
                (turn.x, turn.y, turn.z, turn.w),
            )

        return on_message

    def _log_view(self) -> None:
        self._log(
            self._node.get_clock().now().nanoseconds, VIEW_FRAME, OPTICAL_FRAME, (0, 0, 0), (-0.5, 0.5, -0.5, 0.5)
        )

    def _log(self, stamp_ns: int, parent: str, child: str, place: tuple, turn: tuple) -> None:
        transform = FrameTransform(
            timestamp=_timestamp(stamp_ns),
            parent_frame_id=parent,
            child_frame_id=child,
            translation=Vector3(x=place[0], y=place[1], z=place[2]),
            rotation=Quaternion(x=turn[0], y=turn[1], z=turn[2], w=turn[3]),
        )
        self._channel.log(FrameTransforms(transforms=[transform]))

    def _drop_subscriptions(self) -> None:
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def close(self) -> None:
        """End reading and showing."""
        self._drop_subscriptions()
        self._channel.close()


def _timestamp(stamp_ns: int) -> Timestamp:
    return Timestamp(sec=stamp_ns // 1_000_000_000, nsec=stamp_ns % 1_000_000_000)
