import time

import numpy as np
import pytest
from geometry_msgs.msg import PoseArray, PoseWithCovarianceStamped
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import CameraInfo, Image, JointState, PointCloud2
from test_base_node import spin_until
from test_conversions import make_hand
from visualization_msgs.msg import MarkerArray

from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame
from hoi_ros.errors import InputError
from hoi_ros.geometry import project
from hoi_ros.nodes import hand_node as module
from hoi_ros.nodes.conversions import camera_info_message, fields_from_cloud, image_message, make_header, stamp_of
from hoi_ros.nodes.diagnostics import NodeDiagnostics
from hoi_ros.nodes.hand_node import HandNode
from hoi_ros.nodes.inputs import HandsInput, IntrinsicsKeeper, hands_from_parts
from hoi_ros.nodes.qos import IMAGE_OUT, RESULT

pytestmark = pytest.mark.ros
CAMERA = CameraIntrinsics(64, 48, 60.0, 60.0, 31.5, 23.5)
MS = 1_000_000


class FixedEstimator:
    """The same hands in every bright picture, none in dark ones; remembers what it was given."""

    joint_angle_names = tuple(f"angle_{i}" for i in range(20))

    def __init__(self, hands):
        self.hands, self.frames, self.resets = hands, [], 0
        self.independent = None

    def faces(self, side):
        return np.arange(30, dtype=np.int32).reshape(10, 3)

    def estimate(self, frame, *, independent=False):
        self.independent = independent
        self.frames.append(frame)
        if frame.color.shape[0] == 1:
            raise ZeroDivisionError("a picture of one pixel")
        return list(self.hands) if frame.color.mean() > 5 else []

    def reset(self):
        self.resets += 1

    def close(self):
        pass


class Rig:
    """A hand node fed by topics, and a reader of all its topics."""

    def __init__(self, ros, estimator, **parameters):
        self.node = HandNode({"info_wait_s": 0.0, "depth_wait_s": 0.03, **parameters})
        self.executor = SingleThreadedExecutor()
        self.camera = ros.create_node("camera")
        self.got = {}
        kinds = {"vertices": PointCloud2, "joints": PoseArray, "wrist": PoseWithCovarianceStamped}
        topics = {
            f"hands/{s}/{k}": t for s in ("left", "right") for k, t in {**kinds, "joint_states": JointState}.items()
        }
        for topic, kind in {**topics, "hands/mesh": MarkerArray, "hands/skeleton": MarkerArray}.items():
            self.got[topic] = []
            self.camera.create_subscription(kind, topic, self.got[topic].append, RESULT)
        self.color = self.camera.create_publisher(Image, "color/image_raw", IMAGE_OUT)
        self.depth = self.camera.create_publisher(Image, "aligned_depth_to_color/image_raw", IMAGE_OUT)
        self.info = self.camera.create_publisher(CameraInfo, "color/camera_info", IMAGE_OUT)
        self.estimator = estimator
        self.node.autostart()
        self.executor.add_node(self.node)
        self.executor.add_node(self.camera)
        publishers = [
            self.node._mesh,
            self.node._skeleton,
            *self.node._side.values(),
            self.color,
            self.depth,
            self.info,
        ]
        spin_until(self.executor, lambda: all(p.get_subscription_count() for p in publishers))
        self.info.publish(camera_info_message(CAMERA, make_header(0, "cam")))
        spin_until(self.executor, lambda: self.node._input._intrinsics._info is not None)

    def send(self, stamp_ns, color=None, depth=None, message=None):
        """Publish a frame and wait until the node is through with it."""
        done = len(self.estimator.frames) + self.node.diagnostics.bad_frames + self.node.diagnostics.crashes
        header = make_header(stamp_ns, "cam")
        if depth is not None:
            self.depth.publish(depth if isinstance(depth, Image) else image_message(depth, "16UC1", header))
        color = np.full((48, 64, 3), 100, np.uint8) if color is None else color
        self.color.publish(message or image_message(color, "rgb8", header))
        counts = self.node.diagnostics
        spin_until(self.executor, lambda: len(self.estimator.frames) + counts.bad_frames + counts.crashes > done)
        assert self.node.worker.wait_idle(30.0)

    def troubles(self):
        return " | ".join(trouble[0] for trouble in self.node.diagnostics._troubles.values())

    def close(self):
        self.node.close()
        self.camera.destroy_node()
        self.executor.shutdown()


@pytest.fixture
def rig(ros, monkeypatch):
    rigs = []

    def make(hands=(), **parameters):
        estimator = FixedEstimator(hands)
        monkeypatch.setattr(module, "create_hand_estimator", lambda config, device, live: estimator)
        rigs.append(Rig(ros, estimator, **parameters))
        return rigs[-1]

    yield make
    for one in rigs:
        one.close()


def test_every_topic_carries_stamp_frame_and_hand(rig):
    rng = np.random.default_rng(0)
    hands = [make_hand(rng, "left", 4), make_hand(rng, "right", 9)]
    r = rig(hands)
    for i in range(3):
        r.send((1000 + 33 * i) * MS)
    spin_until(r.executor, lambda: all(len(v) == 3 for v in r.got.values()))
    for topic, messages in r.got.items():
        headers = [m.markers[0].header if hasattr(m, "markers") else m.header for m in messages]
        assert headers == [make_header((1000 + 33 * i) * MS, "cam") for i in range(3)], topic
    assert [(m.ns, m.id) for m in r.got["hands/mesh"][0].markers] == [("left", 4), ("right", 9)]
    rows = fields_from_cloud(r.got["hands/right/vertices"][0], ("x", "y", "z", "confidence"))
    np.testing.assert_array_equal(rows[:, :3], hands[1].vertices_camera)
    assert r.got["hands/left/joint_states"][0].name[0] == "left_angle_0"


def test_hands_come_back_from_topics_as_they_were(rig):
    rng = np.random.default_rng(1)
    hands = [make_hand(rng, "right", 4), make_hand(rng, "left", 5), make_hand(rng, "right", 6)]
    r, got = rig(hands), {}
    HandsInput(r.camera, lambda stamp, parts: got.update({stamp: parts}))
    spin_until(r.executor, lambda: r.node._side["right", "wrist"].get_subscription_count() == 2
               and r.node._skeleton.get_subscription_count() == 2)  # fmt: skip
    r.send(77 * MS)
    r.send(88 * MS, np.zeros((48, 64, 3), np.uint8))
    spin_until(r.executor, lambda: len(got) == 2)
    assert got[88 * MS] == []
    back = hands_from_parts(got[77 * MS], CAMERA)
    assert [(h.handedness, h.track_id) for h in back] == [("right", 4), ("left", 5), ("right", 6)]
    for a, b in zip(back, hands):
        np.testing.assert_array_equal(a.vertices_camera, b.vertices_camera)
        np.testing.assert_allclose(a.joints_camera, b.joints_camera, atol=1e-12)
        np.testing.assert_allclose(a.bone_rotations, b.bone_rotations, atol=1e-9)
        np.testing.assert_allclose(a.T_camera_wrist, b.T_camera_wrist, atol=1e-9)
        np.testing.assert_allclose(a.joints_px, project(b.joints_camera, CAMERA), atol=1e-9)
        assert (a.score, a.sigma_m) == (b.score, pytest.approx(b.sigma_m))


@pytest.mark.parametrize("photos", [False, True])
def test_photos_stand_alone(rig, photos):
    one = rig(independent=photos)
    one.send(100 * MS)
    assert one.estimator.independent is photos


def test_depth_reaches_the_estimator(rig):
    r = rig()
    r.send(5 * MS, depth=np.full((48, 64), 700, np.uint16))
    assert r.estimator.frames[0].depth_m[3, 4] == pytest.approx(0.7)
    assert r.estimator.frames[0].intrinsics == CAMERA


BAD = {
    "black": np.zeros((48, 64, 3), np.uint8),
    "one pixel": np.zeros((1, 1, 3), np.uint8),
    "rotated": np.full((64, 48, 3), 100, np.uint8),
    "grey": image_message(np.full((48, 64), 100, np.uint8), "mono8", make_header(2000 * MS, "cam")),
    "16 bit": image_message(np.full((48, 64), 30000, np.uint16), "mono16", make_header(2000 * MS, "cam")),
    "garbage encoding": image_message(np.zeros((48, 64), np.uint8), "b0gus", make_header(2000 * MS, "cam")),
    "empty": Image(header=make_header(2000 * MS, "cam")),
}
SHORT = image_message(np.zeros((48, 64, 3), np.uint8), "rgb8", make_header(2000 * MS, "cam"))
SHORT.data = SHORT.data[: 64 * 3 * 40]
BAD["data too short"] = SHORT
SAID = {"one pixel": "one pixel", "rotated": "48x64", "garbage encoding": "b0gus", "empty": "encoding",
        "data too short": "step x height"}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_picture_is_survived(rig, kind):
    """The node goes on, says what is wrong, and the next good picture gives hands again."""
    r = rig([make_hand(np.random.default_rng(2))])
    r.send(1000 * MS)
    for i in range(4):
        bad = BAD[kind]
        if isinstance(bad, Image):
            bad.header.stamp = make_header((2000 + i) * MS, "").stamp
            r.send(0, message=bad)
        else:
            r.send((2000 + i) * MS, bad)
    r.send(3000 * MS)
    spin_until(r.executor, lambda: stamp_of(r.got["hands/right/vertices"][-1]) == 3000 * MS)
    assert SAID.get(kind, "") in r.troubles()
    if kind not in SAID:
        assert "no depth comes" in r.troubles() and "|" not in r.troubles()
    if kind == "grey":
        assert r.estimator.frames[1].color.shape == (48, 64, 3) and len(r.got["hands/right/vertices"]) == 6


@pytest.mark.parametrize(
    ("depth", "text"),
    [
        (np.full((24, 32), 700, np.uint16), "align depth to colour"),
        (image_message(np.zeros((48, 64, 3), np.uint8), "rgb8", make_header(5 * MS, "cam")), "no depth"),
    ],
)
def test_bad_depth_leaves_the_hands_running(rig, depth, text):
    r = rig([make_hand(np.random.default_rng(3))])
    r.send(5 * MS, depth=depth)
    spin_until(r.executor, lambda: len(r.estimator.frames) == 1 and len(r.got["hands/right/vertices"]) == 1)
    assert r.estimator.frames[0].depth_m is None and text in r.troubles()
    r.send(50 * MS, depth=np.full((48, 64), 700, np.uint16))
    assert r.estimator.frames[-1].depth_m is not None


def test_depth_that_never_comes_is_said(rig):
    r = rig([make_hand(np.random.default_rng(4))])
    for i in range(5):
        r.send((100 + 33 * i) * MS)
    assert len(r.estimator.frames) == 5 and "colour goes on alone" in r.troubles()


def test_a_clock_that_jumps_back_starts_anew_once(rig):
    r = rig([make_hand(np.random.default_rng(5))])
    r.send(100_000 * MS)
    r.send(1_000 * MS)
    r.send(1_033 * MS)
    assert r.estimator.resets == 1 and len(r.estimator.frames) == 3 and "jumped back" in r.troubles()


def test_nothing_is_built_that_nobody_reads(rig, monkeypatch):
    r = rig([make_hand(np.random.default_rng(6))])
    monkeypatch.setattr(module, "joints_message", lambda *a: pytest.fail("built though nobody reads"))
    monkeypatch.setattr(r.node._side["right", "joints"], "get_subscription_count", lambda: 0, raising=False)
    r.send(5 * MS)
    assert r.node.diagnostics.crashes == 0


def test_intrinsics_fall_back_to_a_guess_that_is_said():
    said = []
    keeper = IntrinsicsKeeper(0.0, NodeDiagnostics("n", lambda level, text: said.append(text)))
    assert keeper.camera(64, 48).guessed and "no camera_info" in said[0]
    keeper.take(camera_info_message(CAMERA, make_header(0, "")))
    assert keeper.camera(64, 48) == CAMERA
    keeper.take(CameraInfo(width=64, height=48))
    assert keeper.camera(64, 48).guessed
    waiting = IntrinsicsKeeper(60.0, NodeDiagnostics("n"))
    assert waiting.camera(64, 48) is None


def test_the_wrist_transform_is_named_after_the_side(rig, monkeypatch):
    r = rig([make_hand(np.random.default_rng(7), "left")])
    sent = []
    monkeypatch.setattr(r.node._transforms, "send", sent.extend)
    r.send(5 * MS)
    assert [(t.header.frame_id, t.child_frame_id) for t in sent] == [("cam", "left_wrist")]
    assert sent[0].transform.translation.x == r.estimator.hands[0].T_camera_wrist[0, 3]


def test_a_refused_estimator_stops_the_start(ros, monkeypatch):
    def refuse(config, device, live):
        raise InputError("weights of 'handos' are not there yet: use embedded")

    monkeypatch.setattr(module, "create_hand_estimator", refuse)
    node = HandNode()
    with pytest.raises(InputError, match="handos"):
        node.autostart()
    node.close()


def test_waiting_is_said(rig):
    r = rig()
    time.sleep(0.01)
    r.node.refresh_state()
    assert r.node.diagnostics.state == "waiting for color/image_raw"


def test_frames_are_records(rig):
    r = rig()
    r.send(5 * MS)
    assert isinstance(r.estimator.frames[0], RgbdFrame) and r.estimator.frames[0].stamp_ns == 5 * MS
