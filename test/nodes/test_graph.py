"""The whole graph on the simulator: what comes out of the topics against what the simulator knows."""

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from sensor_msgs.msg import PointCloud2
from test_base_node import spin_until
from visualization_msgs.msg import Marker, MarkerArray

from hoi_ros.geometry import invert_transform, rotation_angle
from hoi_ros.nodes.composition import ComposedPipeline
from hoi_ros.nodes.conversions import fields_from_cloud, stamp_of, transform_from_pose
from hoi_ros.nodes.markers import hands_in_skeleton
from hoi_ros.nodes.qos import LATCHED, RESULT

pytestmark = pytest.mark.ros
FRAMES = 36
TOPICS = {
    "hands/mesh": MarkerArray,
    "hands/skeleton": MarkerArray,
    "hands/right/vertices": PointCloud2,
    "hands/right/wrist": PoseWithCovarianceStamped,
    "object/pose": PoseStamped,
}


@pytest.fixture(scope="module")
def played(ros):
    """Topics and truth of the first FRAMES frames of a turned box, every frame worked on by every node."""
    pipeline = ComposedPipeline(
        {
            "camera_node": {"source": "sim:rotate:box", "max_frames": FRAMES, "pace": "consumed", "stamps": "source",
                            "autostart": False},
            **{name: {"device": "cpu"} for name in ("hand_node", "tracker_node", "reconstruction_node")},
        }
    )  # fmt: skip
    reader = ros.create_node("graph_reader")
    got = {topic: [] for topic in (*TOPICS, "object/mesh")}
    for topic, kind in TOPICS.items():
        reader.create_subscription(kind, topic, got[topic].append, RESULT)
    reader.create_subscription(Marker, "object/mesh", got["object/mesh"].append, LATCHED)
    pipeline.executor.add_node(reader)
    truth = {}
    camera, put = pipeline.nodes["camera_node"], pipeline.bus.frames.put
    pipeline.bus.frames.put = lambda frame, *rest: (truth.update({frame.stamp_ns: frame}), put(frame, *rest))
    hands, tracker = pipeline.nodes["hand_node"], pipeline.nodes["tracker_node"]
    publishers = [hands._mesh, hands._skeleton, hands._side["right", "vertices"], hands._side["right", "wrist"],
                  tracker._pose]  # fmt: skip
    spin_until(pipeline.executor, lambda: all(p.get_subscription_count() for p in publishers))
    camera.trigger_configure()
    camera.trigger_activate()
    pipeline.spin(90.0)
    finished = pipeline.finished
    for _ in range(20):
        pipeline.executor.spin_once(timeout_sec=0.05)
    crashes = {name: node.diagnostics.crashes for name, node in pipeline.nodes.items()}
    reader.destroy_node()
    pipeline.close()
    assert finished and crashes == dict.fromkeys(crashes, 0)
    return got, truth


def test_every_frame_has_its_mesh_message(played):
    got, truth = played
    assert [stamp_of(m.markers[0]) for m in got["hands/mesh"]] == sorted(truth) and len(truth) == FRAMES
    assert {m.markers[0].header.frame_id for m in got["hands/mesh"]} == {"camera_color_optical_frame"}


def test_the_hand_is_found_with_one_track_and_stands_where_it_is(played):
    got, truth = played
    visible = [s for s, f in truth.items() if any(h.visible_fraction > 0.3 for h in f.truth.hands)]
    hands = {stamp_of(m.markers[0]): hands_in_skeleton(m) for m in got["hands/skeleton"]}
    assert sum(bool(hands[s]) for s in visible) >= 0.9 * len(visible)
    tracks = [track for found in hands.values() for track in found]
    assert max(tracks.count(t) for t in set(tracks)) >= 0.9 * len(visible)
    errors = []
    for message in got["hands/right/vertices"]:
        true = next(h for h in truth[stamp_of(message)].truth.hands if h.handedness == "right")
        rows = fields_from_cloud(message, ("x", "y", "z"))
        errors.append(np.linalg.norm(rows.mean(0) - true.vertices_camera.mean(0)))
    assert np.median(errors) < 0.02 and np.percentile(errors, 90) < 0.04


def test_the_object_moves_as_it_does(played):
    """The tracker's object frame is its own: a pose shortly after the start ties it to the true one."""
    got, truth = played
    assert len(got["object/pose"]) >= 0.6 * FRAMES
    name = next(iter(next(iter(truth.values())).truth.T_camera_object))
    poses = [(transform_from_pose(m.pose), truth[stamp_of(m)].truth.T_camera_object[name]) for m in got["object/pose"]]
    estimated, true = map(np.stack, zip(*poses))
    offset = invert_transform(true[8]) @ estimated[8]
    difference = invert_transform(true @ offset) @ estimated
    # Compared where the object is, not at the far origin of its frame.
    center = (invert_transform(estimated[8]) @ true[8])[:3, 3]
    shift = np.linalg.norm(difference[:, :3, :3] @ center + difference[:, :3, 3] - center, axis=-1)
    turn = np.degrees(rotation_angle(difference[:, :3, :3]))
    true_turn = np.degrees(rotation_angle(np.swapaxes(true[:1, :3, :3], -1, -2) @ true[:, :3, :3]))
    assert true_turn.max() > 40, "the scene hardly turns: a frozen pose would pass"
    assert np.median(shift) < 0.012 and np.median(turn) < 7
    assert shift.max() < 0.03 and turn.max() < 15


def test_the_object_mesh_arrives_in_its_frame(played):
    got, _ = played
    assert got["object/mesh"], "no mesh was published"
    marker = got["object/mesh"][-1]
    points = np.array([(p.x, p.y, p.z) for p in marker.points])
    assert marker.header.frame_id == "object_0" and marker.frame_locked and len(points) % 3 == 0 and len(points) > 300
    assert 0.03 < np.ptp(points, axis=0).max() < 0.4 and len(marker.colors) == len(points)
