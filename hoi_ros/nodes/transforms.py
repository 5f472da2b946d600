"""TF through tf2_msgs, where it is installed: the ROS wheels of PyPI do not have it, a ROS install does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from geometry_msgs.msg import TransformStamped
from rclpy.qos import QoSProfile

TF_QOS = QoSProfile(depth=100)


def tf_message_class() -> Any:
    """tf2_msgs/TFMessage, or None where it is not installed."""
    try:
        from tf2_msgs.msg import TFMessage
    except ImportError:
        return None
    return TFMessage


class TransformPublisher:
    """Broadcasts transforms on /tf; without tf2_msgs it says so once and does nothing."""

    def __init__(
        self, create_publisher: Callable[..., Any], say: Callable[[str, str], None], message_class: Any = None
    ) -> None:
        """Create the publisher.

        Args:
            create_publisher: called with message class, topic and QoS; the node that it belongs to destroys it.
            say: called once with a kind and a sentence when TF cannot be broadcast.
            message_class: TFMessage; None looks for it.
        """
        self._message_class = message_class or tf_message_class()
        self._publisher: Any = None
        if self._message_class is None:
            say("tf", "tf2_msgs is not installed, so no TF is broadcast; the poses are on their topics all the same")
        else:
            self._publisher = create_publisher(self._message_class, "/tf", TF_QOS)

    def send(self, transforms: list[TransformStamped]) -> None:
        """Broadcast transforms of one moment."""
        if self._publisher is not None and transforms:
            self._publisher.publish(self._message_class(transforms=transforms))
