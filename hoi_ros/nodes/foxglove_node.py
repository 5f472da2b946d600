"""Show pictures, meshes, frames and diagnostics in Foxglove: a WebSocket server that never holds the pipeline up."""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from foxglove import Context, start_server
from foxglove.websocket import WebSocketServer
from rclpy.timer import Timer

from hoi_ros.config import setting
from hoi_ros.errors import InputError
from hoi_ros.nodes.base_node import HoiNode, run_node
from hoi_ros.nodes.foxglove_feeds import CdrFeed, Listener, PictureFeed, TransformFeed
from hoi_ros.nodes.frame_bus import FrameBus
from hoi_ros.nodes.inputs import COLOR_TOPIC
from hoi_ros.nodes.topics import OVERLAY_TOPIC, TOPICS, Topic

PICTURE_TOPICS = (COLOR_TOPIC, OVERLAY_TOPIC)
LOOK_PERIOD_S = 0.2


@dataclass(frozen=True)
class FoxgloveConfig:
    """Serving Foxglove."""

    port: int = setting(8765, "of the WebSocket; 0 takes a free one", low=0, high=65535)
    host: str = setting("127.0.0.1", "address to listen on; 0.0.0.0 lets other machines in")
    jpeg_quality: int = setting(80, "of pictures as they are sent", low=10, high=100)
    picture_rate_hz: float = setting(30.0, "pictures a second at most, of each kind", low=0.5, high=240.0)
    backlog: int = setting(64, "messages kept for a slow client before its oldest are dropped", low=40, high=4096)


def check_port(host: str, port: int) -> None:
    """Check that a server can listen there.

    Raises:
        InputError: the port is taken, or the address is none of this machine's.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise InputError(
                    f"Foxglove port {port} is in use: give another one with --port (port:= in the launch file), "
                    "or turn Foxglove off with --foxglove false"
                ) from error
            raise InputError(f"Foxglove cannot listen on {host}:{port}: {error.strerror}; give another") from error


class FoxgloveNode(HoiNode):
    """Advertise every topic at once; read a topic only while a client subscribes to it."""

    node_name = "foxglove_node"
    config_classes = (FoxgloveConfig,)

    def __init__(self, parameters: Any = None, bus: FrameBus | None = None, context: Any = None) -> None:
        super().__init__(parameters, bus, context)
        self._feeds: list[CdrFeed | PictureFeed | TransformFeed] = []
        self._server: WebSocketServer | None = None
        self._look_timer: Timer | None = None

    def setup(self) -> None:
        config = self.setting(FoxgloveConfig)
        check_port(config.host, config.port)
        self._listener = Listener()
        # Kept: channels do not hold their context, and vanish with it.
        context = self._channels_of = Context()
        self._feeds = [self._make_feed(topic, context) for topic in TOPICS]
        self._feeds.append(TransformFeed(self, context))
        try:
            self._server = start_server(
                name="hoi_ros",
                host=config.host,
                port=config.port,
                server_listener=self._listener,
                context=context,
                message_backlog_size=config.backlog,
            )
        except RuntimeError as error:
            raise InputError(f"Foxglove cannot listen on {config.host}:{config.port}: {error}; give another") from error
        self._look_timer = self.create_timer(LOOK_PERIOD_S, self._look)
        self.diagnostics.value("address", self.address)

    @property
    def address(self) -> str:
        """Where a client connects to."""
        host = self.setting(FoxgloveConfig).host
        port = self._server.port if self._server is not None else self.setting(FoxgloveConfig).port
        return f"ws://{'localhost' if host in ('127.0.0.1', '0.0.0.0') else host}:{port}"

    def read(self, topic: Topic, callback: Callable[[bytes], None]) -> Any:
        """Subscribe to a topic, serialised as it is."""
        qos = topic.reading_qos(depth=5, best_effort=topic.camera)
        return self.create_subscription(topic.message_class(), topic.name, callback, qos, raw=True)

    def on_feed_error(self, error: Exception) -> None:
        """A picture could not be shown: said once, the rest goes on."""
        self.diagnostics.say(f"picture, {type(error).__name__}", f"a picture could not be shown: {error}")

    def refresh_state(self) -> None:
        self.diagnostics.state = "serving"

    def release(self) -> None:
        if self._look_timer is not None:
            self.destroy_timer(self._look_timer)
            self._look_timer = None
        if self._server is not None:
            with contextlib.suppress(RuntimeError):
                self._server.stop()
            self._server = None
        for feed in self._feeds:
            feed.close()
        self._feeds = []

    def _make_feed(self, topic: Topic, context: Context) -> CdrFeed | PictureFeed:
        if topic.name not in PICTURE_TOPICS:
            return CdrFeed(self, topic, context)
        config = self.setting(FoxgloveConfig)
        return PictureFeed(
            self,
            topic,
            context,
            slot=self.bus.frames.subscribe() if self.bus is not None and topic.name == COLOR_TOPIC else None,
            jpeg_quality=config.jpeg_quality,
            rate_hz=config.picture_rate_hz,
        )

    def _look(self) -> None:
        newly_wanted = self._listener.take()
        for feed in self._feeds:
            feed.look(feed.name in newly_wanted)


def main(args: list[str] | None = None) -> int:
    """Run foxglove_node."""
    return run_node(FoxgloveNode, args)


if __name__ == "__main__":
    sys.exit(main())
