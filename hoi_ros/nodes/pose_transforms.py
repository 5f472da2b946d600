"""Transforms told from the pose topics, for viewers and bags where no TF message package exists."""

from __future__ import annotations

from typing import Any

from geometry_msgs.msg import TransformStamped
from rclpy.serialization import deserialize_message

from hoi_ros.nodes.topics import OBJECT_POSE_TOPIC, OBJECT_STATE_TOPIC, TOPICS, WRIST_TOPICS, typestore

POSE_TOPICS = (*WRIST_TOPICS, OBJECT_POSE_TOPIC, OBJECT_STATE_TOPIC)
_TYPES = {topic.name: topic for topic in TOPICS if topic.name in POSE_TOPICS}


class PoseTransforms:
    """Turns serialised pose messages into transforms; remembers which object the poses are of."""

    def __init__(self) -> None:
        self._object_frame = "object_0"

    def take(self, topic: str, data: bytes) -> TransformStamped | None:
        """Read one message of POSE_TOPICS.

        Args:
            topic: one of POSE_TOPICS.
            data: the message as CDR.

        Returns:
            Its transform, or None for a message that carries none.
        """
        message = deserialize_message(data, _TYPES[topic].message_class())
        if topic == OBJECT_STATE_TOPIC:
            self._remember_object(message)
            return None
        pose = message.pose if topic == OBJECT_POSE_TOPIC else message.pose.pose
        transform = TransformStamped(header=message.header)
        transform.child_frame_id = WRIST_TOPICS.get(topic, self._object_frame)
        place, turn = transform.transform.translation, transform.transform.rotation
        place.x, place.y, place.z = pose.position.x, pose.position.y, pose.position.z
        turn.x, turn.y, turn.z, turn.w = (getattr(pose.orientation, axis) for axis in "xyzw")
        return transform

    def _remember_object(self, state: Any) -> None:
        for status in state.status:
            for value in status.values:
                if value.key == "object_id":
                    self._object_frame = f"object_{value.value}"


def tf_message_cdr(transform: TransformStamped) -> bytes:
    """One transform as a serialised tf2_msgs/msg/TFMessage, without needing that package."""
    store = typestore()
    types = store.types
    place, turn, header = transform.transform.translation, transform.transform.rotation, transform.header
    stamped = types["geometry_msgs/msg/TransformStamped"](
        types["std_msgs/msg/Header"](
            types["builtin_interfaces/msg/Time"](header.stamp.sec, header.stamp.nanosec), header.frame_id
        ),
        transform.child_frame_id,
        types["geometry_msgs/msg/Transform"](
            types["geometry_msgs/msg/Vector3"](place.x, place.y, place.z),
            types["geometry_msgs/msg/Quaternion"](turn.x, turn.y, turn.z, turn.w),
        ),
    )
    return bytes(store.serialize_cdr(types["tf2_msgs/msg/TFMessage"]([stamped]), "tf2_msgs/msg/TFMessage"))
