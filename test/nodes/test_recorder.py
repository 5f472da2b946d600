"""Recordings: whole, replayable, refused where they cannot be made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from geometry_msgs.msg import PoseStamped
from mcap_reading import mcap_chunk_compressions
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.rosbag2 import Reader
from sensor_msgs.msg import CameraInfo, Image
from visualization_msgs.msg import Marker

from hoi_ros.datatypes import CameraIntrinsics
from hoi_ros.errors import InputError
from hoi_ros.nodes.conversions import camera_info_message, image_message, make_header
from hoi_ros.nodes.inputs import COLOR_TOPIC, DEPTH_TOPIC, INFO_TOPIC
from hoi_ros.nodes.pose_transforms import PoseTransforms, tf_message_cdr
from hoi_ros.nodes.qos import IMAGE_OUT, LATCHED, RESULT
from hoi_ros.nodes.recorder_node import RecorderNode, check_recording_path
from hoi_ros.sources import open_source

pytestmark = pytest.mark.ros

FRAME = "camera_color_optical_frame"


def pictures(count: int):
    generator = np.random.default_rng(11)
    for i in range(count):
        color = generator.integers(0, 255, (48, 64, 3), np.uint8)
        depth = generator.integers(300, 900, (48, 64), np.uint16)
        yield 1_000_000_000 + i * 33_000_000, color, depth


def record(path: Path, count: int = 8, **parameters) -> list:
    """Record a talker's colour, depth, pose and mesh; returns what it said."""
    recorder = RecorderNode({"path": str(path), **parameters})
    recorder.autostart()
    talker = Node("recorder_test_talker")
    color, depth, info, pose, mesh = (
        talker.create_publisher(kind, name, qos)
        for kind, name, qos in (
            (Image, COLOR_TOPIC, IMAGE_OUT),
            (Image, DEPTH_TOPIC, IMAGE_OUT),
            (CameraInfo, INFO_TOPIC, IMAGE_OUT),
            (PoseStamped, "object/pose", RESULT),
            (Marker, "object/mesh", LATCHED),
        )
    )
    executor = SingleThreadedExecutor()
    for node in (recorder, talker):
        executor.add_node(node)
    end = time.monotonic() + 10
    while any(p.get_subscription_count() == 0 for p in (color, depth, info, pose, mesh)) and time.monotonic() < end:
        executor.spin_once(timeout_sec=0.05)
    said = list(pictures(count))
    camera = CameraIntrinsics(64, 48, 60.0, 61.0, 31.5, 23.5)
    for stamp_ns, color_pixels, depth_pixels in said:
        header = make_header(stamp_ns, FRAME)
        info.publish(camera_info_message(camera, header))
        depth.publish(image_message(depth_pixels, "16UC1", header))
        color.publish(image_message(color_pixels, "rgb8", header))
        pose.publish(PoseStamped(header=header))
        spin_for(executor, 0.03)
    mesh.publish(Marker(header=make_header(5, "object_0"), type=Marker.TRIANGLE_LIST))
    spin_for(executor, 0.3)
    recorder.close()
    talker.destroy_node()
    return said


def spin_for(executor, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        executor.spin_once(timeout_sec=0.01)


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_recording_replays_pixel_by_pixel(ros, tmp_path, compression):
    said = record(tmp_path / "bag", compression=compression)
    with open_source(f"bag:{tmp_path / 'bag'}") as source:
        frames = list(source)
    assert [frame.stamp_ns for frame in frames] == [stamp for stamp, _, _ in said]
    for frame, (_, color, depth) in zip(frames, said, strict=True):
        assert np.array_equal(frame.color, color)
        assert np.allclose(frame.depth_m, depth * 0.001, atol=1e-6)
        assert frame.intrinsics.fy == 61.0
    expected = {"zstd"} if compression == "zstd" else {""}
    assert mcap_chunk_compressions(tmp_path / "bag" / "bag.mcap") == expected


def test_recording_is_a_whole_rosbag2(ros, tmp_path):
    record(tmp_path / "bag", count=3)
    information = yaml.safe_load((tmp_path / "bag" / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert information["storage_identifier"] == "mcap"
    counts = {t["topic_metadata"]["name"]: t["message_count"] for t in information["topics_with_message_count"]}
    assert counts["/color/image_raw"] == counts["/object/pose"] == 3
    with Reader(tmp_path / "bag") as reader:
        connections = {connection.topic: connection for connection in reader.connections}
        mesh = connections["/object/mesh"]
        data = [data for connection, _, data in reader.messages([mesh])]
    assert mesh.msgdef.format.name == "MSG"
    assert mesh.ext.offered_qos_profiles[0].durability.name == "TRANSIENT_LOCAL"
    said = Marker(header=make_header(5, "object_0"), type=Marker.TRIANGLE_LIST)
    assert [deserialize_message(bytes(one), Marker) for one in data] == [said]


def test_object_frame_is_recorded_without_tf_package(ros, tmp_path, monkeypatch):
    monkeypatch.setattr("hoi_ros.nodes.recorder_node.has_tf_package", lambda: False)
    record(tmp_path / "bag", count=2)
    with Reader(tmp_path / "bag") as reader:
        frames = [bytes(data) for connection, _, data in reader.messages() if connection.topic == "/tf"]
    assert len(frames) == 2
    assert all(b"object_0" in data for data in frames)


def test_transform_keeps_the_pose():
    message = PoseStamped(header=make_header(3_000_000_007, FRAME))
    message.pose.position.x, message.pose.orientation.w, message.pose.orientation.y = 0.25, 0.6, 0.8
    transform = PoseTransforms().take("object/pose", serialize_message(message))
    assert (transform.header, transform.child_frame_id) == (message.header, "object_0")
    from hoi_ros.nodes.topics import typestore

    back = typestore().deserialize_cdr(tf_message_cdr(transform), "tf2_msgs/msg/TFMessage").transforms[0]
    assert back.header.stamp.nanosec == 7
    assert back.transform.translation.x == 0.25
    assert (back.transform.rotation.y, back.transform.rotation.w) == (0.8, 0.6)


def test_existing_path_is_refused_untouched(ros, tmp_path):
    (tmp_path / "bag").mkdir()
    node = RecorderNode({"path": str(tmp_path / "bag")})
    with pytest.raises(InputError, match="exists already"):
        node.autostart()
    node.close()
    assert list((tmp_path / "bag").iterdir()) == []


def test_path_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        check_recording_path(tmp_path / "file" / "bag")


def test_no_write_permission_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match="no write permission"):
        check_recording_path(tmp_path / "bag")
    assert not (tmp_path / "bag").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_bag_is_closed_when_the_process_is_stopped(tmp_path, number):
    command = [sys.executable, "-m", "hoi_ros.nodes.recorder_node", "--ros-args", "-p", f"path:={tmp_path / 'bag'}"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 20
    while not (tmp_path / "bag" / "bag.mcap").exists() and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(1.5)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    information = yaml.safe_load((tmp_path / "bag" / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert information["message_count"] > 0, "its own diagnostics at least"
