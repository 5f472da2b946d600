"""Says once whether the ROS tests run."""

import importlib.util

import pytest


def test_ros_is_there():
    if importlib.util.find_spec("rclpy") is None:
        pytest.skip("rclpy is not installed, so the ROS tests are left out: ./hoi test installs it, or source a ROS 2")
    import rclpy

    assert hasattr(rclpy, "init")
