"""Record camera and results to an MCAP bag that RViz, Foxglove and `bag:` play again."""

from __future__ import annotations

import importlib.util
import os
import queue
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hoi_ros.config import setting
from hoi_ros.errors import InputError
from hoi_ros.nodes.base_node import HoiNode, run_node
from hoi_ros.nodes.pose_transforms import POSE_TOPICS, PoseTransforms, tf_message_cdr
from hoi_ros.nodes.topics import OVERLAY_TOPIC, TOPICS, Topic, message_definition, message_hash

TF_TOPIC = Topic("/tf", "tf2_msgs/msg/TFMessage")
LEAST_BAG_BYTES = 4096
"""A bag without its metadata that is smaller has no picture."""
_END = object()


@dataclass(frozen=True)
class RecorderConfig:
    """Recording to a bag."""

    path: str = setting("", "folder of the new bag; must not exist yet")
    compression: str = setting("zstd", "of the chunks in the bag", choices=("zstd", "none"))
    overlay: bool = setting(False, "record hands/overlay too, which the other topics can draw anew")
    camera_best_effort: bool = setting(False, "read camera topics as best effort, for drivers that publish so")
    queue_mb: int = setting(256, "what may wait for the disk before messages are dropped", low=8, high=8192)


def has_tf_package() -> bool:
    """True where the message package of TF is installed; the wheels of ROS lack it."""
    return importlib.util.find_spec("tf2_msgs") is not None


def check_recording_path(path: Path) -> Path:
    """Check that a new bag can be made there, without making anything.

    Returns:
        The path in full.

    Raises:
        InputError: it exists, or its nearest existing parent is no writable folder.
    """
    path = path.expanduser().absolute()
    if path.exists() or path.is_symlink():
        raise InputError(f"recording {path} exists already: give another path, or remove it first")
    parent = next(folder for folder in path.parents if folder.exists())
    if not parent.is_dir():
        raise InputError(f"recording {path}: {parent} is a file, not a folder; give another path")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"recording {path}: no write permission in {parent}; give another path")
    return path


def holds_frames(path: Path) -> bool:
    """True when a closed bag has more than diagnostics, or one that was never closed has anything at all."""
    import yaml

    try:
        content = yaml.safe_load((path / "metadata.yaml").read_text(encoding="utf-8"))
        topics = content["rosbag2_bagfile_information"]["topics_with_message_count"]
        return any(t["message_count"] and t["topic_metadata"]["name"] != "/diagnostics" for t in topics)
    except FileNotFoundError:
        return sum(file.stat().st_size for file in path.glob("*.mcap")) > LEAST_BAG_BYTES


class Recording:
    """A rosbag2 folder with one MCAP file; channels appear with their first message."""

    def __init__(self, path: Path, compression: str = "zstd") -> None:
        """Make the folder.

        Raises:
            InputError: it exists, or cannot be made.
        """
        from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

        self.path = check_recording_path(path)
        # Version 8 is what Jazzy writes; Kilted reads it too.
        self._writer = Writer(self.path, version=8, storage_plugin=StoragePlugin.MCAP)
        if compression == "zstd":
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        try:
            self._writer.open()
        except OSError as error:
            raise InputError(f"recording {self.path}: {error.strerror}; give another path") from error
        self._connections: dict[str, Any] = {}
        self.messages = 0
        """Messages written."""

    def write(self, topic: Topic, name: str, stamp_ns: int, data: bytes) -> None:
        """Write one CDR message under its full topic name."""
        connection = self._connections.get(name)
        if connection is None:
            connection = self._connections[name] = self._writer.add_connection(
                name,
                topic.type,
                msgdef=message_definition(topic.type),
                rihs01=message_hash(topic.type),
                offered_qos_profiles=[_offered_qos(topic)],
            )
        self._writer.write(connection, stamp_ns, data)
        self.messages += 1

    def close(self) -> None:
        """Write index and metadata.yaml."""
        if self.messages == 0:
            self._writer.min_timestamp = 0
        self._writer.close()


def _offered_qos(topic: Topic) -> Any:
    from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

    forever = QosTime(2147483647, 4294967295)
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1 if topic.latched else 10,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if topic.latched else QosDurability.VOLATILE,
        deadline=forever,
        lifespan=forever,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=forever,
        avoid_ros_namespace_conventions=False,
    )


class RecorderNode(HoiNode):
    """Subscribe to everything, serialised as it is, and write it from a thread of its own."""

    node_name = "recorder_node"
    config_classes = (RecorderConfig,)

    def setup(self) -> None:
        config = self.setting(RecorderConfig)
        if not config.path:
            raise InputError("recorder_node: parameter 'path' is empty: give the folder of the new bag")
        self._bag = Recording(Path(config.path), config.compression)
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._waiting_bytes = 0
        self._lock = threading.Lock()
        self.dropped = 0
        self._failure = ""
        self._transforms = None if has_tf_package() else PoseTransforms()
        self._thread = threading.Thread(target=self._write_all, name="recorder", daemon=True)
        self._thread.start()
        wanted = [topic for topic in TOPICS if topic.name != OVERLAY_TOPIC or config.overlay]
        if self._transforms is None:
            wanted.append(TF_TOPIC)
        self._subscribed = [self._subscribe(topic, config.camera_best_effort and topic.camera) for topic in wanted]
        self.diagnostics.value("bag", self._bag.path)
        self.diagnostics.count("dropped", lambda: self.dropped)
        self.diagnostics.count("messages", lambda: self._bag.messages)

    def refresh_state(self) -> None:
        self.diagnostics.state = self._failure or "recording"

    def release(self) -> None:
        """Write what waits, then close the bag."""
        for subscription in getattr(self, "_subscribed", ()):
            self.destroy_subscription(subscription)
        self._subscribed = []
        thread = getattr(self, "_thread", None)
        if thread is not None and thread.is_alive():
            self._queue.put(_END)
            thread.join()

    def _subscribe(self, topic: Topic, best_effort: bool) -> Any:
        name = self.resolve_topic_name(topic.name)
        qos = topic.reading_qos(depth=60, best_effort=best_effort)

        def on_message(data: bytes) -> None:
            self._offer(topic, name, data)

        return self.create_subscription(topic.message_class(), topic.name, on_message, qos, raw=True)

    def _offer(self, topic: Topic, name: str, data: bytes) -> None:
        if not self.active or self._failure:
            return
        stamp_ns = self.get_clock().now().nanoseconds
        with self._lock:
            full = self._waiting_bytes + len(data) > self.setting(RecorderConfig).queue_mb * 1_000_000
            if not full:
                self._waiting_bytes += len(data)
        if full:
            self.dropped += 1
            self.diagnostics.say("slow disk", "the disk is slower than the topics: messages are dropped")
            return
        self._queue.put((topic, name, stamp_ns, data))
        if self._transforms is not None and topic.name in POSE_TOPICS:
            transform = self._transforms.take(topic.name, data)
            if transform is not None:
                self._queue.put((TF_TOPIC, TF_TOPIC.name, stamp_ns, tf_message_cdr(transform)))

    def _write_all(self) -> None:
        """The writer's thread: until told the end, then the bag is closed."""
        while (item := self._queue.get()) is not _END:
            topic, name, stamp_ns, data = item
            with self._lock:
                self._waiting_bytes -= len(data) if topic is not TF_TOPIC or self._transforms is None else 0
            if self._failure:
                continue
            try:
                self._bag.write(topic, name, stamp_ns, data)
            except OSError as error:
                self._failure = f"recording stopped: {error.strerror or error}"
                self.diagnostics.say("disk", self._failure, "error")
        try:
            self._bag.close()
        except OSError as error:
            self._failure = f"the bag could not be closed: {error.strerror or error}"
            self.diagnostics.say("disk", self._failure, "error")


def main(args: list[str] | None = None) -> int:
    """Run recorder_node."""
    return run_node(RecorderNode, args)


if __name__ == "__main__":
    sys.exit(main())
