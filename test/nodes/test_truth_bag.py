"""What the simulator records, read by ROS itself."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import PoseStamped
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.rosbag2 import Reader
from visualization_msgs.msg import Marker, MarkerArray

from hoi_ros.simulate import SimulateOptions, simulate
from hoi_ros.simulation import SimulatorConfig
from hoi_ros.truth_file import read_truth


def test_ros_reads_the_truth(tmp_path):
    film = tmp_path / "film"
    simulate(SimulateOptions("rotate:box", film, SimulatorConfig(width=80, height=60), frames=2, quiet=True))
    truth = read_truth(film)
    kinds = {"/truth/hands/mesh": MarkerArray, "/truth/objects/mesh": MarkerArray, "/truth/object/pose": PoseStamped}
    read: dict[str, list] = {name: [] for name in kinds}
    with Reader(film / "bag") as reader:
        for connection, _, raw in reader.messages():
            if connection.topic in kinds:
                message = deserialize_message(bytes(raw), kinds[connection.topic])
                assert len(serialize_message(message)) == len(raw)
                read[connection.topic].append(message)
        assert "/tf" in {connection.topic for connection in reader.connections}
    assert [len(read[name]) for name in kinds] == [2, 1, 2]
    (hand,) = read["/truth/hands/mesh"][1].markers
    assert (hand.type, hand.action, hand.pose.orientation.w) == (Marker.TRIANGLE_LIST, Marker.ADD, 1.0)
    faces = truth.faces_left if hand.ns == "left" else truth.faces
    corners = np.array([(p.x, p.y, p.z) for p in hand.points], np.float32)
    np.testing.assert_array_equal(corners, truth.vertices_camera_m[1][faces.ravel()])
    place = read["/truth/object/pose"][0].pose.position
    np.testing.assert_allclose((place.x, place.y, place.z), truth.T_camera_object[0, 0, :3, 3], atol=1e-12)
