"""The truth in a recording: read back message by message, and compared with the slow way to serialise it."""

from __future__ import annotations

import numpy as np
import pytest

from hoi_ros.datatypes import TriangleMesh
from hoi_ros.geometry import invert_transform, make_transform, matrix_from_quaternion
from hoi_ros.simulation import Simulator, SimulatorConfig
from hoi_ros.sources import truth_topics
from hoi_ros.sources.bag_files import make_typestore
from hoi_ros.sources.bag_writer import BagWriter
from hoi_ros.sources.truth_topics import HANDS_TOPIC, OBJECT_POSE_TOPIC, OBJECTS_TOPIC, TF_TOPIC, TruthTopics


@pytest.fixture(scope="module")
def simulator() -> Simulator:
    return Simulator("handover:box", SimulatorConfig(seed=2, width=80, height=60, fps=4.0))


@pytest.fixture(scope="module")
def frames(simulator):
    return [simulator.frame(index) for index in (0, 14)]


@pytest.fixture(scope="module")
def recording(simulator, frames, tmp_path_factory):
    path = tmp_path_factory.mktemp("bags") / "bag"
    with BagWriter(path) as bag:
        topics = truth_of(simulator, bag)
        for frame in frames:
            bag.write(frame)
            topics.write(frame)
    return path


def truth_of(simulator, bag) -> TruthTopics:
    faces = {side: simulator.model.faces(side) for side in ("left", "right")}
    return TruthTopics(bag, faces, simulator.object_meshes(), simulator.object_names[0])


def messages(path, topic) -> list:
    """Connection, receipt time and message of every message on a topic."""
    from rosbags.rosbag2 import Reader

    store = make_typestore()
    with Reader(path) as reader:
        return [
            (c, stamp, store.deserialize_cdr(raw, c.msgtype)) for c, stamp, raw in reader.messages() if c.topic == topic
        ]


def pose_of(place, turn) -> np.ndarray:
    quaternion = np.array([turn.x, turn.y, turn.z, turn.w])
    return make_transform(matrix_from_quaternion(quaternion), np.array([place.x, place.y, place.z]))


def test_hands_and_things_are_where_they_truly_are(simulator, frames, recording):
    sent = messages(recording, HANDS_TOPIC)
    assert [stamp for _, stamp, _ in sent] == [frame.stamp_ns for frame in frames]
    for (_, _, message), frame in zip(sent, frames):
        assert [marker.ns for marker in message.markers] == [hand.handedness for hand in frame.truth.hands]
        for marker, hand in zip(message.markers, frame.truth.hands):
            stamp = marker.header.stamp
            assert (stamp.sec * 10**9 + stamp.nanosec, marker.header.frame_id) == (frame.stamp_ns, frame.frame_id)
            corners = np.array([(p.x, p.y, p.z) for p in marker.points])
            faces = simulator.model.faces(hand.handedness)
            np.testing.assert_array_equal(corners, hand.vertices_camera[faces.ravel()].astype(np.float64))
    for (_, _, message), frame in zip(messages(recording, OBJECT_POSE_TOPIC), frames, strict=True):
        found = pose_of(message.pose.position, message.pose.orientation)
        np.testing.assert_allclose(found, frame.truth.T_camera_object["box"], atol=1e-9)
    ((connection, _, things),) = messages(recording, OBJECTS_TOPIC)
    (marker,), mesh = things.markers, simulator.object_meshes()["box"]
    assert marker.header.frame_id == "true_box" and marker.frame_locked and marker.lifetime.sec == 0
    np.testing.assert_allclose([(p.x, p.y, p.z) for p in marker.points], mesh.vertices[mesh.faces.ravel()])
    colors = np.array([(c.r, c.g, c.b) for c in marker.colors])
    np.testing.assert_allclose(colors * 255, mesh.colors[mesh.faces.ravel()], atol=1e-4)
    assert connection.ext.offered_qos_profiles[0].durability.name == "TRANSIENT_LOCAL"


def test_transforms_lead_from_the_world_to_thing_and_wrists(frames, recording):
    for (_, _, message), frame in zip(messages(recording, TF_TOPIC), frames, strict=True):
        truth = frame.truth
        edges = {t.child_frame_id: t for t in message.transforms}
        assert set(edges) == {frame.frame_id, "true_box", "true_left_wrist", "true_right_wrist"}
        poses = {c: pose_of(t.transform.translation, t.transform.rotation) for c, t in edges.items()}
        assert edges[frame.frame_id].header.frame_id == "world"
        np.testing.assert_allclose(poses[frame.frame_id], truth.T_world_camera, atol=1e-9)
        assert edges["true_box"].header.frame_id == frame.frame_id
        for hand in truth.hands:
            wrist = poses[f"true_{hand.handedness}_wrist"]
            np.testing.assert_allclose(wrist @ invert_transform(hand.T_camera_wrist), np.eye(4), atol=1e-7)


def test_bytes_equal_those_of_the_slow_way(simulator, frames, tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        bag.write(frames[0])
        topics, types = truth_of(simulator, bag), bag.typestore.types
        point, color = types["geometry_msgs/msg/Point"], types["std_msgs/msg/ColorRGBA"]
        for count, with_colors in ((3, True), (4, False), (0, True)):
            header = bag.header(7, "a" * (count + 1))
            markers = [topics._marker(header, name, 1, (1.0, 0.5, 0.25, 1.0), 5) for name in ("odd", "evens")]
            places = [np.arange(3 * count).reshape(count, 3) / 7 + k for k in (0, 1)]
            tables = [np.full((count, 4), 0.5, np.float32) if with_colors else None, None]
            fast = topics._filled(markers, places, tables)
            for marker, rows, table in zip(markers, places, tables):
                marker.points = [point(*row) for row in rows.tolist()]
                marker.colors = [] if table is None else [color(*row) for row in table.tolist()]
            kind = truth_topics.MARKERS
            assert fast == bytes(bag.typestore.serialize_cdr(types[kind](markers=markers), kind))


def test_a_scene_without_things_has_hands_and_camera_alone(tmp_path):
    simulator = Simulator("bare", SimulatorConfig(width=80, height=60))
    with BagWriter(tmp_path / "bag") as bag:
        frame = simulator.frame(0)
        topics = TruthTopics(bag, {side: simulator.model.faces(side) for side in ("left", "right")}, {}, None)
        bag.write(frame)
        topics.write(frame)
    assert messages(tmp_path / "bag", OBJECTS_TOPIC) == [] and messages(tmp_path / "bag", OBJECT_POSE_TOPIC) == []
    ((_, _, message),) = messages(tmp_path / "bag", TF_TOPIC)
    assert frame.truth is not None and not any(t.child_frame_id == "true_box" for t in message.transforms)
    assert len(message.transforms) == 1 + len(frame.truth.hands)


def test_a_mesh_without_colours_is_grey(tmp_path, frames):
    mesh = TriangleMesh(np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], np.int32))
    with BagWriter(tmp_path / "bag") as bag:
        TruthTopics(bag, {side: np.zeros((1, 3), int) for side in ("left", "right")}, {"box": mesh}, None).write(
            frames[0]
        )
    ((_, _, message),) = messages(tmp_path / "bag", OBJECTS_TOPIC)
    assert not message.markers[0].colors and len(message.markers[0].points) == 3 and message.markers[0].color.a == 1
