"""Tracker, reconstruction and composition around cores that give known answers."""

import time
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image, PointCloud2
from std_srvs.srv import Trigger
from test_base_node import spin_until
from test_camera_node import ListSource
from test_conversions import make_hand
from test_hand_node import FixedEstimator
from visualization_msgs.msg import Marker, MarkerArray

from hoi_ros.datatypes import CameraIntrinsics, ObjectObservation, PoseRevision, RgbdFrame, TriangleMesh
from hoi_ros.errors import InputError
from hoi_ros.geometry import se3_exp
from hoi_ros.nodes import camera_node, hand_node, reconstruction_node, tracker_node
from hoi_ros.nodes.camera_node import CameraNode
from hoi_ros.nodes.composition import ComposedPipeline
from hoi_ros.nodes.contact_markers import ContactMarkers, hand_regions
from hoi_ros.nodes.conversions import array_from_image, stamp_of, transform_from_pose
from hoi_ros.nodes.frame_bus import MeshUpdate, ObjectFrame
from hoi_ros.nodes.hand_node import HandNode
from hoi_ros.nodes.qos import LATCHED, RESULT
from hoi_ros.nodes.reconstruction_node import ReconstructionNode
from hoi_ros.nodes.tracker_node import TrackerNode
from hoi_ros.tracking.pointmap_intrinsics import FocalEstimate

pytestmark = pytest.mark.ros
MS = 1_000_000
CAMERA = CameraIntrinsics(64, 48, 60.0, 60.0, 31.5, 23.5)
LOST, OWN_DEPTH = (4, 5), (2, 8)
COVARIANCE = np.diag([1e-6] * 3 + [4e-4] * 3) + 1e-7
MESH = TriangleMesh(np.eye(4, 3, dtype=np.float32) * 0.05, np.array([[0, 1, 2], [1, 3, 2]], np.int32),
                    np.full((4, 3), 200, np.uint8))  # fmt: skip


def pose_of(index):
    return se3_exp(np.array([0.01 * index, 0.02, 0.5, 0.1 * index, -0.2, 0.3]))


REVISED = (6, 7)
REVISION = PoseRevision(np.array([1000 * MS, 1200 * MS]), np.stack([pose_of(20), pose_of(21)]), 3)


def number_of(frame):
    """The frame's number, painted into its first pixel: indices differ between processes."""
    return int(frame.color[0, 0, 0])


class KnownTracker:
    """Pose by number; lost in LOST; remembers exactly what it was given."""

    focal = None

    def __init__(self, config=None, device="auto", *, live=False):
        self.seen = {}
        self.object_id = 0

    def track(self, frame, hands, *, hand_faces=None, init_mask=None):
        i = number_of(frame)
        self.seen[i] = (frame, hands, hand_faces)
        mask = np.zeros(frame.color.shape[:2], bool)
        mask[10:20, 10 : 20 + i] = True
        if i in LOST:
            return ObjectObservation("lost", self.object_id, mask=mask, hand_mask=~mask, message="it went away")
        return ObjectObservation(
            "tracking", self.object_id, pose_of(i), pose_of(2 * i), hands[0].track_id, mask, ~mask, i % 2 == 0,
            1 / 3 + i, 0.001 / 3, revision=REVISION if i in REVISED else None,
            covariance=(i + 1) * COVARIANCE, own_depth_m=mask * np.float32(0.1 * i) if i in OWN_DEPTH else None,
        )  # fmt: skip

    def reset(self):
        self.object_id += 1

    def close(self):
        pass


class KnownReconstructor:
    """Remembers what it was given; a mesh after every third frame."""

    def __init__(self, config=None, device="auto"):
        self.seen, self.since = {}, 0

    def integrate(self, frame, observation):
        self.seen[number_of(frame)] = (frame, observation)
        self.since += observation.state == "tracking"
        return observation.state == "tracking"

    def changed_enough(self):
        return self.since >= 3

    def extract_mesh(self):
        self.since = 0
        return MESH

    def reset(self):
        self.seen = {}

    def settle(self):
        pass

    def close(self):
        pass


class OneByOne(ListSource):
    """Gives a frame when those before it have arrived wherever a test looks: a loaded machine loses none."""

    fps, independent_frames = 10.0, False

    def __init__(self, frames, collections):
        super().__init__(frames)
        self.collections = collections

    def __iter__(self):
        for i, frame in enumerate(self.frames):
            end = time.monotonic() + 60.0
            while any(len(c) < i for c in self.collections) and time.monotonic() < end:
                time.sleep(0.002)
            yield frame


@pytest.fixture
def cores(monkeypatch):
    rng = np.random.default_rng(0)
    hands = [make_hand(rng, "right", 3), make_hand(rng, "left", 4)]
    frames = []
    for i in range(10):
        color = rng.integers(0, 256, (48, 64, 3), np.uint8)
        color[0, 0, 0] = i
        depth = rng.uniform(0.3, 1.0, (48, 64)).astype(np.float32)
        frames.append(RgbdFrame(color, CAMERA, (1000 + 100 * i) * MS, i, depth))

    awaited = []
    monkeypatch.setattr(camera_node, "open_source", lambda spec, config: OneByOne(frames, awaited))
    monkeypatch.setattr(hand_node, "create_hand_estimator", lambda config, device, live: FixedEstimator(hands))
    monkeypatch.setattr(tracker_node, "HeldObjectTracker", KnownTracker)
    monkeypatch.setattr(reconstruction_node, "create_reconstructor", KnownReconstructor)
    return frames, hands, awaited


class Reader:
    """Collects the object's topics."""

    TOPICS: ClassVar = {"object/pose": PoseStamped, "object/pose_in_hand": PoseStamped, "object/mask": Image,
              "object/state": DiagnosticArray, "contacts": MarkerArray,
              "object/pose_with_covariance": PoseWithCovarianceStamped}  # fmt: skip

    def __init__(self, ros, executor):
        self.node = ros.create_node("reader")
        self.got = {topic: [] for topic in (*self.TOPICS, "object/mesh", "object/cloud")}
        for topic, kind in self.TOPICS.items():
            self.node.create_subscription(kind, topic, self.got[topic].append, RESULT)
        executor.add_node(self.node)

    def every_frame(self):
        """What grows by one with each frame."""
        return [self.got["object/state"], self.got["object/mask"]]

    def subscribe_late(self):
        for topic, kind in (("object/mesh", Marker), ("object/cloud", PointCloud2)):
            self.node.create_subscription(kind, topic, self.got[topic].append, LATCHED)

    def check(self):
        """What must hold however the nodes are put together."""
        tracked = [i for i in range(10) if i not in LOST]
        assert [stamp_of(m) // MS for m in self.got["object/pose"]] == [1000 + 100 * i for i in tracked]
        for message, i in zip(self.got["object/pose"], tracked):
            np.testing.assert_allclose(transform_from_pose(message.pose), pose_of(i), atol=1e-9)
            assert message.header.frame_id == "camera_color_optical_frame"
        for message, i in zip(self.got["object/pose_with_covariance"], tracked, strict=True):
            np.testing.assert_allclose(transform_from_pose(message.pose.pose), pose_of(i), atol=1e-9)
            np.testing.assert_allclose(message.pose.covariance.reshape(6, 6), (i + 1) * COVARIANCE)
        assert {m.header.frame_id for m in self.got["object/pose_in_hand"]} == {"right_wrist"}
        states = [{v.key: v.value for v in m.status[0].values}["state"] for m in self.got["object/state"]]
        assert [i for i, state in enumerate(states) if state == "lost"] == list(LOST)
        assert "it went away" in [m.status[0].message for m in self.got["object/state"]]
        masks = [array_from_image(m) for m in self.got["object/mask"]]
        assert [int((m == 255).sum()) for m in masks] == [10 * (10 + i) for i in range(10)]
        (marker,) = self.got["object/mesh"]
        assert marker.frame_locked and marker.header.frame_id == "object_0" and len(marker.points) == 6
        assert len(marker.colors) == 6 and self.got["object/cloud"][0].width == 4


def close_all(nodes, executor):
    for node in nodes:
        node.close()
    executor.shutdown()


def run_composed(ros, awaited):
    pipeline = ComposedPipeline(
        {"camera_node": {"source": "rgbd:x", "stamps": "source", "autostart": False}, "hand_node": {"device": "cpu"}}
    )
    reader = Reader(ros, pipeline.executor)
    nodes = pipeline.nodes
    tracker, fuser = nodes["tracker_node"].tracker, nodes["reconstruction_node"].reconstructor
    publishers = [nodes["tracker_node"]._mask, nodes["tracker_node"]._pose, nodes["tracker_node"]._state,
                  nodes["tracker_node"]._pose_in_hand, nodes["tracker_node"]._pose_covariance,
                  nodes["reconstruction_node"]._contacts_publisher]  # fmt: skip
    spin_until(pipeline.executor, lambda: all(p.get_subscription_count() for p in publishers))
    nodes["camera_node"].trigger_configure()
    awaited[:] = [fuser.seen, *reader.every_frame()]
    nodes["camera_node"].trigger_activate()
    pipeline.spin(60.0)
    assert pipeline.finished
    reader.subscribe_late()
    spin_until(pipeline.executor, lambda: reader.got["object/mesh"] and reader.got["object/cloud"])
    assert [nodes[n].diagnostics.crashes for n in nodes] == [0] * 4
    reader.node.destroy_node()
    pipeline.close()
    return reader, tracker, fuser


def run_apart(ros, awaited):
    executor = SingleThreadedExecutor()
    camera = CameraNode({"source": "rgbd:x", "stamps": "source"})
    nodes = [HandNode({"device": "cpu"}), TrackerNode({"device": "cpu"}), ReconstructionNode({"device": "cpu"}), camera]
    reader = Reader(ros, executor)
    for node in nodes[:3]:
        node.autostart()
    for node in nodes:
        executor.add_node(node)
    hand, tracker_, fuser_, _ = nodes
    camera.trigger_configure()
    publishers = [*(hand._side[s, k] for s in ("left", "right") for k in ("vertices", "joints", "wrist")),
                  hand._skeleton]  # fmt: skip
    spin_until(executor, lambda: all(p.get_subscription_count() == 2 for p in publishers)
               and all(p.get_subscription_count() == 3 for p in (camera._color, camera._depth, camera._info))
               and all(p.get_subscription_count() == 2 for p in (tracker_._mask, tracker_._pose, tracker_._state))
               and all(p.get_subscription_count() for p in (tracker_._hand_mask, tracker_._keyframes,
                                                            tracker_._own_depth, tracker_._pose_covariance))
               and fuser_._contacts_publisher.get_subscription_count()
               )  # fmt: skip
    awaited[:] = [fuser_.reconstructor.seen, *reader.every_frame()]
    camera.trigger_activate()
    spin_until(executor, lambda: len(fuser_.reconstructor.seen) == 10 and len(reader.got["object/state"]) == 10)
    reader.subscribe_late()
    spin_until(executor, lambda: reader.got["object/mesh"] and reader.got["object/cloud"])
    tracker, fuser = tracker_.tracker, fuser_.reconstructor
    assert [node.diagnostics.crashes for node in nodes] == [0] * 4
    reader.node.destroy_node()
    close_all(nodes, executor)
    return reader, tracker, fuser


def test_one_process_and_one_each_give_the_same(ros, cores):
    frames, _, awaited = cores
    together, apart = run_composed(ros, awaited), run_apart(ros, awaited)
    for reader, _, _ in (together, apart):
        reader.check()
    for i in range(10):
        (frame_a, hands_a, faces_a), (frame_b, hands_b, faces_b) = together[1].seen[i], apart[1].seen[i]
        assert frame_a.stamp_ns == frame_b.stamp_ns and frame_a.intrinsics == frame_b.intrinsics
        np.testing.assert_array_equal(frame_a.color, frame_b.color)
        np.testing.assert_array_equal(frame_a.depth_m, frame_b.depth_m)
        assert np.abs(frame_b.depth_m - frames[i].depth_m).max() < 0.000501
        assert faces_a.keys() == faces_b.keys()
        for a, b in zip(hands_a, hands_b):
            assert (a.track_id, a.handedness, a.score) == (b.track_id, b.handedness, b.score)
            np.testing.assert_array_equal(a.vertices_camera, b.vertices_camera)
            np.testing.assert_allclose(a.T_camera_wrist, b.T_camera_wrist, atol=1e-9)
        a, b = together[2].seen[i][1], apart[2].seen[i][1]
        assert (a.state, a.object_id, a.is_keyframe, a.inlier_fraction) == (
            b.state, b.object_id, b.is_keyframe, b.inlier_fraction,
        )  # fmt: skip
        np.testing.assert_array_equal(a.mask, b.mask)
        np.testing.assert_array_equal(a.hand_mask, b.hand_mask)
        assert (a.own_depth_m is not None) == (b.own_depth_m is not None) == (i in OWN_DEPTH)
        if i in OWN_DEPTH:
            np.testing.assert_array_equal(a.own_depth_m, b.own_depth_m)
        assert (a.revision is not None) == (b.revision is not None) == (i in REVISED)
        if i in REVISED:
            assert b.revision.number == 3
            np.testing.assert_array_equal(a.revision.stamps_ns, b.revision.stamps_ns)
            np.testing.assert_allclose(a.revision.T_camera_object, b.revision.T_camera_object, atol=1e-9)
        if i not in LOST:
            np.testing.assert_allclose(a.T_camera_object, b.T_camera_object, atol=1e-9)
            assert a.residual_m == b.residual_m


def test_consumed_pace_takes_every_frame_through_every_stage(ros, cores):
    pipeline = ComposedPipeline({"camera_node": {"source": "rgbd:x", "pace": "consumed"}})
    slow = pipeline.nodes["tracker_node"]
    process = slow.process
    slow.process = lambda item: (time.sleep(0.02), process(item))[1]
    slow.worker._process = slow._work
    pipeline.spin(60.0)
    assert pipeline.finished
    assert sorted(slow.tracker.seen) == sorted(pipeline.nodes["reconstruction_node"].reconstructor.seen)
    assert len(slow.tracker.seen) == 10
    pipeline.close()


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"camera_nod": {}}, "did you mean 'camera_node'"),
        ({"camera_node": {"source": ""}}, "'source' is empty"),
        ({"tracker_node": {"contact_mm": 1}}, "did you mean 'contact_m'"),
        ({"hand_node": {"device": "tpu"}}, "choose one of auto, cpu, cuda"),
    ],
)
def test_a_refused_composition_leaves_nothing_behind(ros, cores, parameters, text):
    executor = SingleThreadedExecutor()
    with pytest.raises(InputError, match=text):
        ComposedPipeline({"camera_node": {"source": "rgbd:x"}, **parameters}, executor)
    assert executor.get_nodes() == []
    executor.shutdown()


def test_no_object_is_followed_through_photos(ros, cores):
    camera = {"source": "images:x", "pace": "consumed", "stamps": "source", "rate_hz": 200.0}
    pipeline = ComposedPipeline({"camera_node": camera, "tracker_node": {"independent": True}})
    pipeline.spin(60.0)
    tracker = pipeline.nodes["tracker_node"]
    assert pipeline.finished and tracker.diagnostics.frames == len(cores[0])
    assert tracker._observation.state == "waiting" and "alone" in tracker._observation.message
    pipeline.close()


def test_a_focal_length_that_was_seen_is_said_where_depth_is_missing(ros, cores, monkeypatch):
    blind = [replace(frame, depth_m=None) for frame in cores[0]]
    source = camera_node.open_source("rgbd:x", None)
    monkeypatch.setattr(source, "frames", blind, raising=True)
    monkeypatch.setattr(camera_node, "open_source", lambda spec, config: source)
    monkeypatch.setattr(KnownTracker, "focal", FocalEstimate(612.4, 0.08, 554.3, 55.2))
    pipeline = ComposedPipeline({"camera_node": {"source": "rgbd:x", "pace": "consumed", "stamps": "source"}})
    pipeline.spin(60.0)
    assert "612 px +- 8 %" in pipeline.nodes["tracker_node"].diagnostics._values["focal_length"]
    pipeline.close()


def test_reset_and_save_services(ros, cores, tmp_path):
    pipeline = ComposedPipeline(
        {"camera_node": {"source": "rgbd:x", "pace": "consumed"},
         "reconstruction_node": {"mesh_file": str(tmp_path / "thing.obj")}}
    )  # fmt: skip
    client_node = ros.create_node("client")
    pipeline.executor.add_node(client_node)
    save = client_node.create_client(Trigger, "reconstruction_node/save_mesh")
    reset = client_node.create_client(Trigger, "tracker_node/reset")
    assert save.wait_for_service(30.0) and reset.wait_for_service(30.0)
    pipeline.spin(60.0)
    for client in (save, reset):
        future = client.call_async(Trigger.Request())
        spin_until(pipeline.executor, future.done)
        assert future.result().success
    assert pipeline.nodes["tracker_node"].tracker.object_id == 1
    assert (tmp_path / "thing.obj").read_text().count("\nv ") + 1 >= 4
    (tmp_path / "thing.obj").unlink()
    client_node.destroy_node()
    pipeline.close()
    assert (tmp_path / "thing.obj").exists(), "saved at exit"


def test_regions_cover_the_hand_and_contacts_lie_on_the_object():
    rng = np.random.default_rng(1)
    hand = make_hand(rng, "right", 3)
    regions = hand_regions(hand)
    assert np.sum(list(regions.values()), 0).tolist() == [1] * 778
    pose = pose_of(1)
    tip = np.flatnonzero(regions["index"])[:20]
    vertices = np.full((778, 3), 5.0, np.float32)
    vertices[tip] = (pose[:3, :3] @ (0.01, 0.01, 0.03) + pose[:3, 3]) + rng.normal(0, 1e-4, (20, 3))
    touching = type(hand)(**{**vars(hand), "vertices_camera": vertices})
    frame = RgbdFrame(np.zeros((48, 64, 3), np.uint8), CAMERA, 5 * MS)
    record = ObjectFrame(frame, [touching], {}, ObjectObservation("tracking", 0, pose))
    none = ContactMarkers(0.008).build(ObjectFrame(frame, [hand], {}, ObjectObservation("lost")), MESH)
    assert none.markers[0].action == Marker.DELETEALL
    from rclpy.serialization import deserialize_message

    made = ContactMarkers(0.02).build(record, MESH)
    message = deserialize_message(made, MarkerArray) if isinstance(made, bytes) else made
    for marker in message.markers:
        assert marker.ns.startswith("right/") and marker.id == 3 and stamp_of(marker) == 5 * MS
        points = np.array([(p.x, p.y, p.z) for p in marker.points])
        gap = np.linalg.norm(points[:, None] - vertices[tip].astype(float), axis=-1).min()
        assert gap < 0.02
    assert message.markers[0].action == Marker.ADD


def test_a_foreign_camera_feeds_the_composed_nodes(ros, cores):
    frames, _, awaited = cores
    pipeline = ComposedPipeline({"camera_node": {"source": "topics"}, "hand_node": {"depth_wait_s": 1.0}})
    assert "camera_node" not in pipeline.nodes
    camera = CameraNode({"source": "rgbd:x", "stamps": "source", "depth_encoding": "32FC1"})
    pipeline.executor.add_node(camera)
    camera.trigger_configure()
    publishers = (camera._color, camera._depth, camera._info)
    spin_until(pipeline.executor, lambda: all(p.get_subscription_count() == 1 for p in publishers))
    seen = pipeline.nodes["tracker_node"].tracker.seen
    awaited.append(seen)
    camera.trigger_activate()
    spin_until(pipeline.executor, lambda: len(seen) == 10)
    for i, (frame, hands, faces) in seen.items():
        np.testing.assert_array_equal(frame.depth_m, frames[i].depth_m)
        assert frame.stamp_ns == frames[i].stamp_ns and len(hands) == 2 and set(faces) == {"left", "right"}
    camera.close()
    pipeline.close()


def test_a_new_object_clears_the_old_mesh(ros, cores):
    """A reset of the reconstruction publishes a deletion, so that no viewer keeps showing the old thing."""
    pipeline = ComposedPipeline({"camera_node": {"source": "rgbd:x", "pace": "consumed"}})
    reader = Reader(ros, pipeline.executor)
    reader.subscribe_late()
    pipeline.spin(60.0)
    spin_until(pipeline.executor, lambda: reader.got["object/mesh"])
    node, got = pipeline.nodes["reconstruction_node"], reader.got["object/mesh"]
    node.reset_core()
    spin_until(pipeline.executor, lambda: got[-1].action == Marker.DELETE)
    node.publish_mesh(MeshUpdate(5, 0, MESH))
    spin_until(pipeline.executor, lambda: got[-1].action == Marker.ADD)
    frame = cores[0][0]
    another = ObjectObservation("tracking", 1, pose_of(0), mask=np.ones((48, 64), bool))
    node.reconstructor.since = -9
    node.process(ObjectFrame(frame, [], {}, another))
    spin_until(pipeline.executor, lambda: got[-1].action == Marker.DELETE)
    assert got[-1].id == 0 and node.mesh is None
    reader.node.destroy_node()
    pipeline.close()
