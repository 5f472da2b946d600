"""The truth of simulated frames as topics beside the camera's: hands, things, poses and transforms, for viewers.

Everything lies under `/truth`, so that a system that runs on the recording adds its own results without a clash.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from hoi_ros.datatypes import RgbdFrame, TriangleMesh
from hoi_ros.geometry import quaternion_from_matrix
from hoi_ros.sources.bag_writer import BagWriter

MARKERS, MARKER = "visualization_msgs/msg/MarkerArray", "visualization_msgs/msg/Marker"
POSE, TRANSFORMS = "geometry_msgs/msg/PoseStamped", "tf2_msgs/msg/TFMessage"
HANDS_TOPIC, OBJECTS_TOPIC, OBJECT_POSE_TOPIC, TF_TOPIC = (
    "/truth/hands/mesh", "/truth/objects/mesh", "/truth/object/pose", "/tf",
)  # fmt: skip
WORLD_FRAME = "world"
_TRIANGLE_LIST, _ADD = 11, 0
_LIFETIME_NS = 200_000_000
_HAND_COLORS = {"left": (0.35, 1.0, 0.45, 0.75), "right": (0.55, 1.0, 0.2, 0.75)}
_OBJECT_COLOR = (0.8, 0.8, 0.8, 1.0)
_POINT, _COLOR = (-7.0625e77, 3.03125e-66, 5.15625e88), (-3.25e17, 7.75e-13, 2.125e19, -6.5e-11)
"""Sentinels: where they stand in a serialised marker, its points and colours go."""


class TruthTopics:
    """Writes hand meshes, the held thing's pose and all transforms of every frame; once, the meshes of the things."""

    def __init__(
        self, bag: BagWriter, hand_faces: Mapping[str, np.ndarray], meshes: Mapping[str, TriangleMesh], held: str | None
    ) -> None:
        """Write nothing yet.

        Args:
            bag: open recording.
            hand_faces: side to (F, 3).
            meshes: name of each thing to its mesh in its own frame, metres.
            held: name of the thing whose pose has a topic of its own; None for no such thing.
        """
        self._bag, self._faces, self._meshes, self._held = bag, hand_faces, meshes, held
        self._types = bag.typestore.types
        self._begun = False

    def write(self, frame: RgbdFrame) -> None:
        """Append the truth of a frame that has one."""
        truth = frame.truth
        assert truth is not None
        header = self._bag.header(frame.stamp_ns, frame.frame_id)
        stamp_ns = frame.stamp_ns
        if not self._begun:
            self._begun = True
            if self._meshes:
                self._bag.send(OBJECTS_TOPIC, MARKERS, stamp_ns, self._object_markers(stamp_ns), latched=True)
        self._bag.send(TF_TOPIC, TRANSFORMS, stamp_ns, self._transforms(frame))
        if truth.hands:
            markers = [
                self._marker(header, hand.handedness, 0, _HAND_COLORS[hand.handedness], _LIFETIME_NS)
                for hand in truth.hands
            ]
            corners = [hand.vertices_camera[self._faces[hand.handedness].ravel()] for hand in truth.hands]
            self._bag.send(HANDS_TOPIC, MARKERS, stamp_ns, self._filled(markers, corners, [None] * len(markers)))
        if self._held is not None:
            pose = self._pose(truth.T_camera_object[self._held])
            self._bag.send(OBJECT_POSE_TOPIC, POSE, stamp_ns, self._types[POSE](header=header, pose=pose))

    def _object_markers(self, stamp_ns: int) -> bytes:
        markers, corners, colors = [], [], []
        for number, (name, mesh) in enumerate(self._meshes.items()):
            header = self._bag.header(stamp_ns, object_frame(name))
            markers.append(self._marker(header, name, number, _OBJECT_COLOR, 0, frame_locked=True))
            index = mesh.faces.ravel()
            corners.append(mesh.vertices[index])
            colors.append(None if mesh.colors is None else _rgba(mesh.colors)[index])
        return self._filled(markers, corners, colors)

    def _filled(
        self, markers: list[Any], points: list[np.ndarray], colors: Iterable[np.ndarray | None]
    ) -> bytes:  # fmt: skip
        """Serialised MarkerArray. Lists of ten thousand Point objects are never made: they would take seconds."""
        point, color = self._types["geometry_msgs/msg/Point"], self._types["std_msgs/msg/ColorRGBA"]
        colors = list(colors)
        for marker, table in zip(markers, colors):
            marker.points = [point(*_POINT)]
            marker.colors = [] if table is None else [color(*_COLOR)]
        data = bytes(self._bag.typestore.serialize_cdr(self._types[MARKERS](markers=markers), MARKERS))
        parts = []
        for places, table in zip(points, colors):
            head, data = _split(data, struct.pack("<3d", *_POINT), len(places))
            parts += [head, np.ascontiguousarray(places, "<f8").tobytes()]
            if table is not None:
                head, data = _split(data, struct.pack("<4f", *_COLOR), len(table))
                parts += [head, np.ascontiguousarray(table, "<f4").tobytes()]
        return b"".join([*parts, data])

    def _marker(
        self, header: Any, namespace: str, number: int, color: tuple[float, ...], lifetime_ns: int, *,
        frame_locked: bool = False,
    ) -> Any:  # fmt: skip
        types = self._types
        vector, empty = types["geometry_msgs/msg/Vector3"], np.zeros(0, np.uint8)
        return types[MARKER](
            header=header, ns=namespace, id=number, type=_TRIANGLE_LIST, action=_ADD, pose=self._pose(np.eye(4)),
            scale=vector(x=1.0, y=1.0, z=1.0), color=types["std_msgs/msg/ColorRGBA"](*color),
            lifetime=types["builtin_interfaces/msg/Duration"](*divmod(lifetime_ns, 1_000_000_000)),
            frame_locked=frame_locked, points=[], colors=[], texture_resource="",
            texture=types["sensor_msgs/msg/CompressedImage"](header=header, format="", data=empty),
            uv_coordinates=[], text="", mesh_resource="",
            mesh_file=types["visualization_msgs/msg/MeshFile"](filename="", data=empty),
            mesh_use_embedded_materials=False,
        )  # fmt: skip

    def _transforms(self, frame: RgbdFrame) -> Any:
        """World to camera, camera to every thing and every wrist."""
        truth, camera = frame.truth, frame.frame_id
        assert truth is not None
        edges = [(WORLD_FRAME, camera, truth.T_world_camera)]
        edges += [(camera, object_frame(name), pose) for name, pose in truth.T_camera_object.items()]
        wrists = [(hand.handedness, hand.T_camera_wrist) for hand in truth.hands]
        edges += [(camera, f"true_{side}_wrist", pose) for side, pose in wrists if pose is not None]
        return self._types[TRANSFORMS](transforms=[self._transform(frame.stamp_ns, *edge) for edge in edges])

    def _transform(self, stamp_ns: int, parent: str, child: str, T_parent_child: np.ndarray) -> Any:
        types, pose = self._types, self._pose(T_parent_child)
        place = types["geometry_msgs/msg/Vector3"](pose.position.x, pose.position.y, pose.position.z)
        return types["geometry_msgs/msg/TransformStamped"](
            header=self._bag.header(stamp_ns, parent), child_frame_id=child,
            transform=types["geometry_msgs/msg/Transform"](translation=place, rotation=pose.orientation),
        )  # fmt: skip

    def _pose(self, T: np.ndarray) -> Any:
        types = self._types
        turn = map(float, quaternion_from_matrix(np.asarray(T[:3, :3], np.float64)))
        return types["geometry_msgs/msg/Pose"](
            position=types["geometry_msgs/msg/Point"](*map(float, T[:3, 3])),
            orientation=types["geometry_msgs/msg/Quaternion"](*turn),
        )


def object_frame(name: str) -> str:
    """TF frame of a thing, its true pose."""
    return f"true_{name}"


def _rgba(colors: np.ndarray) -> np.ndarray:
    """(N, 4) float32, 0 to 1, of (N, 3) uint8."""
    table = np.ones((len(colors), 4), np.float32)
    table[:, :3] = colors[:, :3].astype(np.float32) / 255
    return table


def _split(data: bytes, sentinel: bytes, count: int) -> tuple[bytes, bytes]:
    """Bytes before the sentinel, with the sequence's length set to `count`, and bytes after it.

    A sequence of points or colours needs no padding between or after its elements, so what follows keeps its place.
    """
    at = data.index(sentinel)
    # Doubles stand at multiples of eight: between length and first point may be four bytes of padding.
    length = at - 4 if struct.unpack_from("<I", data, at - 4)[0] == 1 else at - 8
    head = data[:length] + struct.pack("<I", count) + data[length + 4 : at]
    return head, data[at + len(sentinel) :]
