"""TF on the wire. Where the ROS wheels lack tf2_msgs: pip install ./test/ros_packages/tf2_msgs (half a minute)."""

import numpy as np
import pytest
from geometry_msgs.msg import Pose
from rclpy.executors import SingleThreadedExecutor
from test_base_node import spin_until

from hoi_ros.geometry import se3_exp
from hoi_ros.nodes.conversions import make_header, transform_from_pose, transform_stamped
from hoi_ros.nodes.transforms import TF_QOS, TransformPublisher, tf_message_class

pytestmark = pytest.mark.ros


def test_transforms_arrive_on_tf(ros):
    if tf_message_class() is None:
        pytest.skip("tf2_msgs is not installed: pip install ./test/ros_packages/tf2_msgs, or source a ROS 2")
    node, executor, got, said = ros.create_node("tf_sender"), SingleThreadedExecutor(), [], []
    executor.add_node(node)
    node.create_subscription(tf_message_class(), "/tf", got.append, TF_QOS)
    sender = TransformPublisher(node.create_publisher, lambda *text: said.append(text))
    transform = se3_exp(np.array([0.1, -0.2, 0.6, 0.5, 1.0, -0.3]))
    try:
        spin_until(executor, lambda: sender._publisher.get_subscription_count() >= 1)
        sender.send([transform_stamped(transform, make_header(7, "camera"), "right_wrist")])
        spin_until(executor, lambda: len(got) == 1)
    finally:
        node.destroy_node()
        executor.shutdown()
    (message,) = got[0].transforms
    assert (message.header, message.child_frame_id) == (make_header(7, "camera"), "right_wrist") and not said
    pose, t = Pose(orientation=message.transform.rotation), message.transform.translation
    pose.position.x, pose.position.y, pose.position.z = t.x, t.y, t.z
    np.testing.assert_allclose(transform_from_pose(pose), transform, atol=1e-12)


def test_without_tf2_msgs_it_is_said_and_nothing_fails(monkeypatch):
    monkeypatch.setattr("hoi_ros.nodes.transforms.tf_message_class", lambda: None)
    said = []
    sender = TransformPublisher(lambda *a: pytest.fail("nothing to publish with"), lambda kind, text: said.append(text))
    sender.send([transform_stamped(np.eye(4), make_header(0, "a"), "b")])
    assert len(said) == 1 and "tf2_msgs" in said[0]
