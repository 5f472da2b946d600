import time

import numpy as np
import pytest
from geometry_msgs.msg import Point
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import ColorRGBA
from test_conversions import make_hand
from visualization_msgs.msg import Marker, MarkerArray

from hoi_ros.datatypes import SKELETON_EDGES, TriangleMesh
from hoi_ros.nodes import markers as m
from hoi_ros.nodes.conversions import make_header
from hoi_ros.nodes.patched_cdr import PatchedMarkers

pytestmark = pytest.mark.ros
STAMP = 1_700_000_123_000_000_456
FACES = {side: np.random.default_rng(9).integers(0, 778, (1552, 3), np.int32) for side in ("left", "right")}


def by_rclpy(markers, stamp_ns, points, colors):
    """The same bytes the slow way."""
    for marker, own, color in zip(markers, points, colors):
        marker.header = make_header(stamp_ns, marker.header.frame_id)
        marker.points = [Point(x=x, y=y, z=z) for x, y, z in own.astype(float).tolist()]
        rows = [] if color is None else color.astype(float).tolist()
        marker.colors = [ColorRGBA(r=r, g=g, b=b, a=a) for r, g, b, a in rows]
    return bytes(serialize_message(MarkerArray(markers=markers)))


def assert_same_bytes(ours, theirs):
    """Equal but for alignment padding, which rclpy fills with whatever lay in memory: no reader looks at it."""
    assert len(ours) == len(theirs)
    message = deserialize_message(theirs, MarkerArray)
    assert deserialize_message(ours, MarkerArray) == message
    for i in np.flatnonzero(np.frombuffer(ours, np.uint8) != np.frombuffer(theirs, np.uint8)):
        changed = bytearray(theirs)
        changed[i] = ours[i]
        assert deserialize_message(bytes(changed), MarkerArray) == message, f"byte {i} is no padding"


@pytest.mark.parametrize("frame_id", ["", "a", "ab", "abc", "abcd", "camera_color_optical_frame"])
@pytest.mark.parametrize("ns", ["left", "right", "x" * 8, "x" * 9])
def test_patched_bytes_equal_rclpy(frame_id, ns):
    """Names of every length shift the alignment; stamps, counts and colours change between frames."""
    rng = np.random.default_rng(0)

    def templates():
        return [m.make_marker(make_header(0, frame_id), ns, i, 11, (0.1, 0.2, 0.3), 1.0, 200_000_000) for i in (1, 2)]

    patched = PatchedMarkers(MarkerArray(markers=templates()))
    for stamp, counts, colored in ((5, (3, 6), False), (STAMP, (3, 6), True), (STAMP + 1, (9, 1), True)):
        points = [rng.normal(0, 1, (n, 3)).astype(np.float32) for n in counts]
        colors = [rng.uniform(0, 1, (n, 4)).astype(np.float32) if colored and i else None for i, n in enumerate(counts)]
        assert_same_bytes(patched.patch(stamp, points, colors), by_rclpy(templates(), stamp, points, colors))


def test_patched_needs_points_for_every_marker():
    patched = PatchedMarkers(MarkerArray(markers=[Marker()]))
    with pytest.raises(ValueError, match="at least one point"):
        patched.patch(0, [np.zeros((0, 3))])
    with pytest.raises(ValueError, match="1 arrays"):
        patched.patch(0, [])
    with pytest.raises(ValueError, match="no marker"):
        PatchedMarkers(MarkerArray())


def test_hand_markers_follow_tracks_sides_and_frame():
    rng = np.random.default_rng(1)
    builder = m.HandMarkers()
    for hands, frame in (
        ([make_hand(rng, "right", 3)], "a"),
        ([make_hand(rng, "right", 3), make_hand(rng, "left", 4)], "a"),
        ([make_hand(rng, "left", 4)], "other"),
    ):
        message = deserialize_message(builder.build(hands, FACES, STAMP, frame), MarkerArray)
        assert [(k.ns, k.id) for k in message.markers] == [(h.handedness, h.track_id) for h in hands]
        for marker, hand in zip(message.markers, hands):
            assert marker.header == make_header(STAMP, frame) and marker.type == Marker.TRIANGLE_LIST
            assert marker.lifetime.nanosec == 200_000_000 and marker.pose.orientation.w == 1
            got = np.array([(p.x, p.y, p.z) for p in marker.points])
            np.testing.assert_array_equal(got, hand.vertices_camera[FACES[hand.handedness].ravel()])


def test_no_hand_is_a_deletion_with_the_stamp():
    for message in (m.HandMarkers().build([], FACES, STAMP, "a"), m.SkeletonMarkers().build([], STAMP, "a")):
        (marker,) = message.markers
        assert marker.action == Marker.DELETEALL and marker.header == make_header(STAMP, "a")
        assert m.hands_in_skeleton(message) == []


def test_skeleton_names_its_hands():
    hands = [make_hand(np.random.default_rng(2), "left", 7), make_hand(np.random.default_rng(3), "left", 8)]
    message = deserialize_message(m.SkeletonMarkers().build(hands, STAMP, "a"), MarkerArray)
    assert m.hands_in_skeleton(message) == [("left", 7), ("left", 8)]
    assert [len(k.points) for k in message.markers] == [21, 40, 21, 40]
    assert len({(k.ns, k.id) for k in message.markers}) == 4
    bone = message.markers[1].points[2 * 4 : 2 * 4 + 2]
    a, b = SKELETON_EDGES[4]
    np.testing.assert_array_equal([bone[0].x, bone[1].x], hands[0].joints_camera[[a, b], 0])


def test_object_mesh_has_a_colour_a_corner_and_is_frame_locked():
    mesh = TriangleMesh(np.eye(4, 3, dtype=np.float32), np.array([[0, 1, 2], [1, 3, 2]], np.int32),
                        np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [51, 51, 51]], np.uint8))  # fmt: skip
    marker = deserialize_message(m.object_mesh_marker(mesh, STAMP, "object_0"), Marker)
    assert marker.frame_locked and marker.header.frame_id == "object_0" and marker.type == Marker.TRIANGLE_LIST
    assert len(marker.points) == len(marker.colors) == 6
    assert (marker.points[4].x, marker.colors[4].r, marker.colors[1].g) == (0.0, pytest.approx(0.2), 1.0)
    empty = TriangleMesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    assert m.object_mesh_marker(empty, STAMP, "object_0").action == Marker.DELETE


def test_patching_beats_building_points():
    """The reason for it all; ten times would hold as well."""
    hand, builder = make_hand(np.random.default_rng(4)), m.HandMarkers()
    builder.build([hand], FACES, STAMP, "a")
    start = time.perf_counter()
    for i in range(20):
        builder.build([hand], FACES, STAMP + i, "a")
    patched = time.perf_counter() - start
    start = time.perf_counter()
    points = [hand.vertices_camera[FACES["right"].ravel()]]
    by_rclpy([m.make_marker(make_header(0, "a"), "right", 3, 11, (0, 0, 0), 1.0)], STAMP, points, [None])
    assert patched / 20 * 3 < time.perf_counter() - start
