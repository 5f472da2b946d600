"""The Foxglove server as a client sees it."""

from __future__ import annotations

import json
import socket
import threading
import time

import cv2
import numpy as np
import pytest
from foxglove_client import FoxgloveClient
from geometry_msgs.msg import Point, PoseStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from visualization_msgs.msg import Marker, MarkerArray

from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame
from hoi_ros.errors import InputError
from hoi_ros.nodes.conversions import make_header
from hoi_ros.nodes.foxglove_node import FoxgloveNode
from hoi_ros.nodes.frame_bus import FrameBus
from hoi_ros.nodes.qos import LATCHED, RESULT
from hoi_ros.nodes.share import share_file
from hoi_ros.nodes.topics import TOPICS

pytestmark = pytest.mark.ros


class System:
    """A server on a free port, a node to publish with, and an executor that runs both."""

    def __init__(self) -> None:
        self.bus = FrameBus()
        self.node = FoxgloveNode({"port": 0}, self.bus)
        self.node.autostart()
        self.port = int(self.node.address.rsplit(":", 1)[1])
        self.talker = Node("talker")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.executor.add_node(self.talker)
        self.running = True
        self.thread = threading.Thread(target=self._spin, daemon=True)
        self.thread.start()
        self.clients: list[FoxgloveClient] = []

    def client(self) -> FoxgloveClient:
        self.clients.append(FoxgloveClient(self.port))
        return self.clients[-1]

    def _spin(self) -> None:
        while self.running:
            self.executor.spin_once(timeout_sec=0.05)

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.running = False
        self.thread.join()
        self.node.close()
        self.talker.destroy_node()


@pytest.fixture
def system(ros):
    system = System()
    yield system
    system.close()


def mesh_message(stamp_ns: int = 5_000_000_001, triangles: int = 40) -> MarkerArray:
    generator = np.random.default_rng(3)
    points = [Point(x=x, y=y, z=z) for x, y, z in generator.normal(size=(3 * triangles, 3))]
    header = make_header(stamp_ns, "camera_color_optical_frame")
    return MarkerArray(markers=[Marker(header=header, ns="left", type=Marker.TRIANGLE_LIST, points=points)])


def publish_while(publisher, message, work):
    """Publish at 50 Hz until the work is done."""
    done = threading.Event()

    def talk():
        while not done.wait(0.02):
            publisher.publish(message)

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        return work()
    finally:
        done.set()
        thread.join()


def test_every_topic_is_advertised_at_once(system):
    client = system.client()
    names = {system.node.resolve_topic_name(topic.name) for topic in TOPICS}
    pictures = {"/color/image_raw", "/hands/overlay"}
    client.wait_for_channels(names - pictures | {f"{name}/compressed" for name in pictures} | {"/tf"})
    assert client.channels["/hands/mesh"]["encoding"] == "cdr"
    assert client.channels["/hands/mesh"]["schemaEncoding"] == "ros2msg"
    assert client.channels["/hands/mesh"]["schemaName"] == "visualization_msgs/msg/MarkerArray"
    assert client.channels["/tf"]["schemaName"] == "foxglove.FrameTransforms"


def test_mesh_arrives_byte_by_byte(system):
    publisher = system.talker.create_publisher(MarkerArray, "hands/mesh", RESULT)
    client, sent = system.client(), mesh_message()
    client.subscribe("/hands/mesh")
    got = publish_while(publisher, sent, lambda: client.receive(["/hands/mesh"]))
    assert deserialize_message(got["/hands/mesh"], MarkerArray) == sent


def test_topics_are_read_only_while_someone_looks(system):
    publisher = system.talker.create_publisher(MarkerArray, "hands/mesh", RESULT)
    client = system.client()
    time.sleep(0.5)
    assert publisher.get_subscription_count() == 0
    client.subscribe("/hands/mesh")
    publish_while(publisher, mesh_message(), lambda: client.receive(["/hands/mesh"]))
    assert publisher.get_subscription_count() == 1
    client.close()
    end = time.monotonic() + 5
    while publisher.get_subscription_count() and time.monotonic() < end:
        time.sleep(0.05)
    assert publisher.get_subscription_count() == 0


def test_late_client_gets_the_object_mesh(system):
    publisher = system.talker.create_publisher(Marker, "object/mesh", LATCHED)
    sent = mesh_message().markers[0]
    publisher.publish(sent)
    for _ in range(2):
        client = system.client()
        client.subscribe("/object/mesh")
        assert deserialize_message(client.receive(["/object/mesh"])["/object/mesh"], Marker) == sent


def test_picture_comes_from_memory_as_jpeg(system):
    color = np.full((48, 64, 3), (200, 40, 10), np.uint8)
    client = system.client()
    client.subscribe("/color/image_raw/compressed")
    time.sleep(0.3)
    frame = RgbdFrame(color, CameraIntrinsics.from_fov(64, 48), 7)
    system.bus.frames.put(frame)
    payload = client.receive(["/color/image_raw/compressed"])["/color/image_raw/compressed"]
    picture = cv2.imdecode(np.frombuffer(payload[payload.index(b"\xff\xd8") :], np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(picture[..., ::-1].astype(int) - color).max() <= 6


def test_object_frame_comes_from_its_pose(system):
    publisher = system.talker.create_publisher(PoseStamped, "object/pose", RESULT)
    message = PoseStamped(header=make_header(9, "camera_color_optical_frame"))
    message.pose.position.z = 0.5
    client = system.client()
    client.subscribe("/tf")
    found = []

    def wait():
        end = time.monotonic() + 10
        while time.monotonic() < end and not any(b"object_0" in payload for payload in found):
            found.append(client.receive(["/tf"])["/tf"])
        assert any(b"object_0" in payload for payload in found)
        assert any(b"view" in payload for payload in found), "the z-up root is missing"

    publish_while(publisher, message, wait)


def test_client_that_never_reads_holds_nothing_up(system):
    publisher = system.talker.create_publisher(MarkerArray, "hands/mesh", RESULT)
    sleeper, reader = system.client(), system.client()
    for client in (sleeper, reader):
        client.subscribe("/hands/mesh")
    message = mesh_message(triangles=3000)
    publish_while(publisher, message, lambda: reader.receive(["/hands/mesh"]))
    # The sleeper takes nothing from here on; 100 messages of 216 kB are far more than its socket's buffers hold.
    received = 0
    data = publisher
    for _ in range(100):
        data.publish(message)
        reader.receive(["/hands/mesh"], timeout_s=5.0)
        received += 1
    assert received == 100
    assert system.node.diagnostics.crashes == 0


def test_port_in_use_is_refused(ros):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        node = FoxgloveNode({"port": port})
        with pytest.raises(InputError, match=f"port {port} is in use"):
            node.autostart()
        node.close()


def test_layout_shows_topics_that_exist():
    layout = json.loads(share_file("config/foxglove_layout.json").read_text(encoding="utf-8"))
    names = {"/" + topic.name.lstrip("/") for topic in TOPICS}
    names |= {"/color/image_raw/compressed", "/hands/overlay/compressed", "/tf"}
    shown = set()
    for panel in layout["configById"].values():
        shown |= set(panel.get("topics", {}))
        mode = panel.get("imageMode", {})
        shown |= {mode[key] for key in ("imageTopic", "calibrationTopic") if key in mode}
        shown |= {panel[key].split(".")[0] for key in ("topicPath", "topicToRender") if key in panel}
    assert {"/hands/mesh", "/object/mesh", "/hands/overlay/compressed", "/diagnostics"} <= shown
    assert shown <= names
