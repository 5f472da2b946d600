"""Which hand regions touch the object, as markers."""

from __future__ import annotations

import numpy as np
from visualization_msgs.msg import Marker, MarkerArray

from hoi_ros.datatypes import FINGERS, HandEstimate, TriangleMesh
from hoi_ros.geometry import invert_transform, transform_points
from hoi_ros.nodes.conversions import make_header
from hoi_ros.nodes.frame_bus import ObjectFrame
from hoi_ros.nodes.markers import CONTACT_COLOR, HAND_LIFETIME_NS, delete_all, make_marker
from hoi_ros.nodes.patched_cdr import PatchedMarkers

REGIONS = ("palm", *FINGERS)
_FINGER_JOINTS = {finger: range(4 * i + 2, 4 * i + 5) for i, finger in enumerate(FINGERS)}


def hand_regions(hand: HandEstimate) -> dict[str, np.ndarray]:
    """Region (palm, thumb, index, middle, ring, little) to its (V,) bool vertices, by the nearest bone.

    A finger's region begins at its second joint of JOINT_NAMES (for the four fingers the PIP joint's proximal bone).
    """
    starts, ends, owners = [], [], []
    for owner, finger in enumerate(FINGERS, start=1):
        joints = [4 * owner - 3, *_FINGER_JOINTS[finger]]
        starts += [0, *joints[:-1]]
        ends += [joints[0], *joints[1:]]
        owners += [0, *[owner] * 3]
    a, b = hand.joints_camera[starts], hand.joints_camera[ends]
    axis = b - a
    offset = hand.vertices_camera[:, None] - a
    along = np.einsum("vbi,bi->vb", offset, axis) / np.maximum((axis * axis).sum(1), 1e-12)
    distance = np.linalg.norm(offset - np.clip(along, 0, 1)[..., None] * axis, axis=-1)
    nearest = np.asarray(owners)[distance.argmin(1)]
    return {name: nearest == i for i, name in enumerate(REGIONS)}


class ContactMarkers:
    """One SPHERE_LIST a touching region, ns `left/index`, id = hand track, in the camera's optical frame."""

    def __init__(self, contact_m: float) -> None:
        self._contact_m = contact_m

    def build(self, record: ObjectFrame, mesh: TriangleMesh | None) -> bytes | MarkerArray:
        """Markers of one frame; a deletion when nothing touches or nothing is tracked."""
        stamp, frame_id = record.frame.stamp_ns, record.frame.frame_id
        pose = record.observation.T_camera_object
        if pose is None or mesh is None or not len(mesh.faces):
            return delete_all(stamp, frame_id)
        from hoi_ros.reconstruction.contacts import find_contacts

        markers, points = [], []
        header, T_object_camera = make_header(stamp, frame_id), invert_transform(np.asarray(pose, np.float64))
        for hand in record.hands:
            vertices = transform_points(T_object_camera, hand.vertices_camera.astype(np.float64))
            contacts = find_contacts(vertices, hand_regions(hand), mesh, contact_m=self._contact_m)
            for name, contact in contacts.items():
                if contact.touching and len(contact.points):
                    ns = f"{hand.handedness}/{name}"
                    kind, lifetime = Marker.SPHERE_LIST, HAND_LIFETIME_NS
                    markers.append(make_marker(header, ns, hand.track_id, kind, CONTACT_COLOR, 0.004, lifetime))
                    points.append(transform_points(pose, contact.points.astype(np.float64)))
        if not markers:
            return delete_all(stamp, frame_id)
        return PatchedMarkers(MarkerArray(markers=markers)).patch(stamp, points)
