"""Records to RViz markers: hands, skeletons, object mesh, contacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from builtin_interfaces.msg import Duration
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from hoi_ros.datatypes import SKELETON_EDGES, HandEstimate, TriangleMesh
from hoi_ros.nodes.conversions import make_header
from hoi_ros.nodes.patched_cdr import PatchedMarkers

SIDE_COLORS = {"left": (0.25, 0.62, 0.95), "right": (0.95, 0.60, 0.25)}
OBJECT_COLOR = (0.75, 0.75, 0.72)
CONTACT_COLOR = (0.90, 0.10, 0.15)
HAND_LIFETIME_NS = 200_000_000
_EDGES = np.array(SKELETON_EDGES).ravel()


def make_marker(
    header: Header, ns: str, marker_id: int, kind: int, color: tuple, scale: float, lifetime_ns: int = 0
) -> Marker:
    """Marker at the frame's origin with one colour and one scale in metres."""
    marker = Marker(header=header, ns=ns, id=marker_id, type=kind, action=Marker.ADD)
    marker.pose.orientation.w = 1.0
    marker.scale.x = marker.scale.y = marker.scale.z = scale
    marker.color = ColorRGBA(r=float(color[0]), g=float(color[1]), b=float(color[2]), a=1.0)
    marker.lifetime = Duration(sec=lifetime_ns // 1_000_000_000, nanosec=lifetime_ns % 1_000_000_000)
    return marker


def delete_all(stamp_ns: int, frame_id: str) -> MarkerArray:
    """What an empty frame publishes: one DELETEALL marker that carries the frame's stamp."""
    marker = Marker(header=make_header(stamp_ns, frame_id), action=Marker.DELETEALL)
    marker.pose.orientation.w = 1.0
    return MarkerArray(markers=[marker])


class HandMarkers:
    """MarkerArray bytes of the hands' meshes; rebuilt only when tracks, sides, topology or frame change."""

    def __init__(self) -> None:
        self._key: tuple = ()
        self._patched: PatchedMarkers | None = None

    def build(
        self, hands: Sequence[HandEstimate], faces: Mapping[str, np.ndarray], stamp_ns: int, frame_id: str
    ) -> bytes | MarkerArray:
        """One TRIANGLE_LIST a hand, ns `left`/`right`, id = track; a deletion when there is no hand."""
        if not hands:
            return delete_all(stamp_ns, frame_id)
        tracks = tuple((hand.handedness, hand.track_id) for hand in hands)
        key = (frame_id, tracks)
        if key != self._key or self._patched is None:
            header = make_header(0, frame_id)
            kind, lifetime = Marker.TRIANGLE_LIST, HAND_LIFETIME_NS
            markers = [make_marker(header, side, i, kind, SIDE_COLORS[side], 1.0, lifetime) for side, i in tracks]
            self._key, self._patched = key, PatchedMarkers(MarkerArray(markers=markers))
        triangles = [hand.vertices_camera[faces[hand.handedness].ravel()] for hand in hands]
        return self._patched.patch(stamp_ns, triangles)


class SkeletonMarkers:
    """MarkerArray bytes of the hands' skeletons: joints as SPHERE_LIST (id 2t), bones as LINE_LIST (id 2t+1)."""

    def __init__(self) -> None:
        self._key: tuple = ()
        self._patched: PatchedMarkers | None = None

    def build(self, hands: Sequence[HandEstimate], stamp_ns: int, frame_id: str) -> bytes | MarkerArray:
        """Two markers a hand, ns `left`/`right`; a deletion when there is no hand."""
        if not hands:
            return delete_all(stamp_ns, frame_id)
        tracks = tuple((hand.handedness, hand.track_id) for hand in hands)
        key = (frame_id, tracks)
        if key != self._key or self._patched is None:
            header, markers = make_header(0, frame_id), []
            for side, i in tracks:
                color = SIDE_COLORS[side]
                markers.append(make_marker(header, side, 2 * i, Marker.SPHERE_LIST, color, 0.010, HAND_LIFETIME_NS))
                markers.append(make_marker(header, side, 2 * i + 1, Marker.LINE_LIST, color, 0.004, HAND_LIFETIME_NS))
            self._key, self._patched = key, PatchedMarkers(MarkerArray(markers=markers))
        points = []
        for hand in hands:
            points += [hand.joints_camera, hand.joints_camera[_EDGES]]
        return self._patched.patch(stamp_ns, points)


def hands_in_skeleton(message: MarkerArray) -> list[tuple[str, int]]:
    """Side and track id of each hand in a skeleton message, in its order; empty for a deletion."""
    spheres = (m for m in message.markers if m.action == Marker.ADD and m.type == Marker.SPHERE_LIST)
    return [(m.ns, m.id // 2) for m in spheres]


def object_mesh_marker(mesh: TriangleMesh, stamp_ns: int, frame_id: str) -> bytes | Marker:
    """TRIANGLE_LIST with vertex colours in the object's frame, frame_locked; a deletion when the mesh is empty.

    Always ns `object`, id 0: the next object's mesh takes the place of the last one's, even if a deletion was missed.
    """
    header = make_header(stamp_ns, frame_id)
    template = make_marker(header, "object", 0, Marker.TRIANGLE_LIST, OBJECT_COLOR, 1.0)
    template.frame_locked = True
    if len(mesh.faces) == 0:
        template.action = Marker.DELETE
        return template
    corners = mesh.faces.ravel()
    colors = None
    if mesh.colors is not None:
        table = np.ones((len(mesh.vertices), 4), np.float32)
        table[:, :3] = mesh.colors.astype(np.float32) / 255
        colors = table[corners]
    return PatchedMarkers(template).patch(stamp_ns, [mesh.vertices[corners]], [colors])
