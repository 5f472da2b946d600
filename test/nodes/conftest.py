"""ROS tests talk to themselves alone: a domain of their own, this machine only."""

import os
import random

import pytest

os.environ["ROS_DOMAIN_ID"] = str(random.SystemRandom().randint(1, 100))
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ.setdefault("OMP_NUM_THREADS", "2")

from hoi_ros.nodes.dds_profile import use_shared_memory_profile

use_shared_memory_profile()

try:
    import rclpy
except ImportError:
    rclpy = None

NEED_ROS = "rclpy is not installed: ./hoi test installs it, or source a ROS 2 (Jazzy or Kilted)"


def pytest_ignore_collect(collection_path, config):
    """Files marked `ros` import it at the top: without ROS they are left out, and test_ros.py says so."""
    if rclpy is None and collection_path.suffix == ".py" and "mark.ros" in collection_path.read_text(encoding="utf-8"):
        return True
    return None


@pytest.fixture(scope="session")
def ros():
    """rclpy, initialised once for all tests."""
    if rclpy is None:
        pytest.skip(NEED_ROS)
    rclpy.init()
    yield rclpy
    rclpy.try_shutdown()
