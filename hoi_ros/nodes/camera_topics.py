"""Find the topics of someone else's camera driver, whatever namespace it publishes in."""

from __future__ import annotations

import time

import rclpy
from rclpy.node import Node

from hoi_ros.errors import InputError
from hoi_ros.nodes.inputs import COLOR_TOPIC, DEPTH_TOPIC, INFO_TOPIC

CAMERA_TOPICS = (COLOR_TOPIC, DEPTH_TOPIC, INFO_TOPIC)
IMAGE_TYPE = "sensor_msgs/msg/Image"


def camera_remappings(timeout_s: float = 3.0) -> list[str]:
    """Look for a driver that publishes colour and return the remapping rules that fit it.

    Runs in a context of its own, before the system's.

    Returns:
        Rules such as 'color/image_raw:=/camera/camera/color/image_raw'; none where the plain names are right or no
        driver was seen in time (one that starts later under the plain names is still found).

    Raises:
        InputError: several drivers publish.
    """
    context = rclpy.Context()
    rclpy.init(context=context, args=[], signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
    node = Node("camera_search", context=context, enable_rosout=False, start_parameter_services=False)
    try:
        end = time.monotonic() + timeout_s
        found: list[str] = []
        while time.monotonic() < end and not found:
            time.sleep(0.1)
            topics = node.get_topic_names_and_types()
            found = [name for name, types in topics if name.endswith("/" + COLOR_TOPIC) and IMAGE_TYPE in types]
    finally:
        node.destroy_node()
        context.try_shutdown()
    return remappings_for(found)


def remappings_for(color_topics: list[str]) -> list[str]:
    """Remapping rules for the one colour topic in the list.

    Raises:
        InputError: there are several, and none has the plain name.
    """
    plain = "/" + COLOR_TOPIC
    if not color_topics or plain in color_topics:
        return []
    if len(color_topics) > 1:
        raise InputError(
            f"several cameras publish ({', '.join(sorted(color_topics))}): stop all but one, or use "
            "`ros2 launch hoi_ros live.launch.py source:=topics camera_namespace:=...`"
        )
    prefix = color_topics[0].removesuffix(COLOR_TOPIC)
    return [f"{name}:={prefix}{name}" for name in CAMERA_TOPICS]
