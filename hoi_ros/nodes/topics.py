"""Every topic of the system, with its message type: what is recorded and what viewers are shown."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache
from typing import Any

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from hoi_ros.datatypes import HAND_SIDES
from hoi_ros.nodes.inputs import COLOR_TOPIC, DEPTH_TOPIC, INFO_TOPIC

OVERLAY_TOPIC, MASK_TOPIC, MESH_TOPIC = "hands/overlay", "object/mask", "object/mesh"
OBJECT_POSE_TOPIC, OBJECT_STATE_TOPIC = "object/pose", "object/state"
WRIST_TOPICS = {f"hands/{side}/wrist": f"{side}_wrist" for side in HAND_SIDES}
"""Topic to the TF child frame whose pose it carries."""


@dataclass(frozen=True)
class Topic:
    """A topic as it is called without namespace and remapping."""

    name: str
    type: str
    """Such as 'sensor_msgs/msg/Image'."""
    latched: bool = False
    """Late readers get the last message."""
    camera: bool = False
    """Comes from the camera's driver, ours or another."""

    def message_class(self) -> Any:
        """The generated Python class."""
        package, _, name = self.type.split("/")
        return getattr(importlib.import_module(f"{package}.msg"), name)

    def reading_qos(self, *, depth: int = 20, best_effort: bool = False) -> QoSProfile:
        """QoS for a reader that wants every message; `best_effort` fits any driver."""
        return QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=depth,
            reliability=ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if self.latched else DurabilityPolicy.VOLATILE,
        )


TOPICS = (
    Topic(COLOR_TOPIC, "sensor_msgs/msg/Image", camera=True),
    Topic(DEPTH_TOPIC, "sensor_msgs/msg/Image", camera=True),
    Topic(INFO_TOPIC, "sensor_msgs/msg/CameraInfo", camera=True),
    Topic("hands/mesh", "visualization_msgs/msg/MarkerArray"),
    Topic("hands/skeleton", "visualization_msgs/msg/MarkerArray"),
    *(
        Topic(f"hands/{side}/{kind}", message_type)
        for side in HAND_SIDES
        for kind, message_type in (
            ("joints", "geometry_msgs/msg/PoseArray"),
            ("vertices", "sensor_msgs/msg/PointCloud2"),
            ("wrist", "geometry_msgs/msg/PoseWithCovarianceStamped"),
            ("joint_states", "sensor_msgs/msg/JointState"),
        )
    ),
    Topic(OVERLAY_TOPIC, "sensor_msgs/msg/Image"),
    Topic(OBJECT_POSE_TOPIC, "geometry_msgs/msg/PoseStamped"),
    Topic("object/pose_in_hand", "geometry_msgs/msg/PoseStamped"),
    Topic("object/pose_with_covariance", "geometry_msgs/msg/PoseWithCovarianceStamped"),
    Topic(OBJECT_STATE_TOPIC, "diagnostic_msgs/msg/DiagnosticArray"),
    Topic("object/keyframes", "nav_msgs/msg/Path"),
    Topic(MASK_TOPIC, "sensor_msgs/msg/Image"),
    Topic("object/depth", "sensor_msgs/msg/Image"),
    Topic(MESH_TOPIC, "visualization_msgs/msg/Marker", latched=True),
    Topic("object/cloud", "sensor_msgs/msg/PointCloud2"),
    Topic("contacts", "visualization_msgs/msg/MarkerArray"),
    Topic("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray"),
)


@cache
def typestore() -> Any:
    """The message definitions of rosbags: the same in Jazzy and Kilted for every type used here."""
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_JAZZY)


def message_definition(message_type: str) -> str:
    """Text of a message type and of all that it contains, as MCAP and Foxglove call it: ros2msg."""
    return typestore().generate_msgdef(message_type, ros_version=2)[0]


def message_hash(message_type: str) -> str:
    """RIHS01 hash of a message type, as rosbag2 stores it."""
    return typestore().hash_rihs01(message_type)
